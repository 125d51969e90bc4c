"""How many requests a second does the service answer on this machine, the load generator included?

Releases of the 19,406 icecat products are served over the loopback interface to wrk, which has one thread and eight
connections, each of which sends the next request as soon as the last one is answered; services and wrk share the
cores. "New queries" were never asked before, "repeated" are a hundred queries that were. Compared in turn are
`dualtower serve --processes 1`, which computes with a thread for each core, and `--processes 2` behind one socket, with
half of the threads each. "Encoded" is the share of queries that the service itself counted as encoded rather than found
in its cache. Memory is what it says of itself after the last load, with pages that its processes share counted once.

Embedding is compared with infinity-emb, in fp32 on torch as it installs, with the checkpoint that the bundle was made
from; both answer OpenAI's /v1/embeddings. The texts are icecat titles: 32 in a request with four connections, or one
in a request with sixteen, which a server may join to batches.

Wanted: 300 searches a second for new queries, 900 for repeated ones at a p99 under 50 ms, 700 matches of 100 ids, and
1.5 times the titles a second of infinity-emb.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Report, median, opened, option_parser, parse, rounds, run, spread, times
from benchmarks.proof.bodies import embeddings, matches, new_queries, searches
from benchmarks.proof.infinity import Infinity
from benchmarks.proof.load import numbers
from benchmarks.proof.services import Service, make_release, titles
from benchmarks.proof.wrk import Load, Outcome

IDS = 100
CONNECTIONS = 8
MOST_A_SECOND = 1500  # bodies made for each second of new queries; more than that is not reached
REPEATED = 100
PROCESSES = {"one process": 1, "two processes": 2}
# Texts in a request, and connections.
BATCHES = {"32 titles in a request": (32, 4), "one title in a request": (1, 16)}


def main() -> None:
    parser = option_parser(__doc__, repetitions=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--infinity", type=Path, help="environment that infinity-emb is installed in")
    options = parse(parser)
    if options.quick:
        options.seconds = min(options.seconds, 4.0)
    report = Report("proof_rates", __doc__, options, opened(options), seconds=options.seconds)
    with tempfile.TemporaryDirectory(prefix="dualtower-") as folder, contextlib.ExitStack() as stack:
        trial = Trial(options, Path(folder))
        services = {
            name: stack.enter_context(Service(options, trial.root, processes=count))
            for name, count in PROCESSES.items()
        }
        found = {
            kind: rounds(
                {name: partial(trial.ask, kind, service) for name, service in services.items()},
                options.repetitions,
            )
            for kind in trial.kinds
        }
        report.table("Requests a second", COLUMNS, [row(*names) for names in flat(found)])
        memory = {name: resident_mb(service) for name, service in services.items()}
        report.table("Memory", MEMORY_COLUMNS, [(name, f"{mb:,.0f}") for name, mb in memory.items()])
        against = compare(trial, services["one process"]) if options.infinity else {}
    if against:
        report.table("Titles a second", EMBEDDING_COLUMNS, list(embedding_rows(against)))
    report.finish(
        {"requests": {k: said(v) for k, v in found.items()}, "memory_mb": memory, "embeddings": against}
    )


class Trial:
    """A release, and loads of each kind."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self._folder, self.root = options, folder, folder / "releases"
        self.rows = titles(options)
        make_release(options, self.root, self.rows)
        # Asked again only after tens of thousands of others: no cache of ten thousand has it then.
        self._new = itertools.cycle(list(new_queries(options, self.rows)))
        self._repeated = list(itertools.islice(self._new, REPEATED))
        self._count = int(MOST_A_SECOND * options.seconds)
        match = partial(matches, rows=self.rows, ids=IDS)
        self.kinds: dict[str, tuple[str, Callable[[], list[bytes]]]] = {
            "search, new queries": ("/v1/search", lambda: searches(self._new, self._count)),
            "search, repeated queries": ("/v1/search", lambda: searches(self._repeated, REPEATED)),
            "match of 100 ids, new queries": ("/v1/match", lambda: match(self._new, self._count)),
            "match of 100 ids, repeated queries": (
                "/v1/match",
                lambda: match(self._repeated * 20, REPEATED * 20),
            ),
        }

    def ask(self, kind: str, service: Service) -> tuple[Outcome, float]:
        """Load a service with requests of a kind; what came of it, and the share of queries that were encoded."""
        path, make = self.kinds[kind]
        before = encoded_and_all(service)
        outcome = self.load(service.url, path, make(), CONNECTIONS)
        encoded, everything = (a - b for a, b in zip(encoded_and_all(service), before, strict=True))
        return outcome, encoded / max(everything, 1)

    def load(self, url: str, path: str, bodies: list[bytes], connections: int) -> Outcome:
        """Post bodies to a path."""
        options = {"folder": self._folder, "connections": connections, "seconds": self.options.seconds}
        with Load(url, path, bodies, **options) as load:
            outcome = load.outcome()
        if outcome.failed:
            raise SystemExit(
                f"{path}: {outcome.failed} requests failed: {outcome.statuses}, {outcome.broken}"
            )
        return outcome


def encoded_and_all(service: Service) -> tuple[float, float]:
    """Queries that the service has encoded, and all that it had to have a vector of."""
    text = service.metrics()
    counts = dict(re.findall(r'^dualtower_query_vectors_total{source="(\w+)"} (\S+)$', text, re.MULTILINE))
    return float(counts.get("encoder", 0)), sum(map(float, counts.values()))


def resident_mb(service: Service) -> float:
    """MB in memory, of all its processes."""
    return service.metric("process_resident_memory_bytes") / 2**20


def compare(trial: Trial, service: Service) -> dict[str, dict[str, list[float]]]:
    """Titles a second of dualtower and of infinity-emb, by what a request holds."""
    found = {}
    with Infinity(trial.options.infinity) as infinity:
        for name, (texts, connections) in BATCHES.items():

            def titles_a_second(
                url: str, model: str, texts: int = texts, connections: int = connections
            ) -> float:
                bodies = embeddings(trial.rows, texts=texts, model=model)
                return trial.load(url, "/v1/embeddings", bodies, connections).rate * texts

            contenders = {
                "infinity-emb": partial(titles_a_second, infinity.url, infinity.model),
                "dualtower": partial(titles_a_second, service.url, "dualtower"),
            }
            found[name] = rounds(contenders, trial.options.repetitions)
    return found


# Tables.

Found = dict[str, dict[str, list[tuple[Outcome, float]]]]
COLUMNS = ("", "served by", "requests/s", "min–max", "p50 ms", "p99 ms", "encoded")
MEMORY_COLUMNS = ("served by", "MB")
EMBEDDING_COLUMNS = ("", "infinity-emb", "min–max", "dualtower", "min–max", "times as many", "min–max")


def flat(found: Found) -> Iterator[tuple[str, str, list[tuple[Outcome, float]]]]:
    return ((kind, name, said) for kind, by_name in found.items() for name, said in by_name.items())


def row(kind: str, name: str, found: list[tuple[Outcome, float]]) -> tuple[str, ...]:
    rates = [outcome.rate for outcome, _ in found]
    # The median of the rounds' percentiles, so that one bad round does not hide in all of them.
    latencies = (f"{median([outcome.ms(share) for outcome, _ in found]):.1f}" for share in (50, 99))
    encoded = f"{median([share for _, share in found]):.0%}"
    return (kind, name, f"{median(rates):,.0f}", spread(rates), *latencies, encoded)


def embedding_rows(against: dict[str, dict[str, list[float]]]) -> Iterator[tuple[str, ...]]:
    for name, found in against.items():
        theirs, ours = found["infinity-emb"], found["dualtower"]
        ratio, around = times(ours, theirs)
        shown = (f"{median(theirs):,.0f}", spread(theirs), f"{median(ours):,.0f}", spread(ours))
        yield (name, *shown, f"{ratio:.2f}", around)


def said(by_name: dict[str, list[tuple[Outcome, float]]]) -> dict[str, Any]:
    return {name: [{**numbers(o), "encoded": share} for o, share in found] for name, found in by_name.items()}


if __name__ == "__main__":
    run(main)
