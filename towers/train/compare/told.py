"""Everything that a report says, in the order in which it says it, before it becomes a page or a Markdown file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from towers.train.compare.caveats import caveats
from towers.train.compare.claims import Claim, claims
from towers.train.compare.compared import Compared, TaskView, views_of
from towers.train.compare.plots import CLAIMS, CURVES, Plot, plots_of
from towers.train.compare.results import DataFacts, Results, Row
from towers.train.compare.sentences import best_of, fastest_near, summary
from towers.train.compare.tables import Table, further_table, main_table, technique_table
from towers.train.compare.words import TASK_TITLES, gain, number, printable, seconds, times

TITLE = "What each BERT optimisation does to your data"
TIMING = (
    "Rows take turns: a warm-up that does not count, then rounds in which every row has one turn, in an order drawn "
    "anew each time; a short call is repeated within its turn. Figures are medians over the rounds, with the fastest "
    "and the slowest round."
)
READING = (
    "Quality is the median over the seeds, times 100, with the lowest and the highest seed. A difference is in points "
    "against the row that shows what the technique does (the reference, or the one that is named); it is called "
    "established (“every seed”) only where all seeds lie on one side of all seeds of that row. Ratios are to the "
    "reference. Rows on the Pareto line are marked."
)


@dataclass(frozen=True)
class Section:
    """What is told of one task.

    Attributes:
        title: Its heading.
        data: What it was measured on; "" where that is not known.
        cards: The rows to know: heading, name, figures.
        summary: Sentences.
        main: The table of all rows.
        further: The table of other metrics and costs, where there are any.
        rows: Name of each row -> what was done, and how to ship it.
        plots: Its plots.
    """

    title: str
    data: str
    cards: list[tuple[str, str, list[str]]]
    summary: list[str]
    main: Table
    further: Table | None
    rows: list[tuple[str, str]]
    plots: list[Plot]


@dataclass(frozen=True)
class Told:
    """A whole report.

    Attributes:
        sections: One a task.
        claims: What is told of BERT models, and the answers.
        caveats: Doubts.
        techniques: A line for each of the ten.
        proofs: Plots that belong to the claims.
        curves: Plots that stand on their own.
        conditions: Names and values.
    """

    sections: list[Section]
    claims: list[Claim]
    caveats: list[str]
    techniques: Table
    proofs: list[Plot]
    curves: list[Plot]
    conditions: list[tuple[str, str]]


def tell(results: Results) -> Told:
    """Turn results into what the reports say."""
    views = views_of(results)
    plots = plots_of(results, views)
    return Told(
        sections=[_section(view, [plot for plot in plots if plot.place == view.task]) for view in views],
        claims=claims(views),
        caveats=caveats(views),
        techniques=technique_table(views, TASK_TITLES),
        proofs=[plot for plot in plots if plot.place == CLAIMS],
        curves=[plot for plot in plots if plot.place == CURVES],
        conditions=_conditions(results),
    )


def _section(view: TaskView, plots: list[Plot]) -> Section:
    return Section(
        title=TASK_TITLES[view.task],
        data=_data(view.data),
        cards=_cards(view),
        summary=summary(view),
        main=main_table(view),
        further=further_table(view),
        rows=[(f"{one.number} {printable(one.row.name)}", _about(one.row)) for one in view.rows],
        plots=plots,
    )


def _cards(view: TaskView) -> list[tuple[str, str, list[str]]]:
    chosen = {
        "Reference": view.reference,
        "Fastest within 1% of the reference": fastest_near(view),
        "Best quality": best_of(view),
    }
    return [
        (heading, printable(one.row.name), _figures(one))
        for heading, one in chosen.items()
        if one is not None
    ]


def _figures(one: Compared) -> list[str]:
    gained = "" if one.main.difference is None else f" ({gain(one.main.difference)})"
    speed = "" if one.main.speed is None else f" ({times(one.main.speed)})"
    latency = [] if one.latency is None else [f"{number(one.latency)} ms{speed}"]
    return [f"{one.quality:.2f}{gained}", *latency]


def _about(row: Row) -> str:
    seeds = f"Seeds {', '.join(map(str, row.seeds))}." if row.seeds else ""
    shipped = f"Bundle: {printable(row.bundle)}." if row.bundle else "No bundle."
    return " ".join(part for part in (printable(row.about), seeds, shipped) if part)


def _data(data: DataFacts | None) -> str:
    if data is None:
        return ""
    return (
        f"{printable(data.name)}: {data.rows:,} rows, {data.train:,} to train on and {data.dev:,} held out."
    )


def _conditions(results: Results) -> list[tuple[str, str]]:
    facts: list[tuple[str, Any]] = [("command", results.command), ("budget", seconds(results.budget_s))]
    facts += [(name.replace("_", " "), value) for name, value in results.machine.items()]
    for data in results.data.values():
        if data is not None:
            facts.append((f"data {data.name}", f"{_data(data)} SHA-256 {data.sha256}"))
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in results.versions.items())))
    facts.append(("timing", TIMING))
    return [(printable(str(name)), printable(str(value))) for name, value in facts]
