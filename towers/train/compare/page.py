"""The report as one HTML page: nothing is fetched, light and dark, readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from towers.train.compare.page_style import CSS, SCRIPT
from towers.train.compare.plots import Plot
from towers.train.compare.svg import palette_css
from towers.train.compare.tables import Cell, Line, Table
from towers.train.compare.told import READING, TITLE, Section, Told

# A reader's browser refuses to fetch anything for this page, whatever a name in it holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(told: Told) -> str:
    """Return the whole page."""
    body = [
        f"<h1>{escape(TITLE)}</h1>",
        f'<div class="tasks">{"".join(map(_summary, told.sections))}</div>',
        "<h2>What is told of BERT, and what these numbers say</h2>",
        *(f"<h3>“{escape(claim.claim)}”</h3>{_bullets(claim.answers)}" for claim in told.claims),
        _plots(told.proofs),
        f"<h2>How far to trust this</h2>{_bullets(told.caveats)}" if told.caveats else "",
        *(_rows(section) for section in told.sections),
        f"<h2>The ten techniques</h2>{_table(told.techniques, words=range(1, 9))}",
        f"<h2>Curves</h2>{_plots(told.curves)}" if told.curves else "",
        f"<h2>Conditions</h2>{_conditions(told.conditions)}",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(TITLE)}</title>\n<style>{palette_css()}{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _summary(section: Section) -> str:
    cards = "".join(
        f'<div class="card"><small>{escape(heading)}</small><b>{escape(name)}</b>{_lines(figures)}</div>'
        for heading, name, figures in section.cards
    )
    data = f'<p class="quiet">{escape(section.data)}</p>' if section.data else ""
    return (
        f'<section><h2>{escape(section.title)}</h2>{data}<div class="cards">{cards}</div>'
        f"{_bullets(section.summary)}</section>"
    )


def _lines(texts: Sequence[str]) -> str:
    return "<br>".join(map(escape, texts))


def _rows(section: Section) -> str:
    """All that is known of a task's rows: plots, tables, and what each row is."""
    about = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in section.rows)
    further = (
        f"<h3>Other metrics and costs</h3>{_table(section.further, words=(1,))}"
        if section.further is not None
        else ""
    )
    last = len(section.main.headings) - 1
    return (
        f"<h2>{escape(section.title)}: every row</h2>{_plots(section.plots)}"
        f'<p class="quiet">{escape(READING)} A heading sorts.</p>{_table(section.main, words=(1, last))}{further}'
        f"<details><summary>What each row is</summary><dl>{about}</dl></details>"
    )


def _plots(plots: Sequence[Plot]) -> str:
    figures = "".join(
        f"<figure><b>{escape(plot.title)}</b>{plot.svg}<figcaption>{escape(plot.caption)}</figcaption></figure>"
        for plot in plots
    )
    return f'<div class="plots">{figures}</div>' if figures else ""


def _bullets(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_item(item)}</li>" for item in items) + "</ul>"


def _item(text: str) -> str:
    """What a sentence is about, up to its colon, stands out."""
    lead, colon, rest = text.partition(": ")
    return f"<b>{escape(lead)}:</b> {escape(rest)}" if colon and "“" not in lead else escape(text)


def _conditions(conditions: Sequence[tuple[str, str]]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in conditions)
        + "</dl>"
    )


def _table(table: Table, *, words: Sequence[int]) -> str:
    """Return a table that a click on a heading sorts.

    Args:
        table: The table.
        words: The columns that hold words; the second one, with names, stays in sight when the table is moved.
    """
    kinds = [_kind(place, words) for place in range(len(table.headings))]
    heads = "".join(
        f'<th scope="col"{kind} title="{escape(meaning)}"><button type="button">{escape(heading)}</button></th>'
        for kind, (heading, meaning) in zip(kinds, table.headings, strict=True)
    )
    lines = "".join(_line(line, kinds) for line in table.lines)
    return (
        f'<div class="scroll" tabindex="0"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _kind(place: int, words: Sequence[int]) -> str:
    if place not in words:
        return ""
    return ' class="row words"' if place == 1 else ' class="words"'


def _line(line: Line, kinds: Sequence[str]) -> str:
    mark = ' class="marked"' if line.marked else ""
    if line.failed is None:
        cells = "".join(_cell(cell, kind) for cell, kind in zip(line.cells, kinds, strict=True))
        return f"<tr{mark}>{cells}</tr>"
    named = "".join(_cell(cell, kind) for cell, kind in zip(line.cells[:2], kinds[:2], strict=True))
    why = f'<td class="words failed" colspan="{len(kinds) - 2}">{escape(line.failed)}</td>'
    return f"<tr>{named}{why}</tr>"


def _cell(cell: Cell, kind: str) -> str:
    value = f"{cell.sort:.6g}" if isinstance(cell.sort, float) else str(cell.sort)
    sort = "" if cell.sort is None else f' data-sort="{escape(value)}"'
    under = f"<small>{_lines(cell.under.splitlines())}</small>" if cell.under else ""
    text = f'<span class="{cell.tone}">{escape(cell.text)}</span>' if cell.tone else escape(cell.text)
    return f"<td{kind}{sort}>{text}{under}</td>"
