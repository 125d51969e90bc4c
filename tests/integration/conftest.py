"""A browser, and a server with a few titles for its page."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from index.build import BuildOptions, index_titles
from index.progress import Reporter
from index.releases import Releases
from tests.integration.browser import TITLES, Visit, Visits, launched
from tests.service.served import Served
from tests.tools import need
from towers import Bundle


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need("chromium", "chromium fonts-noto-cjk")
    with sync_playwright() as playwright, launched(playwright) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visits]:
    """Opens windows. At the end: nothing was asked of anybody but the server, and nothing went wrong unasked."""
    visits: list[tuple[Visit, str]] = []

    def open_(server: Served, *, expected: str = "^$", **options: Any) -> Visit:
        context = browser.new_context(**({"locale": "en-GB"} | options))
        seen = Visit(context.new_page(), f"http://127.0.0.1:{server.port}/")
        context.on("request", lambda request: seen.asked.append(request.url))
        context.on("console", lambda said: seen.complaints.append(f"{said.type}: {said.text}"))
        context.on("weberror", lambda error: seen.complaints.append(f"error: {error.error}"))
        visits.append((seen, expected))
        seen.page.goto(seen.url)
        return seen

    yield open_
    for seen, expected in visits:
        assert all(url.startswith(seen.url) for url in seen.asked), seen.asked
        assert [said for said in seen.complaints if not re.search(expected, said)] == []
        seen.page.context.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Served]:
    """A server with a few titles, one of them hostile."""
    work = tmp_path_factory.mktemp("page")
    source = work / "titles.jsonl"
    rows = [{"id": f"t-{i}", "title": title, "domain": "<b>shop</b>"} for i, title in enumerate(TITLES)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    releases = Releases(work / "releases")
    report = Reporter(Console(file=io.StringIO()))
    releases.publish(
        index_titles(source, releases, tiny_bundle, options=BuildOptions(), report=report).version
    )
    with Served(work / "releases") as server:
        yield server
