"""Writes the report of a comparison: report.json, report.md with its figures, and a page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from towers.train.compare.markdown import markdown
from towers.train.compare.page import page
from towers.train.compare.results import Results, write_whole
from towers.train.compare.svg import standalone
from towers.train.compare.told import tell

JSON, MARKDOWN, PAGE, FIGURES = "report.json", "report.md", "report.html", "figures"


def write_reports(results: Results, out: Path) -> None:
    """Write all reports into a folder, each file whole or not at all; the same results give the same bytes.

    Args:
        results: What was found; rows may have failed, and curves may be missing.
        out: The folder; made where it does not exist.

    Raises:
        InputError: The results hold a value that cannot be written; nothing is written then.
    """
    results.to_json()  # before anything else is written
    told = tell(results)
    plots = [plot for section in told.sections for plot in section.plots] + told.proofs + told.curves
    for plot in plots:
        write_whole(out / FIGURES / f"{plot.name}.svg", standalone(plot.svg))
    write_whole(out / MARKDOWN, markdown(told, FIGURES))
    write_whole(out / PAGE, page(told))
    results.write(out / JSON)
