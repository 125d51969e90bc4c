"""The page links to /docs only where following the link leads anywhere, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service.served import Served

KEY = "an-open-sesame"
LATER = "fetch('/page/icon.svg').then(answer => answer.ok)"  # whatever was asked before has begun by then


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB")
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("open") / "releases") as server:
        yield server


def test_an_open_service_is_described(server: Served, page: Page) -> None:
    """The link is there, and leads to the description."""
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.get_by_role("link", name="/docs").click()
    expect(page.get_by_role("heading", name="POST /v1/match")).to_be_visible()


@pytest.mark.parametrize("status", [403, 404])
def test_behind_a_proxy_that_keeps_it_there_is_no_link(server: Served, page: Page, status: int) -> None:
    """As the nginx and the Caddy in deploy/ do."""
    page.route("**/docs", lambda route: route.fulfill(status=status))
    with page.expect_response("**/docs"):
        page.goto(f"http://127.0.0.1:{server.port}/")
    page.evaluate(LATER)
    expect(page.locator("#docs")).to_be_hidden()


def test_a_link_brings_no_key(tmp_path: Path, page: Page) -> None:
    """So there is none with keys; nor is /docs asked. With the key, the page tells the reasons in full."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with Served(tmp_path / "releases", api_key=KEY) as server:
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#live")).to_contain_text(f"no release is published in {tmp_path}")
        page.evaluate(LATER)
        expect(page.locator("#docs")).to_be_hidden()
    assert not any(url.endswith("/docs") for url in asked)
