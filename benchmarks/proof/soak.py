"""Does the service's memory stay flat?

A service as for the load, with as many processes as by default, and the same three kinds of requests at the same time,
but with a connection of each kind for each process. Before anything counts, the caches are filled: as many queries as
all processes keep are asked, and then the load runs for three minutes more. Then memory is looked at every five
seconds for fifteen minutes while the load goes on. The slope is that of the line of least squares through the means of
half minutes, with its 95% confidence interval by Student's t. Memory is that of all processes: "private" is what no
other process could share, "resident" has the mapped files of the release and what the processes share, too, each page
once.

Wanted: a slope whose confidence interval has zero in it, or that is less than 5 MB an hour.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Report, opened, option_parser, parse, run
from benchmarks.proof.bodies import new_queries, searches
from benchmarks.proof.load import COLUMNS, numbers, outcome_rows, saturate
from benchmarks.proof.numbers import Slope, slope
from benchmarks.proof.services import Memory, Service, default_processes, make_release, titles
from benchmarks.proof.wrk import Load
from service.settings import Settings

BLOCK_S = 30.0
QUERIES_KEPT = Settings.model_fields["query_cache"].default


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=900.0, help="how long memory is watched")
    parser.add_argument("--settle", type=float, default=180.0, help="seconds of load before that")
    options = parse(parser)
    if options.quick:
        options.seconds, options.settle = 6.0, 2.0
    options.connections = default_processes()
    bundle = opened(options)
    asked = {
        "processes": default_processes(),
        "seconds": options.seconds,
        "seconds before": options.settle,
        "connections of each kind": options.connections,
    }
    report = Report("proof_soak", __doc__, options, bundle, **asked)
    with tempfile.TemporaryDirectory(prefix="dualtower-") as folder:
        rows = titles(options)
        root = Path(folder) / "releases"
        make_release(options, root, rows)
        memory = Memory()
        with Service(options, root) as service:
            fill(options, service.url, rows, Path(folder))
            saturate(options, service.url, rows, Path(folder), seconds=options.settle)
            with memory.of(service.pid, every_s=0.2 if options.quick else 5.0):
                outcomes = saturate(options, service.url, rows, Path(folder), seconds=options.seconds)
    slopes = rises(memory, blocks=max(3, round(options.seconds / BLOCK_S)))
    report.table(
        "Memory of the service, all processes",
        MEMORY_COLUMNS,
        [memory_row(memory, *one) for one in slopes.items()],
    )
    report.table("Requests by route, all at the same time", COLUMNS, outcome_rows(outcomes))
    report.finish(
        {
            "mb_per_hour": {name: vars(one) for name, one in slopes.items()},
            "routes": {route: numbers(one) for route, one in outcomes.items()},
            "memory": vars(memory),
        }
    )


def fill(options: argparse.Namespace, url: str, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Ask as many different queries as all processes keep vectors of."""
    count = 300 if options.quick else QUERIES_KEPT * default_processes()
    bodies = searches(new_queries(options, rows), count)
    left = count
    while left > 0:
        seconds = 1.0 if options.quick else 10.0
        with Load(url, "/v1/search", bodies[-left:], folder=folder, connections=4, seconds=seconds) as load:
            left -= load.outcome().requests


def rises(memory: Memory, *, blocks: int) -> dict[str, Slope]:
    """MB an hour of what is private and of what is resident."""
    hours = [second / 3600 for second in memory.seconds]
    return {
        "private": slope(hours, memory.private_mb, blocks=blocks),
        "resident": slope(hours, memory.resident_mb, blocks=blocks),
    }


MEMORY_COLUMNS = ("", "first MB", "last MB", "most MB", "MB per hour", "95%")


def memory_row(memory: Memory, name: str, found: Slope) -> tuple[str, ...]:
    """One kind of memory."""
    values = memory.private_mb if name == "private" else memory.resident_mb
    shown = (f"{values[0]:,.1f}", f"{values[-1]:,.1f}", f"{max(values):,.1f}")
    return (name, *shown, f"{found.value:+.1f}", f"{found.low:+.1f} to {found.high:+.1f}")


if __name__ == "__main__":
    run(main)
