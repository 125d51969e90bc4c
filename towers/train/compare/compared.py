"""From results to what can be said of them: each row beside its reference, the Pareto line, rank correlations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from towers import metrics
from towers.train.compare.results import TASKS, DataFacts, Results, Row, Spread

# What is known of a difference in quality, given the values of all seeds on both sides.
BETTER = "better"
WORSE = "worse"
OPEN = "not established"
UNKNOWN = "no spread known"
UNTRAINED = "nothing trained"


@dataclass(frozen=True)
class Difference:
    """How far a row's quality is from its reference's.

    Attributes:
        points: 100 times the difference of the medians.
        verdict: BETTER or WORSE where the values of all seeds lie on that side of all values of the reference, OPEN
            where they overlap, UNKNOWN where a side was trained with one seed only, UNTRAINED where nothing was
            trained on either side, so that no seed plays a part.
    """

    points: float
    verdict: str


@dataclass(frozen=True)
class Beside:
    """A row beside another one; None where a figure is missing on either side.

    Attributes:
        difference: In quality.
        speed: How many times as fast, for one text.
        throughput: How many times as many texts a second.
        size: Its bytes, as a share of the other's.
        parameters: Likewise.
        multiply_adds: Likewise.
    """

    difference: Difference | None = None
    speed: float | None = None
    throughput: float | None = None
    size: float | None = None
    parameters: float | None = None
    multiply_adds: float | None = None


@dataclass(frozen=True)
class Compared:
    """A row with its place in the table.

    Attributes:
        row: The row.
        number: From 1, within its task.
        reference: The row that it is compared with, which tells what its technique does; None for one without.
        own: The row beside that one.
        main: The row beside the task's reference, which tells where it stands among all rows.
    """

    row: Row
    number: int
    reference: Row | None
    own: Beside
    main: Beside

    @property
    def works(self) -> bool:
        """Whether the row has a quality to speak of."""
        return self.row.failed is None and self.row.quality is not None

    @property
    def quality(self) -> float:
        """The middle seed's quality, times 100; nan for a failed row."""
        return 100 * self.row.quality.median if self.row.quality is not None else math.nan

    @property
    def latency(self) -> float | None:
        """Milliseconds for one text."""
        return None if self.row.latency_ms is None else self.row.latency_ms.median


@dataclass(frozen=True)
class TaskView:
    """All rows of one task.

    Attributes:
        task: "match" or "sentiment".
        data: Facts about its data, where there are any.
        metric: Name of the metric that rows are compared by; "" where all failed.
        rows: In the order of the results.
        reference: The row that most others are compared with, be it in two steps; None where it failed.
        front: The Pareto line of latency and quality, from the fastest to the best.
    """

    task: str
    data: DataFacts | None
    metric: str
    rows: list[Compared]
    reference: Compared | None
    front: list[Compared]

    @property
    def working(self) -> list[Compared]:
        """The rows that did not fail."""
        return [one for one in self.rows if one.works]


def views_of(results: Results) -> list[TaskView]:
    """Return a view of each task that has rows."""
    return [_view(results, task) for task in TASKS if any(row.task == task for row in results.rows)]


def beside(row: Row, reference: Row | None) -> Beside:
    """Put a row beside another one; a failed one, and one beside itself, have nothing to tell."""
    if reference is None or reference is row or row.failed is not None or reference.failed is not None:
        return Beside()
    slowness = _ratio(_median(row.latency_ms), _median(reference.latency_ms))
    return Beside(
        difference=difference(row, reference),
        speed=1 / slowness if slowness else None,
        throughput=_ratio(_median(row.per_second), _median(reference.per_second)),
        size=_ratio(row.bytes, reference.bytes),
        parameters=_ratio(row.parameters, reference.parameters),
        multiply_adds=_ratio(row.multiply_adds, reference.multiply_adds),
    )


def difference(row: Row, reference: Row) -> Difference | None:
    """Compare two rows' quality; None where one has none, or another metric."""
    if row.quality is None or reference.quality is None or row.quality.metric != reference.quality.metric:
        return None
    mine, its = row.quality.values, reference.quality.values
    points = 100 * (row.quality.median - reference.quality.median)
    alone = [one for one, values in ((row, mine), (reference, its)) if len(values) < 2]
    if alone and not row.seeded and not reference.seeded:
        return Difference(points, UNTRAINED)
    if any(one.seeded for one in alone):
        return Difference(points, UNKNOWN)
    if min(mine) > max(its):
        return Difference(points, BETTER)
    return Difference(points, WORSE if max(mine) < min(its) else OPEN)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points (cost, quality) no other one beats, from the cheapest on.

    One point beats another when it costs no more and is no worse, and differs in one of the two. Points that are
    alike in both are all kept.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept: list[int] = []
    for i in order:
        if not kept or points[i][1] > points[kept[-1]][1] or points[i] == points[kept[-1]]:
            kept.append(i)
    return kept


def front_of(rows: Sequence[Compared], cost: Callable[[Compared], float | None]) -> list[Compared]:
    """Return the rows on the Pareto line of a cost and quality; rows without one of them are left out."""
    pairs = [(value, one) for one in rows if one.works and (value := cost(one)) is not None]
    return [pairs[i][1] for i in pareto([(value, one.quality) for value, one in pairs])]


def rank_correlation(
    rows: Sequence[Compared],
    a: Callable[[Compared], float | None],
    b: Callable[[Compared], float | None],
) -> float:
    """Return Spearman's correlation of two figures over the rows that have both; nan where undefined."""
    pairs = [(x, y) for one in rows if one.works and (x := a(one)) is not None and (y := b(one)) is not None]
    if len(pairs) < 2:
        return math.nan
    return metrics.spearman([x for x, _ in pairs], [y for _, y in pairs])


def _view(results: Results, task: str) -> TaskView:
    rows = [row for row in results.rows if row.task == task]
    main = _main_reference(results, rows)
    compared = [_compared(results, row, number, main) for number, row in enumerate(rows, 1)]
    working = [one for one in compared if one.works]
    return TaskView(
        task=task,
        data=results.data.get(task),
        metric=working[0].row.quality.metric if working and working[0].row.quality else "",
        rows=compared,
        reference=next((one for one in working if one.row is main), None),
        front=front_of(working, lambda one: one.latency),
    )


def _compared(results: Results, row: Row, number: int, main: Row | None) -> Compared:
    reference = results.reference_of(row)
    return Compared(row, number, reference, own=beside(row, reference), main=beside(row, main))


def _main_reference(results: Results, rows: Sequence[Row]) -> Row | None:
    """The row at which most chains of comparisons end: a tuned model is held against the untuned one."""
    ends = Counter(end.name for row in rows if (end := _end(results, row)) is not row)
    if not ends:
        return next((row for row in rows if row.technique == 0), None)
    return max(rows, key=lambda row: ends[row.name])


def _end(results: Results, row: Row) -> Row:
    """Follow what a row is compared with to a row that is compared with none; rows in a circle end anywhere in it."""
    seen = {row.name}
    while (reference := results.reference_of(row)) is not None and reference.name not in seen:
        row = reference
        seen.add(row.name)
    return row


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else spread.median


def _ratio(mine: float | None, its: float | None) -> float | None:
    return mine / its if mine is not None and its else None
