"""Does the service hold when search, match and sentiment are saturated together, and what do requests then cost?

A release of the 19,406 icecat products is served with the default settings: by a process for each core and a parent
that hands them connections. Three wrk post to it at the same time for two minutes over the loopback interface, each
with connections of its own, each sending the next request as soon as the last one is answered: searches and matches
with 100 ids, half of them for queries that were never asked before, and sentences for sentiment. Load and service
share the machine's cores. Latency is wrk's, of all answers. Memory is looked at every second and is that of all
processes together: resident with mapped files, where a page that several have counts once, and private to each.

Wanted: no failed request, and no more memory at the end than after the first half minute.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Report, opened, option_parser, parse, run
from benchmarks.proof.bodies import matches, new_queries, searches, sentiments
from benchmarks.proof.services import Memory, Service, default_processes, make_release, titles
from benchmarks.proof.wrk import Load, Outcome

IDS = 100
ENOUGH = 20_000  # bodies of a kind; longer loads ask the first ones again, which are in the cache then
COLUMNS = ("", "requests/s", "p50 ms", "p90", "p99", "p99.9", "longest", "refused (429)", "failed")


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the load lasts")
    parser.add_argument("--connections", type=int, default=4, help="of each of the three kinds")
    options = parse(parser)
    if options.quick:
        options.seconds = 5.0
    bundle = opened(options)
    asked = {
        "processes": default_processes(),
        "seconds": options.seconds,
        "connections of each kind": options.connections,
    }
    report = Report("proof_load", __doc__, options, bundle, **asked)
    with tempfile.TemporaryDirectory(prefix="dualtower-") as folder:
        rows = titles(options)
        root = Path(folder) / "releases"
        make_release(options, root, rows)
        memory = Memory()
        with Service(options, root) as service, memory.of(service.pid, every_s=1.0):
            outcomes = saturate(options, service.url, rows, Path(folder), seconds=options.seconds)
    report.table("Requests by route, all at the same time", COLUMNS, outcome_rows(outcomes))
    report.table("Memory of the service, all processes, MB", MEMORY_COLUMNS, memory_rows(memory, parts=4))
    report.finish(
        {"routes": {route: numbers(one) for route, one in outcomes.items()}, "memory": vars(memory)}
    )


def mixed_bodies(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> dict[str, list[bytes]]:
    """Bodies for each route; every second query is one of a hundred that come again and again."""
    fresh = new_queries(options, rows)
    known = [next(fresh) for _ in range(100)]

    def half_new(count: int) -> list[str]:
        return [known[i // 2 % len(known)] if i % 2 else next(fresh) for i in range(count)]

    count = 500 if options.quick else ENOUGH
    return {
        "/v1/search": searches(half_new(count), count),
        "/v1/match": matches(half_new(count), count, rows, ids=IDS),
        "/v1/sentiment": sentiments(options),
    }


def saturate(
    options: argparse.Namespace, url: str, rows: Sequence[dict[str, Any]], folder: Path, *, seconds: float
) -> dict[str, Outcome]:
    """Three loads at the same time; what came of each."""
    connections = options.connections
    with contextlib.ExitStack() as stack:
        loads = {}
        for path, bodies in mixed_bodies(options, rows).items():
            load = Load(url, path, bodies, folder=folder, connections=connections, seconds=seconds)
            loads[path] = stack.enter_context(load)
        return {path: load.outcome() for path, load in loads.items()}


def outcome_rows(outcomes: dict[str, Outcome]) -> list[tuple[str, ...]]:
    """One row for each."""
    return [
        (
            name,
            f"{one.rate:,.0f}",
            *(f"{one.ms(share):,.1f}" for share in (50, 90, 99, 99.9, 100)),
            f"{one.refused:,}",
            f"{one.failed:,}",
        )
        for name, one in outcomes.items()
    ]


def numbers(one: Outcome) -> dict[str, Any]:
    """An outcome for the JSON."""
    shares = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "longest": 100}
    return {
        "seconds": one.seconds,
        "requests": one.requests,
        "good_per_second": one.rate,
        "milliseconds": {name: one.ms(share) for name, share in shares.items()},
        "statuses": one.statuses,
        "broken": one.broken,
        "failed": one.failed,
    }


MEMORY_COLUMNS = (
    "from second",
    "to second",
    "resident, mean",
    "resident, most",
    "private, mean",
    "private, most",
)


def memory_rows(memory: Memory, *, parts: int) -> list[tuple[str, ...]]:
    """The time in equal parts, one row for each."""
    split = (
        np.array_split(np.array(x), parts) for x in (memory.seconds, memory.resident_mb, memory.private_mb)
    )
    return [
        (f"{t[0]:,.0f}", f"{t[-1]:,.0f}", *(f"{x:,.1f}" for y in (r, p) for x in (y.mean(), y.max())))
        for t, r, p in zip(*split, strict=True)
    ]


if __name__ == "__main__":
    run(main)
