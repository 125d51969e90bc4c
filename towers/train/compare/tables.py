"""The tables of the report, as cells that a page and a Markdown file both write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from towers.train.compare.compared import BETTER, UNTRAINED, WORSE, Compared, TaskView
from towers.train.compare.labels import shortened
from towers.train.compare.results import TECHNIQUES, Spread
from towers.train.compare.words import (
    amount,
    between,
    entry,
    metric_name,
    number,
    printable,
    quoted,
    rounds_between,
    seconds,
    signed,
    times,
)

NOTHING = "–"
_LONGEST = 70  # characters of what a row is, under its name


@dataclass(frozen=True)
class Cell:
    """A figure.

    Attributes:
        text: The figure.
        under: What stands in small letters under it, in one line or more.
        sort: What it sorts by; None comes last, whatever the order.
        tone: "good" or "bad" where that is established.
    """

    text: str = NOTHING
    under: str = ""
    sort: float | str | None = None
    tone: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        cells: One for each heading.
        failed: What stands in place of all cells after the first two.
        marked: Whether the row is on the Pareto line.
    """

    cells: list[Cell]
    failed: str | None = None
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """Headings (with what each column means, or "") and lines."""

    headings: list[tuple[str, str]]
    lines: list[Line]


Column = tuple[str, str, Callable[[Compared], Cell]]


def main_table(view: TaskView) -> Table:
    """Return the table of all rows of a task; those on the Pareto line are marked."""
    columns = _columns(view)
    front = {one.number for one in view.front}
    lines = [
        Line(
            [cell(one) for _, _, cell in columns],
            failed=None if one.row.failed is None else f"failed: {printable(one.row.failed)}",
            marked=one.number in front,
        )
        for one in view.rows
    ]
    return Table([(heading, meaning) for heading, meaning, _ in columns], lines)


def further_table(view: TaskView) -> Table | None:
    """Return the table of other metrics and costs; None where no row has any."""
    metrics = list(dict.fromkeys(name for one in view.working for name in _others(one)))
    costs = list(dict.fromkeys(name for one in view.working for name in one.row.cost or {}))
    if not metrics and not costs:
        return None
    headings = [("#", ""), ("row", "")] + [(metric_name(name), "") for name in metrics]
    headings += [(printable(name), "") for name in costs]
    lines = [
        Line(
            [
                _number_cell(one),
                Cell(printable(one.row.name), sort=one.row.name),
                *(_seeds_cell(_others(one).get(name), digits=4) for name in metrics),
                *(_plain_cell((one.row.cost or {}).get(name)) for name in costs),
            ]
        )
        for one in view.working
        if _others(one) or one.row.cost
    ]
    return Table(headings, lines)


def technique_table(views: list[TaskView], titles: dict[str, str]) -> Table:
    """Return a line for each of the ten techniques with what its rows did in each task."""
    lines = []
    for technique, name in TECHNIQUES.items():
        if technique:
            told = [[one for one in view.rows if one.row.technique == technique] for view in views]
            cells = [Cell("; ".join(_told(one) for one in rows) or "no row") for rows in told]
            lines.append(Line([Cell(str(technique)), Cell(name), *cells]))
    return Table(
        [("#", ""), ("technique", ""), *((titles[view.task], "points, times as fast") for view in views)],
        lines,
    )


def _told(one: Compared) -> str:
    return entry(one) if one.works else f"{quoted(one.row.name)} (failed)"


def _columns(view: TaskView) -> list[Column]:
    metric = metric_name(view.metric) or "quality"
    share = "and the same as a share of the reference's"
    return [
        ("#", "number in the plots", _number_cell),
        (
            "row",
            "what was done, with the number of the technique",
            lambda one: Cell(printable(one.row.name), _technique(one), one.row.name),
        ),
        (f"{metric} × 100", "median over the seeds, lowest to highest below", _quality_cell),
        (
            "difference",
            "in points against the row that it is compared with",
            lambda one: _difference_cell(one, view),
        ),
        (
            "ms, one text",
            "median of the rounds, fastest to slowest below",
            lambda one: _timed_cell(one.row.latency_ms),
        ),
        (
            "times as fast",
            "the reference's time by the row's, one text",
            lambda one: _ratio_cell(one.main.speed),
        ),
        (
            "texts/s",
            "in batches, median of the rounds, slowest to fastest below",
            lambda one: _timed_cell(one.row.per_second),
        ),
        ("times as many", "texts a second, by the reference's", lambda one: _ratio_cell(one.main.throughput)),
        ("size", f"in bytes, {share}", lambda one: _amount_cell(one.row.bytes, one.main.size, "B")),
        (
            "parameters",
            f"shared ones once, {share}",
            lambda one: _amount_cell(one.row.parameters, one.main.parameters),
        ),
        (
            "multiply-adds",
            f"one text of 16 tokens, {share}",
            lambda one: _amount_cell(one.row.multiply_adds, one.main.multiply_adds),
        ),
        ("seeds", "how many", _seed_cell),
        ("steps", "for one seed; time for all below", _steps_cell),
        ("notes", "", _notes_cell),
    ]


def _number_cell(one: Compared) -> Cell:
    return Cell(str(one.number), sort=one.number)


def _technique(one: Compared) -> str:
    """What was done, with the number of the technique; the technique's name where nothing more is known."""
    number_of_ten = f"{one.row.technique} · " if one.row.technique else ""
    return f"{number_of_ten}{shortened(printable(one.row.about), _LONGEST) or TECHNIQUES[one.row.technique]}"


def _quality_cell(one: Compared) -> Cell:
    if one.row.quality is None:
        return Cell()
    values = [100 * value for value in one.row.quality.values]
    alone = "one seed" if one.row.seeded else UNTRAINED
    under = between(min(values), max(values)) if len(values) > 1 else alone
    return Cell(f"{one.quality:.2f}", under, one.quality)


def _difference_cell(one: Compared, view: TaskView) -> Cell:
    """The difference from the row's own reference, named where it is not the one of most rows."""
    if one.own.difference is None or one.reference is None:
        return Cell()
    points, verdict = one.own.difference.points, one.own.difference.verdict
    tone = {BETTER: "good", WORSE: "bad"}.get(verdict, "")
    under = "every seed" if tone else verdict
    if view.reference is None or one.reference is not view.reference.row:
        under = f"{under}\nagainst {printable(one.reference.name)}"
    return Cell(signed(points), under, points, tone)


def _timed_cell(spread: Spread | None) -> Cell:
    return Cell() if spread is None else Cell(number(spread.median), rounds_between(spread), spread.median)


def _ratio_cell(ratio: float | None) -> Cell:
    return Cell() if ratio is None else Cell(times(ratio), sort=ratio)


def _amount_cell(value: int | None, ratio: float | None, unit: str = "") -> Cell:
    if value is None:
        return Cell()
    return Cell(amount(value) + unit, "" if ratio is None else times(ratio), value)


def _seed_cell(one: Compared) -> Cell:
    return Cell(str(len(one.row.seeds)), sort=len(one.row.seeds))


def _steps_cell(one: Compared) -> Cell:
    trained = seconds(one.row.trained_s) if one.row.trained_s else ""
    return Cell(f"{one.row.steps:,}", trained, one.row.steps)


def _notes_cell(one: Compared) -> Cell:
    told = any(note.startswith("cannot be shipped") for note in one.row.notes)
    shipped = [] if one.row.bundle is not None or told else ["cannot be shipped"]
    notes = "; ".join([*shipped, *map(printable, one.row.notes)])
    return Cell(notes or NOTHING, sort=notes or None)


def _others(one: Compared) -> dict[str, list[float]]:
    return one.row.quality.others if one.row.quality is not None else {}


def _seeds_cell(values: list[float] | None, *, digits: int) -> Cell:
    if not values:
        return Cell()
    middle = float(median(values))
    spread = f"{min(values):.{digits}f}–{max(values):.{digits}f}" if len(values) > 1 else ""
    return Cell(f"{middle:.{digits}f}", spread, middle)


def _plain_cell(value: float | None) -> Cell:
    return Cell() if value is None else Cell(number(value), sort=value)
