"""The proof's own arithmetic: percentiles, slopes, what counts as failed, and what its scripts send."""

from __future__ import annotations

import itertools
import json
import re
import threading
from argparse import Namespace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import ROOT
from benchmarks.proof.bodies import embeddings, matches, searches
from benchmarks.proof.contract import TESTS, read_junit
from benchmarks.proof.load import memory_rows
from benchmarks.proof.numbers import percentile_of, slope, together
from benchmarks.proof.services import Memory, Service, family, shared_directories
from benchmarks.proof.wrk import Load, of_several, read_outcome
from index.releases import Releases
from tests.conftest import TINY
from tests.service.served import eventually, make_release
from tests.tools import need
from towers import Bundle

SAID = (
    '{"microseconds": 2000000, "requests": 100, "errors": {"connect": 1, "read": 2, "write": 0, "timeout": 3, '
    '"status": 30}, "statuses": {"s200": 70, "s429": 20, "s502": 10}, "latencies": [[1000, 90], [50000, 10]]}'
)
ROWS = [{"id": f"p-{i}", "title": f"title {i}", "supplier": "ACME"} for i in range(20)]


def test_percentiles_of_counted_values() -> None:
    """Ninety of 1 and ten of 5: 90% are not above 1, a little more are only not above 5."""
    counted = {1: 90, 5: 10}
    assert [percentile_of(counted, share) for share in (0, 50, 90, 90.1, 100)] == [1, 1, 1, 5, 5]
    assert np.isnan(percentile_of({}, 50))


@given(
    values=st.lists(st.integers(0, 50), min_size=1, max_size=300),
    share=st.sampled_from([0.0, 1, 50, 90, 99, 99.9, 100]),
)
def test_percentiles_are_those_of_the_values_one_by_one(values: list[int], share: float) -> None:
    """The twin sorts every single value; numpy's name for the same rule is inverted_cdf."""
    counted = {value: values.count(value) for value in values}
    assert percentile_of(counted, share) == np.percentile(values, share, method="inverted_cdf")


def test_what_was_counted_apart_is_counted_together() -> None:
    """Same values add up."""
    assert together([{1: 2, 3: 1}, {}, {3: 4}]) == {1: 2, 3: 5}


def test_a_slope_of_a_line_is_found_and_certain() -> None:
    """100 MB and 7 MB more every hour, without noise."""
    hours = np.linspace(0, 0.25, 180)
    found = slope(hours, 100 + 7 * hours, blocks=30)
    assert (found.value, found.low, found.high) == pytest.approx((7, 7, 7))


def test_the_interval_holds_the_true_slope_as_often_as_it_says() -> None:
    """In 95 of 100 draws of noise that lasts for a few samples, give or take; by points alone it would be far fewer."""
    random, hours, kernel = np.random.default_rng(0), np.linspace(0, 0.25, 180), np.ones(3) / 3
    held = 0
    for _ in range(400):
        noise = np.convolve(random.normal(size=182), kernel, mode="valid")
        found = slope(hours, 2 * hours + noise, blocks=15)
        held += found.low <= 2 <= found.high
    assert 0.90 <= held / 400 <= 0.99


def test_a_slope_wants_three_blocks() -> None:
    """Two points always lie on a line."""
    with pytest.raises(ValueError, match="at least three blocks"):
        slope([1, 2, 3], [1, 2, 3], blocks=2)


def test_what_counts_as_failed() -> None:
    """No answer, or another than 200; 429 is counted by itself, and wrk's own count of statuses not twice."""
    outcome = read_outcome(SAID)
    assert (outcome.failed, outcome.refused, outcome.rate) == (1 + 2 + 3 + 10, 20, 35)
    assert (outcome.ms(50), outcome.ms(99)) == (1.0, 50.0)


def test_loads_at_the_same_time_are_one() -> None:
    """Counts add up; the time does not."""
    both = of_several([read_outcome(SAID)] * 2)
    assert (both.seconds, both.requests, both.failed, both.rate) == (2, 200, 32, 70)


def test_memory_over_time_in_parts() -> None:
    """Means and the most of each part."""
    memory = Memory()
    memory.seconds, memory.resident_mb, memory.private_mb = [0, 1, 2, 3], [1, 3, 5, 5], [1, 1, 2, 4]
    assert memory_rows(memory, parts=2) == [
        ("0", "1", "2.0", "3.0", "1.0", "1.0"),
        ("2", "3", "5.0", "5.0", "3.0", "4.0"),
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_service_is_all_of_its_processes(tiny_bundle: Bundle, tmp_path: Path, processes: int) -> None:
    """Its memory is theirs together; killed or ended it leaves nobody behind, and nothing in memory."""
    root = tmp_path / "releases"
    version = make_release(root, tiny_bundle, prefix="a")
    Releases(root).publish(version)
    memory = Memory()
    with Service(Namespace(bundle=TINY), root, processes=processes, files=200) as service:
        answering = service.answering()
        assert len(answering) == processes
        assert (service.pid in {process.pid for process in answering}) == (processes == 1)
        assert [process.rlimit(psutil.RLIMIT_NOFILE) for process in answering] == [(200, 200)] * processes
        assert service.releases() == [version]
        assert service.title_vectors() == {"memory map"}
        with memory.of(service.pid, every_s=60):
            pass
        everyone = family(service.pid)
        sizes = [process.memory_info().rss / 2**20 for process in everyone]
        assert max(sizes) / 2 < memory.private_mb[0] <= memory.resident_mb[0] < sum(sizes) + 1
        shared = shared_directories(everyone)
        if processes > 1:
            service.kill_one()
            assert len(service.answering()) == processes
            assert {one.pid for one in service.answering()} & {one.pid for one in answering}
            everyone += family(service.pid)
        service.kill()
        assert psutil.wait_procs(everyone, 10)[1] == []
        service.start()
        assert service.ready()
        everyone = family(service.pid)
        shared |= shared_directories(everyone)
    assert psutil.wait_procs(everyone, 10)[1] == []
    assert [directory for directory in shared if directory.exists()] == []


def test_bodies_are_requests() -> None:
    """As many as asked for where queries do not end; ids are products, and none is named twice in a request."""
    queries = (f"q{i}" for i in itertools.count())
    assert [json.loads(body)["query"] for body in searches(queries, 2)] == ["q0", "q1"]
    asked = [json.loads(body) for body in matches(queries, 3, ROWS, ids=5)]
    assert [one["query"] for one in asked] == ["q2", "q3", "q4"]
    assert all(len(set(one["title_ids"]) & {row["id"] for row in ROWS}) == 5 for one in asked)
    batches = [json.loads(body)["input"] for body in embeddings(ROWS, texts=6, model="m")]
    assert [len(batch) for batch in batches] == [6, 6, 6]


class Answers(BaseHTTPRequestHandler):
    """Notes what comes, and answers every fourth with 429."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, body))
        self.send_response(429 if len(self.seen) % 4 == 0 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *parts: object) -> None:
        """Say nothing."""


def test_wrk_posts_the_bodies_in_their_order_and_counts_the_answers(tmp_path: Path) -> None:
    """What the server saw is what the script says, for a real wrk that is ended before its time."""
    need("wrk", "wrk")
    Answers.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url, bodies = f"http://127.0.0.1:{server.server_port}", [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']
        with Load(url, "/v1/x", bodies, folder=tmp_path, connections=1, seconds=60) as load:
            eventually(lambda: len(Answers.seen) >= 20, "requests from wrk")
            load.end()
            outcome = load.outcome()
        server.shutdown()
        thread.join()
    # wrk may end while one is on its way.
    assert outcome.requests <= len(Answers.seen) <= outcome.requests + 2
    assert outcome.failed == 0
    assert outcome.refused == pytest.approx(outcome.requests // 4, abs=1)
    numbers = [body["n"] for _, body in Answers.seen]
    assert all(after == (before + 1) % 3 for before, after in itertools.pairwise(numbers))
    assert {path for path, _ in Answers.seen} == {"/v1/x"}


def test_every_proof_has_a_section() -> None:
    """A script that reports but has no markers would never show its tables, nor run in `make proof`."""
    scripts = {
        path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks/proof").glob("*.py")
    }
    reports = {match[1] for text in scripts.values() for match in re.finditer(r'Report\(\s*"(\w+)"', text)}
    page = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert reports == set(re.findall(r"<!-- results of (proof_\w+) -->", page))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {
        f"proof_{name}" for name in re.search(r"^PROOF := (.*)$", makefile, re.MULTILINE)[1].split()
    } == reports  # type: ignore[index]


def test_what_pytest_says_is_counted() -> None:
    """A test that was skipped has proven nothing; suites add up."""
    suites = '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1" time="2.5"/>'
    found = read_junit(
        f'{suites}<testsuite tests="2" failures="0" errors="0" skipped="0" time="1"/></testsuites>'
    )
    assert (found.tests, found.failed, found.seconds) == (7, 3, 3.5)


def test_tests_of_the_proof_exist() -> None:
    """By their names, so that one that is renamed is missed here and not only an hour later."""
    for test in itertools.chain.from_iterable(TESTS.values()):
        file, *names = test.split("::")
        text = (ROOT / "tests" / "service" / file).read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf"(def|class) {name}\b", text), test
