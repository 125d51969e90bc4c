"""How long does `dualtower index` take over a real catalogue, and what do the kinds of FAISS index cost and find?

The command runs as a process of its own on the 19,406 icecat products, from reading the gzip file to
publishing: into an empty directory, then again unchanged (it finds the release complete), then with one title
changed (all other vectors are copied from the published release). Wall time, processor time and the greatest
memory are the process's own, as the system counts them.

The second table builds each kind of index from the vectors of that release, on one core as the command does,
and searches it as a service does: candidates from FAISS, cosines from the memory map, on one core. Queries
are CrowdFlower's; recall is the share of the true 10 best, as in a release's manifest. "compare all" uses no
index.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    DUALTOWER,
    ICECAT,
    ROOT,
    Floats,
    Report,
    bundle_option,
    crowdflower_queries,
    data_file,
    environment,
    icecat,
    median,
    opened,
    option_parser,
    parse,
    percentile,
    rounds,
    run,
    seconds,
    seconds_each,
    spread,
)
from index.faiss_index import INDEX_FILE, IndexKind, VectorSearch, build_index, choose_kind
from index.recall import measure_recall
from index.release import open_release
from index.vectors import TitleVectors
from towers import Bundle

FIRST, AGAIN, CHANGED = "first build", "the same again", "one title changed"
QUICK = 600  # titles; an IVF index of 256 lists needs as many
CANDIDATES = 100  # what the service asks for when a request does not say
# The service chooses the first for up to 50,000 titles, the second for up to a million; the third has as many lists as
# FAISS can train well on 19,406 vectors (39 vectors for each).
KINDS = (
    choose_kind(1),
    choose_kind(20_000, dim=384),
    choose_kind(1_000_000),
    IndexKind("ivf", "IVF256,SQ8", "nprobe=16"),
)


def main() -> None:
    options = parse(option_parser(__doc__, repetitions=3))
    bundle = opened(options)
    rows, titles = icecat(options), data_file(options, ICECAT)
    with tempfile.TemporaryDirectory(prefix="dualtower-") as folder:
        if options.quick:
            rows, titles = rows[:QUICK], Path(folder) / "titles.jsonl"
            write_titles(titles, rows)
        report = Report("index_build", __doc__, options, bundle, titles=len(rows))
        measured = build(report, options, Path(folder), titles, rows)
        measured["kinds"] = try_kinds(report, options, bundle, Path(folder) / "releases")
    report.finish(measured)


def write_titles(path: Path, rows: list[dict[str, Any]]) -> None:
    """A catalogue as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# The command.


def build(
    report: Report, options: argparse.Namespace, folder: Path, titles: Path, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Run the command in its three situations, each round in an empty directory; the last one is left."""
    changed = folder / "changed.jsonl"
    write_titles(changed, [{**rows[0], "title": f"{rows[0]['title']} (new)"}, *rows[1:]])
    found: dict[str, list[dict[str, float]]] = {FIRST: [], AGAIN: [], CHANGED: []}
    for number in range(options.repetitions):
        releases = folder / f"releases-{number}"
        for what, source in ((FIRST, titles), (AGAIN, titles), (CHANGED, changed)):
            found[what].append(index(options, source, releases))
    releases.rename(folder / "releases")
    report.table(
        f"dualtower index, {len(rows):,} titles",
        ("", "seconds", "min–max", "titles/s", "processor s", "memory MB"),
        [(what, *cells(usages, len(rows))) for what, usages in found.items()],
    )
    return {
        what: {name: median([usage[name] for usage in usages]) for name in usages[0]}
        for what, usages in found.items()
    }


def index(options: argparse.Namespace, titles: Path, releases: Path) -> dict[str, float]:
    """Run `dualtower index` to its end: seconds, processor seconds, and greatest memory in MB."""
    command = [*DUALTOWER, "index", str(titles), "--releases", str(releases), "--publish"]
    command += bundle_option(options)
    log = releases.with_suffix(".log")
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"dualtower index ended with status {process.returncode}:\n{log.read_text()}")
    return {"seconds": wall, "cpu_seconds": used.ru_utime + used.ru_stime, "memory_mb": used.ru_maxrss / 1024}


def cells(usages: list[dict[str, float]], titles: int) -> tuple[str, ...]:
    """What the rounds of one situation took."""
    walls = [usage["seconds"] for usage in usages]
    processor, memory = (median([usage[name] for usage in usages]) for name in ("cpu_seconds", "memory_mb"))
    rate = titles / median(walls)
    return f"{median(walls):.1f}", spread(walls, 1), f"{rate:,.0f}", f"{processor:.1f}", f"{memory:,.0f}"


# The kinds of index.


def try_kinds(
    report: Report, options: argparse.Namespace, bundle: Bundle, releases: Path
) -> dict[str, dict[str, float]]:
    """Build and search each kind."""
    release = open_release(releases, bundle=bundle)
    vectors = TitleVectors(release.path)
    queries = bundle.encode_queries(crowdflower_queries(options)[: 20 if options.quick else None])
    searches: dict[str, VectorSearch] = {}
    measured: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        folder = releases / kind.name
        folder.mkdir()
        built = seconds(partial(build_index, vectors, kind, folder, advance=lambda done: None))
        size = (folder / INDEX_FILE).stat().st_size
        search = VectorSearch(folder, vectors=vectors, kind=kind)
        name = ", ".join(filter(None, (kind.name, kind.factory, kind.search)))
        searches[name] = search
        recall = measure_recall(search, vectors, queries)
        measured[name] = {"build_seconds": built, "bytes": size, "recall@10": recall}
    measured["compare all"] = {"build_seconds": 0.0, "bytes": 0, "recall@10": 1.0}
    for name, values in latencies(searches, vectors, queries, options.repetitions).items():
        measured[name] |= {"median_ms": median(values) * 1000, "p95_ms": percentile(values, 95) * 1000}
    report.table(
        f"Kinds of index, {vectors.count:,} titles, {len(queries)} queries, {CANDIDATES} candidates; "
        f"the release itself: {release.manifest.index_kind}, recall@10 {release.manifest.recall:.4f}",
        ("", "build s", "MB", "recall@10", "median ms", "p95 ms"),
        [(name, *kind_cells(values)) for name, values in measured.items()],
    )
    return measured


def latencies(
    searches: dict[str, VectorSearch], vectors: TitleVectors, queries: np.ndarray, repetitions: int
) -> dict[str, list[Floats]]:
    """Seconds of each search, in rounds."""
    everything = np.arange(vectors.count)
    ways: dict[str, Callable[[np.ndarray], object]] = {
        name: partial(_search, search) for name, search in searches.items()
    }
    ways["compare all"] = lambda query: vectors.search(query, CANDIDATES, rows=everything)
    return rounds({name: partial(seconds_each, way, queries) for name, way in ways.items()}, repetitions)


def _search(search: VectorSearch, query: np.ndarray) -> object:
    return search.search(query, CANDIDATES)


def kind_cells(values: dict[str, float]) -> tuple[str, ...]:
    """One kind's numbers."""
    return (
        f"{values['build_seconds']:.1f}",
        f"{values['bytes'] / 1e6:.1f}",
        f"{values['recall@10']:.4f}",
        f"{values['median_ms']:.2f}",
        f"{values['p95_ms']:.2f}",
    )


if __name__ == "__main__":
    run(main)
