"""How long does a client wait for `dualtower serve`, and how much memory does the service take?

A release of the 19,406 icecat products is built, and two services are started on it as processes of their own
on the loopback interface, with their default settings: one reads title vectors from the memory map, the other
has a real Redis server (no persistence) for title vectors and the query cache. One client with one kept
connection sends one request after another, to both services in turn; its time is from sending the request to
having read the answer. The client, the services and Redis share the machine's cores.

A "new query" was never asked before, so it is encoded; CrowdFlower's queries are sent in up to four spellings
of upper and lower case, which are different to the caches and the same to the model. Each match request names
other titles, drawn at random; sentiment texts are SST-5's. Stages are the milliseconds that the service
itself reports, medians. Memory is the resident set, mapped files included, the most that was seen between
blocks of requests.

Wanted, medians: match in 10 ms, search in 8 ms, memory under 400 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from benchmarks.common import (
    DUALTOWER,
    ICECAT,
    ROOT,
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
    run,
    sample,
)
from tests.redis_server import REDIS_SERVER, RedisServer
from towers.labelled import read_texts

TEXTS = "sentiment/en/sst5_dev.jsonl.gz"
PATIENCE_S = 60.0
ROUTES = {
    "match": "/v1/match, 1,000 ids, new query",
    "match again": "/v1/match, 1,000 ids, repeated query",
    "search": "/v1/search, k=10, new query",
    "sentiment": "/v1/sentiment, one text",
}


def main() -> None:
    parser = option_parser(__doc__, repetitions=4)
    parser.add_argument("--requests", type=int, default=60, help="of each kind in a round")
    parser.add_argument(
        "--releases", type=Path, help="where the release is or goes; default: a temporary folder"
    )
    options = parse(parser)
    if options.quick:
        options.requests = 10
    if REDIS_SERVER is None:
        raise SystemExit("redis-server is missing; on Debian: apt-get install redis-server")
    bundle = opened(options)
    report = Report("serving", __doc__, options, bundle, requests=options.requests)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dualtower-")))
        redis = stack.enter_context(RedisServer())
        releases = options.releases or folder / "releases"
        build_release(options, releases, redis.url)
        served = [
            stack.enter_context(serving(options, releases, folder / f"{name}.log", name=name, redis=url))
            for name, url in (("memory map", None), ("Redis", redis.url))
        ]
        measure(options, served)
    report.table("Milliseconds", COLUMNS, [row for route in ROUTES for row in rows(route, served)])
    report.table(
        "Resident memory of the serving process, MB",
        ("title vectors from", "started", "under load, most"),
        [(service.name, f"{service.started_mb:,.0f}", f"{service.most_mb:,.0f}") for service in served],
    )
    report.finish({service.name: service.measured() for service in served})


def build_release(options: argparse.Namespace, releases: Path, redis: str) -> None:
    """Index the catalogue; a release that is complete is only written to Redis."""
    titles = str(data_file(options, ICECAT))
    command = [*DUALTOWER, "index", titles, "--releases", str(releases), "--redis", redis, "--publish"]
    command += bundle_option(options)
    subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, check=True)


# A service and its client.


class Service:
    """A running `dualtower serve`, a kept connection to it, and what was measured."""

    def __init__(self, name: str, pid: int, port: int) -> None:
        self.name = name
        self._process = psutil.Process(pid)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self.started_mb = self.most_mb = 0.0
        self.spent: dict[str, list[float]] = {route: [] for route in ROUTES}
        self.stages: dict[str, list[dict[str, float]]] = {route: [] for route in ROUTES}

    def ask(self, path: str, body: bytes | None = None) -> tuple[float, Any]:
        """Seconds until the answer was read, and the answer."""
        headers = {"Content-Type": "application/json"}
        start = time.perf_counter()
        self._connection.request("GET" if body is None else "POST", path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        spent = time.perf_counter() - start
        if response.status != 200:
            raise SystemExit(f"{path} answered {response.status}: {content.decode(errors='replace')}")
        return spent, json.loads(content)

    def wait_until_ready(self) -> None:
        """Wait until it has the release and, where it is to use Redis, found it there."""
        source = "redis" if self.name == "Redis" else "memory map"
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.ask("/info")[1]["title_vectors"]) != source:
            if time.monotonic() > deadline:
                raise SystemExit(f"the service takes title vectors from {found}, expected {source}")
            time.sleep(0.1)
        self.started_mb = self._resident_mb()

    def measure(self, route: str, bodies: list[bytes], *, count: bool) -> None:
        """Send requests one after another."""
        path = ROUTES[route].partition(",")[0]
        for body in bodies:
            spent, answer = self.ask(path, body)
            if any("error" in item for item in answer.get("matches", ())):
                raise SystemExit(f"{path} does not know a title that is in the release")
            if count:
                self.spent[route].append(spent * 1000)
                self.stages[route].append(answer["milliseconds"])
        self.most_mb = max(self.most_mb, self._resident_mb())

    def _resident_mb(self) -> float:
        return float(self._process.memory_info().rss) / 2**20

    def stage_medians(self, route: str) -> dict[str, float]:
        """The service's own milliseconds of each stage."""
        return {stage: median([x[stage] for x in self.stages[route]]) for stage in self.stages[route][0]}

    def measured(self) -> dict[str, Any]:
        """Everything, for the JSON."""
        by_route = {
            route: {
                "median_ms": median(spent),
                "p95_ms": percentile(spent, 95),
                "p99_ms": percentile(spent, 99),
                "stages_ms": self.stage_medians(route),
            }
            for route, spent in self.spent.items()
        }
        return {**by_route, "started_mb": self.started_mb, "most_mb": self.most_mb}


@contextlib.contextmanager
def serving(
    options: argparse.Namespace, releases: Path, log: Path, *, name: str, redis: str | None
) -> Iterator[Service]:
    """Run a service while the block lasts."""
    command = [*DUALTOWER, "serve", "--port", "0", "--processes", "1", "--releases", str(releases)]
    command += bundle_option(options)
    command += ["--redis", redis] if redis else []
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output, stderr=output)
    try:
        service = Service(name, process.pid, listening_port(process, log))
        service.wait_until_ready()
        yield service
    finally:
        process.terminate()
        process.wait()


def listening_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the service logs once it listens."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # a line of a library, or one that is being written
                entry = json.loads(line)
                if entry["message"] == "listening":
                    return int(entry["port"])
        time.sleep(0.1)
    raise SystemExit(f"the service did not start:\n{log.read_text(encoding='utf-8')}")


# Requests.


def measure(options: argparse.Namespace, served: list[Service]) -> None:
    """Rounds of each kind of request, to each service in turn; the first round does not count."""
    requests = Requests(options)
    for number in range(options.repetitions + 1):
        for route, make in requests.kinds.items():
            bodies = [make() for _ in range(options.requests if number else min(options.requests, 10))]
            for service in served:  # the same bodies: neither service has seen them
                service.measure(route, bodies, count=number > 0)


class Requests:
    """Makes the bodies of requests."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._rng = np.random.default_rng(0)
        self._ids = [str(row["id"]) for row in icecat(options)]
        self._texts = sample(read_texts(data_file(options, TEXTS)).texts, 10_000)
        self._queries = iter(new_queries(crowdflower_queries(options)))
        self._repeated = next(self._queries)
        self.kinds: dict[str, Callable[[], bytes]] = {
            "match": lambda: self._match(self._new_query()),
            "match again": lambda: self._match(self._repeated),
            "search": lambda: _body(query=self._new_query(), k=10),
            "sentiment": lambda: _body(text=self._texts[int(self._rng.integers(len(self._texts)))]),
        }

    def _match(self, query: str) -> bytes:
        chosen = self._rng.choice(len(self._ids), min(1000, len(self._ids)), replace=False)
        return _body(query=query, title_ids=[self._ids[i] for i in chosen])

    def _new_query(self) -> str:
        try:
            return next(self._queries)
        except StopIteration:
            raise SystemExit("there are not enough different queries; ask for fewer --requests") from None


def new_queries(queries: list[str]) -> list[str]:
    """Every spelling of every query once, shuffled."""
    spellings = [(query.lower(), query.upper(), query.capitalize(), query.title()) for query in queries]
    return sample(list(dict.fromkeys(text for texts in spellings for text in texts)), 10_000)


def _body(**content: Any) -> bytes:
    return json.dumps(content).encode()


# Tables.


COLUMNS = ("", "title vectors from", "median", "p95", "p99", "in the service")


def rows(route: str, served: list[Service]) -> Iterator[tuple[str, ...]]:
    """One row for each service."""
    for service in served:
        spent = service.spent[route]
        numbers = (f"{x:.1f}" for x in (median(spent), percentile(spent, 95), percentile(spent, 99)))
        stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in service.stage_medians(route).items())
        yield (ROUTES[route], service.name, *numbers, stages)


if __name__ == "__main__":
    run(main)
