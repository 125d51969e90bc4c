"""What rows are beside each other: the Pareto line, differences, ratios, rank correlations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.train.compare.made_up import REALISTIC, failed, measure, reference, results, row, spread
from towers.train.compare.compared import (
    BETTER,
    OPEN,
    UNKNOWN,
    UNTRAINED,
    WORSE,
    Beside,
    Difference,
    TaskView,
    difference,
    pareto,
    rank_correlation,
    views_of,
)
from towers.train.compare.results import Row

SMALL = st.integers(0, 5).map(float)


def view(*rows: Row) -> TaskView:
    return views_of(results(*rows))[0]


@given(st.lists(st.tuples(SMALL, SMALL)))
def test_the_pareto_line_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    """Against the definition, every point held against every other one; ties are frequent with six values."""

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    twin = {i for i, point in enumerate(points) if not any(beats(other, point) for other in points)}
    found = pareto(points)
    assert set(found) == twin
    assert len(found) == len(twin)
    costs = [points[i][0] for i in found]
    assert costs == sorted(costs)


@pytest.mark.parametrize(
    ("mine", "its", "verdict"),
    [
        ((0.83, 0.84), (0.80, 0.82), BETTER),
        ((0.78, 0.79), (0.80, 0.82), WORSE),
        ((0.81, 0.84), (0.80, 0.82), OPEN),
        ((0.82, 0.84), (0.80, 0.82), OPEN),
        ((0.9,), (0.80, 0.82), UNKNOWN),
        ((0.9, 0.91), (0.80,), UNKNOWN),
    ],
)
def test_a_difference_is_established_by_every_seed(
    mine: tuple[float, ...], its: tuple[float, ...], verdict: str
) -> None:
    """All seeds on one side of all others, or nothing is established; one seed of a training says nothing."""
    found = difference(row("a", quality=measure(*mine)), reference(steps=10, quality=measure(*its)))
    assert found is not None
    assert found.verdict == verdict


def test_what_was_not_trained_has_no_seeds() -> None:
    """Rounding a model to int8 gives the same every time; against trained rows its one value stands for all seeds."""
    once = row("int8", steps=0, seeded=False, quality=measure(0.79))
    assert difference(once, reference(quality=measure(0.80))) == Difference(pytest.approx(-1.0), UNTRAINED)
    assert difference(once, reference(steps=10, quality=measure(0.80, 0.81))) == Difference(
        pytest.approx(-1.5), WORSE
    )


def test_a_seed_plays_a_part_where_what_came_before_was_trained() -> None:
    """Half the layers in int8 took no step of their own, but those that they go on from were distilled."""
    later = row("cut-int8", steps=0, quality=measure(0.79))
    assert difference(later, reference(quality=measure(0.80))) == Difference(pytest.approx(-1.0), UNKNOWN)
    spread = row("cut-int8", steps=0, quality=measure(0.78, 0.79, 0.81))
    assert difference(spread, reference(quality=measure(0.80))) == Difference(pytest.approx(-1.0), OPEN)


def test_a_row_is_held_against_its_reference() -> None:
    """Twice as fast is half the time; sizes are shares; the reference itself has none of it."""
    fast = row(
        "fast", latency_ms=spread(1.0), per_second=spread(1000.0), bytes=10, parameters=5, multiply_adds=1
    )
    slow = reference(
        latency_ms=spread(2.0), per_second=spread(250.0), bytes=40, parameters=20, multiply_adds=10
    )
    one, known = view(fast, slow).rows
    assert one.own == one.main == Beside(one.own.difference, 2, 4, 0.25, 0.25, 0.1)
    assert known.own == known.main == Beside()
    assert known.reference is None


def test_a_row_has_two_references() -> None:
    """Its own, and that of the task, where the chain of comparisons ends."""
    tuned = row("tuned", latency_ms=spread(3.0), quality=measure(0.85, 0.85))
    fgm = row("fgm", against="tuned", latency_ms=spread(1.5), quality=measure(0.86, 0.86))
    shown = view(tuned, fgm, reference(latency_ms=spread(6.0), quality=measure(0.8, 0.8)))
    one = shown.rows[1]
    assert shown.reference is shown.rows[2]
    assert one.reference is tuned
    assert (one.own.speed, one.main.speed) == (2, 4)
    assert one.own.difference == Difference(pytest.approx(1), BETTER)
    assert one.main.difference == Difference(pytest.approx(6), BETTER)


def test_rows_in_a_circle_have_some_reference() -> None:
    """A file that was edited by hand may hold each against the other; nothing hangs."""
    shown = view(row("a", against="b"), row("b", against="a"))
    assert shown.reference is not None


def test_missing_figures_make_no_ratio() -> None:
    """A row without a figure, or with a failed reference, has None, and no error."""
    bare = row("bare", latency_ms=None, per_second=None, bytes=None, parameters=0)
    one, _ = view(bare, reference()).rows
    assert one.own == Beside(one.own.difference, parameters=0, multiply_adds=1)
    assert one.latency is None
    lonely, _ = view(row("a"), failed("uncut", "no disk", against="")).rows
    assert lonely.own == lonely.main == Beside()
    assert lonely.works


def test_failed_rows_are_in_no_line_and_no_correlation() -> None:
    """A row that failed half way may have some figures; they count for nothing."""
    broken = row("broken", latency_ms=spread(0.1), quality=measure(0.99), failed="killed")
    shown = view(broken, reference())
    assert [one.row.name for one in shown.front] == ["uncut"]
    assert [one.row.name for one in shown.rows] == ["broken", "uncut"]
    assert math.isnan(rank_correlation(shown.rows, lambda one: one.latency, lambda one: one.quality))


def test_the_reference_is_where_most_comparisons_end() -> None:
    """Not the first one, and not the one that most rows name: they are three, but lead on."""
    tuned = row("tuned")
    rows = [
        row("alone", against=""),
        *(row(name, against="tuned") for name in "abc"),
        tuned,
        row("d"),
        reference(),
    ]
    chosen = view(*rows).reference
    assert chosen is not None
    assert chosen.row.name == "uncut"


def test_a_task_without_a_sound_reference_has_none() -> None:
    """Neither a failed one nor one that does not exist is chosen."""
    assert view(row("a"), failed("uncut", "no disk", against="", technique=0)).reference is None
    assert view(row("a", against="")).reference is None
    only = view(reference()).reference
    assert only is not None
    assert only.row.name == "uncut"


def test_each_task_is_seen_alone() -> None:
    """Rows are numbered within their task, in the order of the results."""
    match, sentiment = views_of(REALISTIC)
    assert (match.task, match.metric) == ("match", "spearman")
    assert (sentiment.task, sentiment.metric) == ("sentiment", "accuracy")
    assert [one.number for one in sentiment.rows] == list(range(1, 25))
    assert all(one.row.task == "sentiment" for one in sentiment.rows)
    assert views_of(results()) == []


def test_a_rank_correlation_knows_order_alone() -> None:
    """1 for figures that rise together, however; -1 for those that fall; nan where nothing varies."""
    rows = view(*[row(f"r{n}", parameters=10**n, bytes=100 - n, against="") for n in range(5)]).rows
    assert rank_correlation(rows, lambda one: one.row.parameters, lambda one: one.number) == pytest.approx(1)
    assert rank_correlation(rows, lambda one: one.row.parameters, lambda one: one.row.bytes) == pytest.approx(
        -1
    )
    assert math.isnan(rank_correlation(rows, lambda one: one.row.parameters, lambda one: one.latency))
