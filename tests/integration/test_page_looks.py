"""How the page looks and is sent: languages, colours, sizes, names, files."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from service.page_routes import TYPES
from tests.integration.browser import TEXT_COLOURS, Visits, contrast, luminance, numbers
from tests.service.served import Served

PAGE = Path(__file__).parents[2] / "service" / "page"
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


def test_the_browser_chooses_the_language_and_a_switch_is_remembered(served: Served, visit: Visits) -> None:
    """Chinese for a Chinese browser; the switch translates what is shown already, and lasts."""
    seen = visit(served, locale="zh-CN")
    expect(seen.page.locator("html")).to_have_attribute("lang", "zh-Hans")
    seen.page.locator("#search-query").fill("red")
    seen.press("Enter")
    expect(seen.box("search").get_by_role("status")).to_contain_text("共 5 个标题")
    seen.page.get_by_label("EN").check(force=True)
    expect(seen.box("search").get_by_role("status")).to_contain_text("5 titles")
    seen.page.reload()
    expect(seen.page.get_by_role("button", name="Search")).to_be_visible()
    expect(seen.page.locator("html")).to_have_attribute("lang", "en")


def test_other_languages_get_english(served: Served, visit: Visits) -> None:
    """The first of the browser's languages that the page speaks, or else English."""
    expect(visit(served, locale="fr-FR").page.get_by_role("button", name="Search")).to_be_visible()


def test_both_languages_say_everything(served: Served, visit: Visits) -> None:
    """Both have the same keys with the same gaps, and every key that the HTML names is there."""
    words = visit(served).page.evaluate("import('/page/words.js').then(module => module.WORDS)")
    gaps = {
        language: {key: sorted(set(re.findall(r"\{\w+\}", said))) for key, said in all_.items()}
        for language, all_ in words.items()
    }
    assert gaps["en"] == gaps["zh"]
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'data-say(?:-\w+)?="([^"]+)"', html)) <= set(words["en"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(served: Served, visit: Visits, scheme: str) -> None:
    """Contrast of text and ground is at least 4.5 to 1 (WCAG AA) in both schemes, answers included."""
    seen = visit(served, color_scheme=scheme)
    for box in ("search", "match", "sentiment"):
        seen.box(box).locator(".example").first.click()
        expect(seen.box(box).locator(".times")).to_be_visible()
    seen.page.mouse.move(0, 0)
    expect(seen.box("live").locator("dl")).to_be_visible()
    pairs = seen.page.evaluate(TEXT_COLOURS)
    assert len(pairs) > 50
    assert [(words, ratio) for words, ink, ground in pairs if (ratio := contrast(ink, ground)) < 4.5] == []


def test_dark_follows_the_system_until_somebody_chooses(served: Served, visit: Visits) -> None:
    """The switch goes before the system, and is remembered."""
    seen = visit(served, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = seen.page.evaluate(ground)
    seen.page.get_by_label("light", exact=True).check(force=True)
    light = seen.page.evaluate(ground)
    assert luminance(numbers(dark)) < 0.1 < 0.8 < luminance(numbers(light))
    seen.page.reload()
    assert seen.page.evaluate(ground) == light
    seen.page.get_by_label("as the system").check(force=True)
    assert seen.page.evaluate(ground) == dark


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
def test_a_phone_scrolls_down_only(served: Served, visit: Visits, language: str) -> None:
    """Nothing is wider than a screen of 360 pixels, with answers and long words shown."""
    seen = visit(served, locale=language, **PHONE)
    seen.page.locator("#match-query").fill("w" * 200)
    seen.page.locator("#match-titles").fill("long" * 100)
    seen.box("match").locator("button[type=submit]").tap()
    for box in ("search", "sentiment"):
        seen.box(box).locator(".example").first.tap()
    for box in ("search", "match", "sentiment"):
        expect(seen.box(box).locator(".times")).to_be_visible()
    expect(seen.box("live").locator("dl")).to_be_visible()
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
    expect(seen.page.locator(".keyboard").first).to_be_hidden()


def test_every_control_has_a_name(served: Served, visit: Visits) -> None:
    """Fields, buttons and boxes are named for those who hear the page."""
    seen = visit(served)
    tree = seen.page.locator("body").aria_snapshot()
    assert not re.search(r"- (textbox|button|combobox|radio|link|region|checkbox)(:|$)", tree, re.MULTILINE)
    assert len(re.findall(r"- region \"", tree)) == 4
    assert len(re.findall(r"- status", tree)) == 3


# The files.


def test_files_are_sent_once_until_they_change(served: Served) -> None:
    """Each has its type and an ETag; the same ETag, also a weak one, is answered with 304 and nothing."""
    for name, media_type in TYPES.items():
        status, headers, content = _get(served, f"/page/{name}")
        assert (status, headers["content-type"], headers["cache-control"]) == (200, media_type, "no-cache")
        assert content == (PAGE / name).read_bytes()
        for tag in (headers["etag"], f'"other", W/{headers["etag"]}'):
            status, again, content = _get(served, f"/page/{name}", **{"If-None-Match": tag})
            assert (status, again["etag"], content) == (304, headers["etag"], b"")
    assert {path.name for path in PAGE.iterdir()} == set(TYPES)


@pytest.mark.parametrize("path", ["/page/", "/page/other.js", "/page/..%2fstate.py", "/page/%2e%2e/state.py"])
def test_only_those_files_are_sent(served: Served, path: str) -> None:
    """Anything else is a 404 in the shape of all errors."""
    status, _, content = _get(served, path)
    assert (status, json.loads(content)["error_type"]) == (404, "NotFoundError")


def test_the_page_is_under_a_strict_policy(served: Served) -> None:
    """Scripts, styles and requests are this service's own, and nothing in the HTML needs an exception."""
    _, headers, content = _get(served, "/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(rb"<style|\sstyle=|\son\w+=|<script>|https?://", content)


def _get(server: Served, path: str, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers, exc.read()
