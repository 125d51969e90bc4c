"""The page in a real browser, over a real server with the tiny bundle."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from rich.console import Console

from index.build import BuildOptions, index_titles
from index.progress import Reporter
from index.releases import Releases
from service.page_routes import TYPES
from tests.conftest import TINY_EXITS
from tests.integration.browser import chromium, launched
from tests.service.served import Served
from towers import Bundle
from towers.bundle import LAYOUT, Manifest

PAGE = Path(__file__).parents[2] / "service" / "page"
KEY = "an-open-sesame"
HOSTILE = "<img src=x onerror=\"document.title='taken over'\"> red phone"
TITLES = [
    "red shoe",
    "blue phone",
    HOSTILE,
    "light music box",
    "password order",
    "\u202ecable red\u202c 红 手机",
]
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


@dataclass
class Visit:
    """A window on a server, and what it asked for and complained about."""

    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def box(self, name: str) -> Locator:
        return self.page.locator(f"#{name}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


Visits = Callable[..., Visit]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        reason = "chromium is not installed (Debian: apt-get install chromium fonts-noto-cjk)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
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


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server without a release, whose sentiment head has exits."""
    with Served(tmp_path_factory.mktemp("empty") / "releases", bundle=TINY_EXITS) as server:
        yield server


# The boxes.


def test_search_shows_scores_cosines_threshold_and_the_time_of_each_stage(
    served: Served, visit: Visits
) -> None:
    """What the API answers is what the page shows, best first; Enter searches."""
    seen = visit(served)
    expect(seen.page.locator("#search-query")).to_be_focused()
    seen.page.keyboard.type("red shoe")
    with seen.page.expect_response("**/v1/search") as response:
        seen.press("Enter")
    answer = response.value.json()
    expect(seen.box("search").locator(".titles li .title")).to_have_text(
        [item["title"] for item in answer["matches"]]
    )
    expect(seen.box("search").locator(".score b")).to_have_text(
        [f"{item['score']:.3f}" for item in answer["matches"]]
    )
    expect(seen.box("search").locator(".cosine b")).to_have_text(
        [f"{item['cosine']:.3f}" for item in answer["matches"]]
    )
    expect(seen.box("search").locator(".scale")).to_have_text(f"threshold {answer['threshold']:.2f}")
    expect(seen.box("search").locator(".legend li")).to_have_count(len(answer["milliseconds"]))
    expect(seen.box("search").get_by_role("status")).to_contain_text("5 titles")


def test_the_number_of_titles_can_be_chosen(served: Served, visit: Visits) -> None:
    """The choice is the k of the request."""
    seen = visit(served)
    seen.page.locator("#search-count").select_option("10")
    seen.page.locator("#search-query").fill("phone")
    seen.press("Enter")
    expect(seen.box("search").locator(".titles li")).to_have_count(len(TITLES))


def test_match_draws_a_bar_for_each_title_and_the_threshold(served: Served, visit: Visits) -> None:
    """Bars are as long as scores, best first; a line in each stands where the threshold is."""
    seen = visit(served)
    seen.page.locator("#match-query").fill("red phone")
    seen.page.locator("#match-titles").fill("blue shoe\n\n  red phone  \npassword")
    with seen.page.expect_response("**/v1/match") as response:
        seen.press("Control+Enter")
    items = sorted(response.value.json()["matches"], key=lambda item: -item["score"])
    expect(seen.box("match").locator(".score b")).to_have_text([f"{item['score']:.3f}" for item in items])
    widths = seen.box("match").locator(".fill").evaluate_all("all => all.map(e => parseFloat(e.style.width))")
    assert widths == pytest.approx([100 * item["score"] for item in items], abs=0.01)
    lines = seen.box("match").locator(".bar .threshold")
    assert set(lines.evaluate_all("all => all.map(e => e.style.left)")) == {"50%"}


def test_sentiment_shows_three_probabilities(served: Served, visit: Visits) -> None:
    """Each has its share, the largest is said in words, and a head without exits tells of none."""
    seen = visit(served)
    seen.page.locator("#sentiment-text").fill("the box is blue")
    with seen.page.expect_response("**/v1/sentiment") as response:
        seen.press("Enter")
    answer = response.value.json()
    shares = [answer["probabilities"][name] for name in ("positive", "neutral", "negative")]
    expect(seen.box("sentiment").locator(".shares b")).to_have_text(
        [f"{100 * share:.1f} %" for share in shares]
    )
    expect(seen.box("sentiment").get_by_role("status")).to_contain_text(answer["name"])
    expect(seen.box("sentiment").locator(".exit")).to_have_count(0)


def test_sentiment_tells_after_which_layer_it_was_sure(empty: Served, visit: Visits) -> None:
    """Where the head has exits, the layer of the answer is said."""
    seen = visit(empty, expected="503")
    expect(seen.box("live")).to_contain_text("may exit after layer 1, 2")
    seen.page.locator("#sentiment-text").fill("a light")
    with seen.page.expect_response("**/v1/sentiment") as response:
        seen.press("Enter")
    expect(seen.box("sentiment").locator(".exit")).to_contain_text(
        f"layer {response.value.json()['exit_layer']} of 2"
    )


def test_what_is_live_names_release_bundle_and_quality(served: Served, visit: Visits) -> None:
    """Release and bundle are named, and a bundle that states no measurements is said to be unknown."""
    seen, info = visit(served), served.get("/info")[1]
    live = seen.box("live")
    expect(live).to_contain_text(info["release"]["version"])
    expect(live).to_contain_text(info["bundle"]["bundle_id"][:12])
    expect(live).to_contain_text("its quality is unknown")
    expect(seen.page.locator("#badge")).to_have_text("ready")


def test_measured_quality_is_shown(tmp_path: Path, tiny_copy: Path, visit: Visits) -> None:
    """The figures are those of the bundle's manifest."""
    total = {"score": {"auc": 0.8125, "accuracy": 0.75, "calibration_error": 0.05}, "pairs": 1234}
    _write_manifest(
        tiny_copy, metrics={"fit": {"total": total}, "sentiment": {"accuracy": 0.625, "macro_f1": 0.5}}
    )
    with Served(tmp_path / "releases", bundle=tiny_copy) as server:
        seen = visit(server, expected="503")
        row = seen.box("live").locator("tbody tr")
        expect(row.locator("td")).to_have_text(["1,234", "0.813", "–", "0.750", "0.050"])
        expect(seen.box("live")).to_contain_text("accuracy 0.625, macro F1 0.500")


# What is missing or goes wrong.


def test_without_a_release_it_says_so_and_matches_all_the_same(empty: Served, visit: Visits) -> None:
    """Nothing published: a notice, the service's own words for a search, and a match that works."""
    seen = visit(empty, expected="503")
    expect(seen.page.locator("#no-release")).to_be_visible()
    expect(seen.page.locator("#badge")).to_have_text("not ready")
    seen.page.locator("#search-query").fill("red")
    seen.press("Enter")
    expect(seen.box("search").get_by_role("alert")).to_contain_text("The service answered 503")
    expect(seen.box("search").get_by_role("alert")).to_contain_text("dualtower index")
    seen.box("match").locator(".example").first.click()
    expect(seen.box("match").locator(".titles li")).to_have_count(3)


def test_a_bundle_without_sentiment_rests_that_box(tmp_path: Path, tiny_copy: Path, visit: Visits) -> None:
    """The box says why, and takes no text; nor after a change of language."""
    files = {
        name: facts for name, facts in Manifest.read(tiny_copy).files.items() if name != LAYOUT.sentiment
    }
    (tiny_copy / LAYOUT.sentiment).unlink()
    _write_manifest(tiny_copy, files=files, labels=())
    with Served(tmp_path / "releases", bundle=tiny_copy) as server:
        seen = visit(server, expected="503")
        expect(seen.page.locator("#no-sentiment")).to_be_visible()
        seen.page.get_by_label("中文").check(force=True)
        expect(seen.page.locator("#sentiment-text")).to_be_disabled()
        expect(seen.box("sentiment").locator(".example").first).to_be_disabled()


def test_errors_are_shown_in_the_services_words(served: Served, visit: Visits) -> None:
    """A refusal stands in the box that asked, and the next answer takes its place."""
    seen = visit(served, expected="422")
    seen.page.locator("#search-query").fill("x" * 10_001)
    seen.press("Enter")
    alert = seen.box("search").get_by_role("alert")
    expect(alert).to_contain_text("query has 10001 characters, at most 10000 are accepted")
    seen.page.locator("#search-query").fill("red")
    seen.press("Enter")
    expect(seen.box("search").locator(".titles li")).to_have_count(5)
    expect(alert).to_have_count(0)


def test_a_service_that_is_gone_is_said_to_be(tmp_path: Path, visit: Visits) -> None:
    """No connection is an error in words, too."""
    with Served(tmp_path / "releases") as server:
        seen = visit(server, expected="503|ERR_CONNECTION")
        expect(seen.page.locator("#badge")).to_have_text("not ready")
    seen.page.locator("#sentiment-text").fill("red")
    seen.press("Enter")
    expect(seen.box("sentiment").get_by_role("alert")).to_contain_text("cannot be reached")


def test_nothing_typed_asks_nothing(served: Served, visit: Visits) -> None:
    """An empty form is answered by the page."""
    seen = visit(served)
    seen.press("Enter")
    expect(seen.box("search").get_by_role("status")).to_have_text("Type a query first.")
    assert not any("/v1/" in url for url in seen.asked)


def test_texts_are_never_html(served: Served, visit: Visits) -> None:
    """Titles, fields and what is typed stay texts."""
    seen = visit(served)
    seen.page.locator("#search-count").select_option("10")
    seen.page.locator("#search-query").fill(HOSTILE)
    seen.press("Enter")
    expect(seen.page.get_by_text(HOSTILE, exact=True)).to_be_visible()
    expect(seen.box("search").get_by_text("<b>shop</b>").first).to_be_visible()
    seen.page.locator("#match-query").fill(HOSTILE)
    seen.page.locator("#match-titles").fill(HOSTILE)
    seen.press("Control+Enter")
    expect(seen.box("match").locator("li .title")).to_have_text([HOSTILE])
    assert seen.page.locator("main img, main b b").count() == 0
    expect(seen.page).to_have_title(re.compile("dualtower"))


# Keys.


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that asks for a key."""
    with Served(tmp_path_factory.mktemp("locked") / "releases", api_key=KEY) as server:
        yield server


def test_the_page_asks_for_a_key_and_keeps_it_for_the_tab(locked: Served, visit: Visits) -> None:
    """A wrong key is asked for again; the right one opens all, lies in sessionStorage only, and can be forgotten."""
    seen, key = visit(locked, expected="401|503"), KEY
    dialog = seen.page.get_by_role("dialog")
    expect(dialog).to_contain_text("asks for a key")
    seen.page.get_by_label("API key").fill("not the key")
    seen.press("Enter")
    expect(dialog).to_contain_text("refused that key")
    seen.page.get_by_label("API key").fill(key)
    seen.press("Enter")
    expect(dialog).to_have_count(0)
    expect(seen.box("live")).to_contain_text("0687ae2f7101")
    kept = "[Object.values(sessionStorage), Object.values(localStorage), document.cookie]"
    assert seen.page.evaluate(kept) == [[key], [], ""]
    seen.page.reload()
    expect(seen.box("live")).to_contain_text("0687ae2f7101")
    seen.page.get_by_role("button", name="Forget the key").click()
    expect(seen.page.get_by_role("dialog")).to_be_visible()
    seen.press("Escape")
    expect(seen.box("live").get_by_role("alert")).to_contain_text("The service answered 401")
    assert not any(key in url for url in seen.asked)


# Keyboard.


def test_everything_works_by_keyboard(served: Served, visit: Visits) -> None:
    """Single keys lead to the boxes when nothing is typed, Esc clears and then leaves, and focus can be seen."""
    seen = visit(served)
    seen.page.keyboard.type("red m/s?")
    seen.press("Enter")
    expect(seen.box("search").locator(".titles li")).to_have_count(5)
    seen.press("Escape")
    expect(seen.page.locator("#search-query")).to_have_value("")
    expect(seen.box("search").locator(".titles li")).to_have_count(0)
    seen.press("Escape", "m")
    expect(seen.page.locator("#match-query")).to_be_focused()
    seen.press("Escape", "s")
    expect(seen.page.locator("#sentiment-text")).to_be_focused()
    seen.press("Escape", "/")
    expect(seen.page.locator("#search-query")).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert seen.page.evaluate(outline) == "solid"
    seen.press("Tab")
    expect(seen.box("search").get_by_role("button", name="Search")).to_be_focused()
    assert seen.page.evaluate(outline) == "solid"
    seen.press("Tab", "Enter")
    expect(seen.box("search").locator(".titles li")).to_have_count(5)


def test_shortcuts_are_shown_and_can_be_switched_off(served: Served, visit: Visits) -> None:
    """`?` lists them; a box there takes single keys away, also on the next visit."""
    seen = visit(served)
    seen.press("Escape", "?")
    expect(seen.page.get_by_role("dialog")).to_contain_text("to the match box")
    seen.page.get_by_label("Single keys are on").uncheck()
    seen.press("Escape")
    expect(seen.page.get_by_role("dialog")).to_have_count(0)
    seen.page.reload()
    seen.press("Escape", "m")
    expect(seen.page.locator("#match-query")).not_to_be_focused()


# Languages, colours, sizes.


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


# Helpers.

# [words, colour, colours behind it from the text outwards] of every text that is shown.
TEXT_COLOURS = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode, element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || element.closest(":disabled")) continue;
    const grounds = [];
    for (let node = element; node; node = node.parentElement) grounds.push(getComputedStyle(node).backgroundColor);
    const solid = grounds.find(colour => !/, 0\\)$/.test(colour));
    found.push([text.data.trim(), getComputedStyle(element).color, solid]);
  }
  return found;
}"""


def numbers(colour: str) -> list[float]:
    """Red, green and blue of a computed colour."""
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def luminance(rgb: list[float]) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21."""
    dark, light = sorted(luminance(numbers(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def _write_manifest(bundle: Path, **changes: Any) -> None:
    manifest = dataclasses.replace(Manifest.read(bundle), **changes)
    (bundle / LAYOUT.manifest).write_text(manifest.to_json(), encoding="utf-8")


def _get(server: Served, path: str, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers, exc.read()
