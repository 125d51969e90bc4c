"""The summary of a task: sentences that follow from the numbers and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from towers.train.compare.compared import BETTER, Compared, TaskView
from towers.train.compare.words import entry, listed, metric_name, number, phrase, printable, quoted

_FASTER = 1.05  # two timings of one and the same model differ by less than this on a quiet machine; guess
_SMALLER = 0.95  # likewise, of a size; guess


def summary(view: TaskView) -> list[str]:
    """Return what to know of a task, the most important first; failed rows last."""
    told = (_reference, _front, _fastest, _best, _gained, _lost, _idle)
    sentences = [sentence for tell in told if (sentence := tell(view))]
    failed = [one.row for one in view.rows if one.row.failed is not None]
    return sentences + [f"Failed: {quoted(row.name)}: {printable(row.failed or '')}" for row in failed]


def fastest_near(view: TaskView) -> Compared | None:
    """Return the fastest row with at least 99% of the reference's quality; the reference itself may be it."""
    if view.reference is None:
        return None
    bound = _one_percent_below(view.reference.quality)
    near = [one for one in view.working if one.latency is not None and one.quality >= bound]
    return min(near, key=lambda one: (one.latency or 0.0, -one.quality), default=None)


def best_of(view: TaskView) -> Compared | None:
    """Return the row of the highest quality, the faster one of two that are alike."""
    return max(view.working, key=lambda one: (one.quality, -(one.latency or math.inf)), default=None)


def _one_percent_below(quality: float) -> float:
    return quality - 0.01 * abs(quality)  # a correlation may be negative


def _reference(view: TaskView) -> str:
    one = view.reference
    if one is None:
        return "No reference has figures, so that no row is held against any."
    figures = [f"{metric_name(view.metric)} {one.quality:.2f}"]
    if one.latency is not None:
        figures.append(f"{number(one.latency)} ms for one text")
    if one.row.per_second is not None:
        figures.append(f"{number(one.row.per_second.median)} texts a second in batches")
    return f"Reference: {quoted(one.row.name)}, {', '.join(figures)}."


def _front(view: TaskView) -> str:
    names = [quoted(one.row.name) for one in view.front]
    if len(names) < 2:
        return f"On the Pareto line: {names[0]} alone; no other row is faster or better." if names else ""
    return (
        f"On the Pareto line (no other row is both faster and better), from fastest to best: {listed(names)}."
    )


def _fastest(view: TaskView) -> str:
    one = fastest_near(view)
    if one is None or len(view.working) < 2:
        return ""
    if one is view.reference:
        return "No row is faster than the reference and keeps 99% of its quality."
    return f"Fastest within 1% of the reference's quality: {phrase(one)}."


def _best(view: TaskView) -> str:
    one = best_of(view)
    if one is None or len(view.working) < 2:
        return ""
    return (
        "No row is better than the reference." if one is view.reference else f"Best quality: {phrase(one)}."
    )


def _gained(view: TaskView) -> str:
    found = [one for one in view.working if one.own.difference and one.own.difference.verdict == BETTER]
    if not found:
        return "No gain in quality is established." if len(view.working) > 1 else ""
    return f"Better than their reference with every seed (points, times as fast): {_phrases(found, best_first=True)}."


def _lost(view: TaskView) -> str:
    found = [
        one
        for one in view.working
        if one.own.difference and one.quality < _one_percent_below(one.quality - one.own.difference.points)
    ]
    return (
        f"Lost more than 1% of the quality (points, times as fast): {_phrases(found, best_first=False)}."
        if found
        else ""
    )


def _idle(view: TaskView) -> str:
    """Tell of rows that brought nothing, which a table of thirty rows hides."""
    compared = [one for one in view.working if one.own.difference is not None and one.own.speed is not None]
    found = listed(entry(one) for one in compared if not _brings_something(one))
    what = "Neither faster nor smaller than their reference, and no gain in quality established"
    return f"{what}: {found}." if found else ""


def _brings_something(one: Compared) -> bool:
    faster = max(one.own.speed or 0.0, one.own.throughput or 0.0) >= _FASTER
    smaller = one.own.size is not None and one.own.size <= _SMALLER
    return faster or smaller or (one.own.difference is not None and one.own.difference.verdict == BETTER)


def _phrases(rows: Sequence[Compared], *, best_first: bool) -> str:
    def points(one: Compared) -> float:
        return one.own.difference.points if one.own.difference else 0.0

    return listed(entry(one) for one in sorted(rows, key=points, reverse=best_first))
