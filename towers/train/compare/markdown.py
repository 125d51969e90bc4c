"""The report as Markdown, for a repository or a chat."""

from __future__ import annotations

import re
from collections.abc import Sequence

from towers.train.compare.plots import Plot
from towers.train.compare.tables import Cell, Line, Table
from towers.train.compare.told import READING, TITLE, Section, Told

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#&])")


def markdown(told: Told, figures: str) -> str:
    """Return the report.

    Args:
        told: What it says.
        figures: Folder of the plots, relative to the file.
    """
    parts = [f"# {TITLE}", *(part for section in told.sections for part in _summary(section))]
    for claim in told.claims:
        parts += [f"**“{escaped(claim.claim)}”**", _bullets(claim.answers)]
    parts += [_figure(plot, figures) for plot in told.proofs]
    parts += ["## How far to trust this", _bullets(told.caveats)] if told.caveats else []
    parts += [part for section in told.sections for part in _tables(section, figures)]
    parts += ["## The ten techniques", _table(told.techniques)]
    parts += [_figure(plot, figures) for plot in told.curves]
    parts += ["## Conditions", _bullets([f"{name}: {value}" for name, value in told.conditions])]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def _summary(section: Section) -> list[str]:
    return [
        f"## {section.title}",
        *([escaped(section.data)] if section.data else []),
        _bullets(section.summary),
    ]


def _tables(section: Section, figures: str) -> list[str]:
    parts = [f"## {section.title}: every row", escaped(READING), _table(section.main)]
    parts += ["### Other metrics and costs", _table(section.further)] if section.further is not None else []
    parts += [_bullets([f"{name}: {about}" for name, about in section.rows])]
    return parts + [_figure(plot, figures) for plot in section.plots]


def _figure(plot: Plot, figures: str) -> str:
    return f"[{escaped(plot.title)}]({figures}/{plot.name}.svg): {escaped(plot.caption)}"


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(item)}" for item in items)


def _table(table: Table) -> str:
    lines = [[heading for heading, _ in table.headings], ["---"] * len(table.headings)]
    lines = [[escaped(cell) if cell != "---" else cell for cell in line] for line in lines]
    lines += [_cells(line, len(table.headings)) for line in table.lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(line: Line, width: int) -> list[str]:
    if line.failed is not None:
        return [_cell(line.cells[0]), _cell(line.cells[1]), escaped(line.failed), *[""] * (width - 3)]
    cells = [_cell(cell) for cell in line.cells]
    return [cells[0], f"**{cells[1]}**" if line.marked else cells[1], *cells[2:]]


def _cell(cell: Cell) -> str:
    under = ", ".join(cell.under.splitlines())
    return escaped(f"{cell.text} ({under})" if under else cell.text)
