"""Plots show every row that has figures, with any name, and the same bytes every time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.towers.train.compare.made_up import REALISTIC, failed, measure, reference, results, row, spread
from towers.train.compare.compared import views_of
from towers.train.compare.curve_plots import exit_title
from towers.train.compare.plots import CLAIMS, CURVES, Plot, plots_of
from towers.train.compare.results import Curves, ExitCounts, LearningPoint, MaskedLoss, Results
from towers.train.compare.scatter import log_ticks, lowest_shown, points_of
from towers.train.compare.svg import PALETTE, standalone

ODD = [
    "$x_1$ & <b>",
    "_hidden",
    "数据清洗 데이터 🚀",
    "a\nb\x00c",
    'style="#010101" id="x" #1) --> ]]>',
    "%s {0}",
]


@pytest.fixture(scope="module")
def realistic() -> dict[str, Plot]:
    return drawn(REALISTIC)


def drawn(made: Results) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots_of(made, views_of(made))}


def texts(svg: str) -> list[str]:
    """All words in an SVG that is well-formed XML; titles of groups too."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.text]


def test_every_plot_is_drawn(realistic: dict[str, Plot]) -> None:
    """Two scatters and the proof a task, two learning curves, exits and masked loss, each in its place."""
    assert {name: plot.place for name, plot in realistic.items()} == {
        "match-latency": "match",
        "match-size": "match",
        "match-work": CLAIMS,
        "sentiment-latency": "sentiment",
        "sentiment-size": "sentiment",
        "sentiment-work": CLAIMS,
        "learning-match": CURVES,
        "learning-sentiment": CURVES,
        "exits": CURVES,
        "masked-loss": CURVES,
    }


def test_every_working_row_is_a_point(realistic: dict[str, Plot]) -> None:
    """With its number or name beside it and all of its name under the pointer; failed rows have no place."""
    view = views_of(REALISTIC)[0]
    shown = texts(realistic["match-latency"].svg)
    for one in view.working:
        tip = f"{one.number} {one.row.name}: {one.quality:.2f} at "
        assert any(text.startswith(tip) for text in shown)
        assert str(one.number) in shown or one.row.name.split()[0] in " ".join(shown)
    assert not any("PGD" in text for text in shown)


def test_rows_of_the_front_and_the_reference_have_their_names() -> None:
    """All others have numbers: thirty names have no room."""
    view = views_of(REALISTIC)[0]
    points = points_of(view, lambda one: one.latency)
    assert {p.one.row.name for p in points if p.named} == {one.row.name for one in view.front} | {"uncut"}
    assert [p.named for p in points] == sorted((p.named for p in points), reverse=True)


@pytest.mark.parametrize("name", ODD)
def test_any_name_can_be_drawn(name: str) -> None:
    """No formula, no hidden label, no warning for a missing character (warnings are errors here), sound XML."""
    curves = Curves(
        exits=[ExitCounts(name, [1, 2], [3, 4])],
        masked_loss=[MaskedLoss(name, [1, 2], {name: [1.0, 0.5]})],
    )
    made = results(reference(), row(name, quality=measure(0.9), latency_ms=spread(1.0)), curves=curves)
    whole = "".join(name.replace("\x00", "\ufffd").split())
    for plot in drawn(made).values():
        for svg in (plot.svg, standalone(plot.svg)):
            assert any(whole in "".join(text.split()) for text in texts(svg)), plot.name


def test_colours_have_names_that_the_page_knows(realistic: dict[str, Plot]) -> None:
    """No colour is fixed, so that the dark page has dark plots; a file of its own brings its colours."""
    for plot in realistic.values():
        assert re.search(r"#[0-9a-f]{6}", plot.svg) is None
        used = set(re.findall(r"var\(--([\w-]+)\)", plot.svg))
        assert used <= set(PALETTE)
        assert "--ink:" in standalone(plot.svg)


def test_ids_belong_to_one_plot(realistic: dict[str, Plot]) -> None:
    """All plots stand in one page: an id that two of them had would show one's marker in the other."""
    ids = [one for plot in realistic.values() for one in re.findall(r' id="([^"]*)"', plot.svg)]
    assert len(ids) == len(set(ids))
    for plot in realistic.values():
        referred = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', plot.svg))
        assert referred == set(re.findall(r' id="([^"]*)"', plot.svg))


def test_nothing_to_draw_is_no_plot() -> None:
    """Failed rows alone, and rows without the figures of an axis."""
    assert drawn(results(failed("a", "no disk", against=""))) == {}
    assert drawn(results(reference(latency_ms=None, bytes=None))) == {}
    assert drawn(results()) == {}


def test_a_single_row_is_drawn() -> None:
    """An axis needs a width even where all rows have one cost and one quality."""
    assert set(drawn(results(reference()))) == {"match-latency", "match-size"}
    same = results(reference(), row("same"))
    assert set(drawn(same)) == {"match-latency", "match-size", "match-work"}


def test_curves_with_gaps_are_drawn() -> None:
    """A class that was never masked, a single step, a task without rows, exits without texts, one share."""
    curves = Curves(
        learning=[LearningPoint("sentiment", 0.5, 10, [0.5])],
        exits=[ExitCounts("a", [], []), ExitCounts("b", [2, 4], [0, 0])],
        masked_loss=[MaskedLoss("a", [0], {"rare": [None]}), MaskedLoss("b", [5], {"all": [1.0]})],
    )
    assert set(drawn(results(curves=curves))) == {"learning-sentiment", "exits", "masked-loss"}


def test_many_strategies_are_told_apart() -> None:
    """More lines than colours."""
    many = [MaskedLoss(f"strategy {n}", [1, 2], {"all": [2.0, 1.0 + n]}) for n in range(14)]
    shown = texts(drawn(results(curves=Curves(masked_loss=many)))["masked-loss"].svg)
    assert all(f"strategy {n}" in shown for n in range(14))


def test_one_failure_does_not_flatten_the_plot() -> None:
    """A row far below all others stands at the lower edge, with its quality beside its number."""
    good = [row(f"r{n}", quality=measure(0.8 + n / 100), latency_ms=spread(2.0 + n)) for n in range(5)]
    bad = row("bad", quality=measure(0.1), latency_ms=spread(30.0))
    made = results(reference(), *good, bad)
    (low,) = [point for point in points_of(views_of(made)[0], lambda one: one.latency) if point.low]
    assert low.label == "7 (10.0)"
    assert low.y == lowest_shown(
        [point.one.quality for point in points_of(views_of(made)[0], lambda one: 1.0)]
    )
    assert "7 (10.0)" in texts(drawn(made)["match-latency"].svg)


def test_ticks_are_few_and_round() -> None:
    """Over four decades, over one, and over a tenth of one."""
    assert log_ticks(1.1, 60) == [2, 5, 10, 20, 50]
    assert log_ticks(3.4, 4.4) == [3.4, 3.6, 3.8, 4.0, 4.2, 4.4]
    for low, high in ((0.9, 1.1), (9.5, 10.5), (1e-3, 1e3), (7.0, 7.9)):
        ticks = log_ticks(low, high)
        assert 1 <= len(ticks) <= 8
        assert all(low <= tick <= high for tick in ticks)


def test_the_mean_exit_is_that_of_all_texts() -> None:
    """(1 x 1 + 3 x 3) / 4 layers."""
    assert exit_title(ExitCounts("e", [1, 3], [1, 3])) == "e: layer 2.5 on average, 4 texts"


def test_a_reference_that_failed_leaves_the_others_drawn() -> None:
    """The Pareto line needs no reference."""
    made = results(failed("uncut", "no disk", against=""), row("a"), row("b"))
    assert "match-latency" in drawn(made)
