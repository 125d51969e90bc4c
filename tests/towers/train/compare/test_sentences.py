"""The summary says what the numbers say, word for word."""

from __future__ import annotations

from tests.towers.train.compare.made_up import failed, measure, reference, results, row, spread
from towers.train.compare.compared import TaskView, views_of
from towers.train.compare.results import Row
from towers.train.compare.sentences import best_of, fastest_near, summary


def view(*rows: Row) -> TaskView:
    return views_of(results(*rows))[0]


UNCUT = reference(steps=900, quality=measure(0.800, 0.802, 0.804), latency_ms=spread(4.0))
FAST = row("fast", quality=measure(0.795, 0.796, 0.797), latency_ms=spread(2.0))
GOOD = row("good", quality=measure(0.82, 0.83, 0.84), latency_ms=spread(8.0))
POOR = row("poor", quality=measure(0.6, 0.61, 0.62), latency_ms=spread(1.0))
IDLE = row("idle", quality=measure(0.801, 0.802, 0.805), latency_ms=spread(4.1), bytes=None)


def test_the_summary_of_a_task() -> None:
    """Reference, Pareto line, fastest within 1%, best, gained, lost, brought nothing, failed."""
    assert summary(view(UNCUT, FAST, GOOD, POOR, IDLE, failed("PGD", "out of memory"))) == [
        "Reference: “uncut”, Spearman 80.20, 4.00 ms for one text, 400 texts a second in batches.",
        "On the Pareto line (no other row is both faster and better), from fastest to best: “poor”, “fast”, “uncut” "
        "and “good”.",
        "Fastest within 1% of the reference's quality: “fast” (−0.60 points, 2.00 times as fast).",
        "Best quality: “good” (+2.80 points, 0.50 times as fast).",
        "Better than their reference with every seed (points, times as fast): “good” (+2.80, 0.50×).",
        "Lost more than 1% of the quality (points, times as fast): “poor” (−19.20, 4.00×).",
        "Neither faster nor smaller than their reference, and no gain in quality established: “idle” (±0.00, not "
        "established, 0.98×).",
        "Failed: “PGD”: out of memory",
    ]


def test_a_reference_that_nothing_beats() -> None:
    """Says so, instead of naming the least bad row as a winner."""
    worse = row("worse", quality=measure(0.7, 0.7, 0.7), latency_ms=spread(9.0))
    assert summary(view(UNCUT, worse)) == [
        "Reference: “uncut”, Spearman 80.20, 4.00 ms for one text, 400 texts a second in batches.",
        "On the Pareto line: “uncut” alone; no other row is faster or better.",
        "No row is faster than the reference and keeps 99% of its quality.",
        "No row is better than the reference.",
        "No gain in quality is established.",
        "Lost more than 1% of the quality (points, times as fast): “worse” (−10.20, 0.44×).",
        "Neither faster nor smaller than their reference, and no gain in quality established: “worse” (−10.20, 0.44×).",
    ]


def test_one_row_is_described_and_not_compared() -> None:
    """There is nothing to say about winners."""
    assert summary(view(UNCUT)) == [
        "Reference: “uncut”, Spearman 80.20, 4.00 ms for one text, 400 texts a second in batches.",
        "On the Pareto line: “uncut” alone; no other row is faster or better.",
    ]


def test_rows_without_timings_are_described_by_quality() -> None:
    """What is missing is left out, not shown as nothing."""
    bare = row("bare", quality=measure(0.82), latency_ms=None, per_second=None, bytes=None)
    known = reference(quality=measure(0.80), latency_ms=None, per_second=None, bytes=None)
    assert summary(view(known, bare)) == [
        "Reference: “uncut”, Spearman 80.00.",
        "Best quality: “bare” (+2.00 points, no spread known).",
        "No gain in quality is established.",
    ]


def test_everything_failed() -> None:
    """The report of a comparison in which nothing worked is still a report."""
    assert summary(view(failed("uncut", "no disk", against=""), failed("a", "no disk either"))) == [
        "No reference has figures, so that no row is held against any.",
        "Failed: “uncut”: no disk",
        "Failed: “a”: no disk either",
    ]


def test_one_percent_is_of_the_reference() -> None:
    """Exactly 99% is within; below it is not, however fast."""
    at = row("at", quality=measure(0.792, 0.792, 0.792), latency_ms=spread(2.0))
    below = row("below", quality=measure(0.7919, 0.7919, 0.7919), latency_ms=spread(1.0))
    known = reference(quality=measure(0.8, 0.8, 0.8), latency_ms=spread(4.0))
    chosen = fastest_near(view(known, at, below))
    assert chosen is not None
    assert chosen.row.name == "at"


def test_one_percent_of_a_negative_correlation_lies_below_it() -> None:
    """Else the reference itself would not be within 1% of itself."""
    chosen = fastest_near(view(reference(quality=measure(-0.2, -0.2, -0.2))))
    assert chosen is not None
    assert chosen.row.name == "uncut"


def test_of_two_equally_good_rows_the_faster_one_is_best() -> None:
    """A row without a latency comes after one that has it."""
    same = measure(0.9, 0.9, 0.9)
    rows = [row("untimed", quality=same, latency_ms=None), row("slow", quality=same, latency_ms=spread(3.0))]
    best = best_of(view(*rows, row("quick", quality=same, latency_ms=spread(2.0)), reference()))
    assert best is not None
    assert best.row.name == "quick"


def test_a_row_that_is_held_against_another_one() -> None:
    """What its technique does is told beside its own reference, where it stands beside that of all rows."""
    tuned = row("tuned", quality=measure(0.85, 0.85, 0.85), latency_ms=spread(4.0))
    fgm = row("FGM", against="tuned", quality=measure(0.86, 0.86, 0.86), latency_ms=spread(3.9))
    found = summary(view(UNCUT, tuned, fgm))
    assert found[0].startswith("Reference: “uncut”")
    assert "Best quality: “FGM” (+5.80 points, 1.03 times as fast)." in found
    assert (
        "Better than their reference with every seed (points, times as fast): “tuned” (+4.80, 1.00×) and “FGM” (+1.00, "
        "1.03×)."
    ) in found
