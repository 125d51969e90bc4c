"""The page in a real browser, over a real server with the tiny bundle."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.conftest import TINY_EXITS
from tests.integration.browser import HOSTILE, TITLES, Visits
from tests.service.served import Served
from towers.bundle import LAYOUT, Manifest

KEY = "an-open-sesame"


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


def _write_manifest(bundle: Path, **changes: Any) -> None:
    manifest = dataclasses.replace(Manifest.read(bundle), **changes)
    (bundle / LAYOUT.manifest).write_text(manifest.to_json(), encoding="utf-8")
