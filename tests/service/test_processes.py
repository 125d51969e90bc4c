"""Several processes behind one socket answer as one would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from index.releases import Releases
from tests.conftest import TINY
from tests.service.served import ROOT, Client, Served, eventually, make_release
from towers import Bundle

COUNT = 2


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> tuple[Path, str, str]:
    """A directory of releases a and b; a is published."""
    root = tmp_path_factory.mktemp("processes") / "releases"
    a, b = (make_release(root, tiny_bundle, prefix=prefix) for prefix in ("a", "b"))
    Releases(root).publish(a)
    return root, a, b


@pytest.fixture(scope="module")
def server(releases: tuple[Path, str, str]) -> Iterator[Served]:
    with Served(releases[0], processes=COUNT) as served:
        yield served


def places(server: Served) -> list[int]:
    """Which process answered each search, in the order of the log."""
    return [line["place"] for line in server.logged("request") if line["route"] == "/v1/search"]


def started(server: Served) -> dict[int, int]:
    """Number and place of each process that has ever answered."""
    lines = [
        line for line in server.log.splitlines() if "Started server process" in line and line.endswith("}")
    ]
    found = (re.search(r"\[(\d+)\].*\"place\": (\d+)", line) for line in lines)
    return {int(match[1]): int(match[2]) for match in found if match}


def search(client: Client, **body: Any) -> tuple[int, Any]:
    return client.ask("POST", "/v1/search", body)


def metrics(client: Client) -> str:
    return str(client.ask("GET", "/metrics")[1])


def value(server: Served, line: str) -> float:
    """What /metrics says, 0 where it says nothing."""
    found = re.search(rf"^{re.escape(line)} (\S+)$", server.get("/metrics")[1], re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_there_is_one_address(server: Served) -> None:
    """It is told once, when every process has its release; each connection then goes to whoever has the fewest."""
    (line,) = server.logged("listening")
    assert line["processes"] == COUNT
    assert len(server.logged("release taken into use")) == COUNT
    clients = [server.connect() for _ in range(6)]
    before = len(places(server))
    assert [search(client, query="red shoe")[0] for client in clients] == [200] * 6
    for client in clients:
        client.__exit__()
    eventually(lambda: len(places(server)) == before + 6, "all are logged")
    assert sorted(places(server)[before:]) == [0, 0, 0, 1, 1, 1]


def test_metrics_are_those_of_all(server: Served) -> None:
    """Whoever is asked says the same sums, and what is not a sum is not added up."""
    counter = 'dualtower_requests_total{route="/v1/search",status="200"}'
    before = value(server, counter)
    with server.connect() as one, server.connect() as two:
        for _ in range(5):
            search(one, query="blue phone")
            search(two, query="blue phone")
        for client in (one, two):
            # A request is counted just after its answer has gone out.
            eventually(
                lambda client=client: f"{counter} {before + 10}\n" in metrics(client), "all are counted"
            )
            eventually(lambda client=client: "in_flight 1.0\n" in metrics(client), "this one is in flight")
            text = metrics(client)
            assert len(re.findall("^dualtower_release_info{", text, re.MULTILINE)) == 1
            assert "dualtower_release_titles 200.0\n" in text
    parent = psutil.Process(server.process.pid)
    assert value(server, "process_start_time_seconds") == pytest.approx(parent.create_time(), abs=1)
    memory = value(server, "process_resident_memory_bytes")
    rss = [process.memory_info().rss for process in [parent, *parent.children()]]
    assert max(rss) < memory < sum(rss)


def test_a_query_id_is_known_to_all(server: Served) -> None:
    """Without Redis, too: what one process has encoded no other encodes again."""
    with server.connect() as one, server.connect() as two:
        text = "a query of its own"
        encoded = 'dualtower_query_vectors_total{source="encoder"}'
        before = value(server, encoded)
        query_id = search(one, query=text)[1]["query_id"]
        status, answer = search(two, query_id=query_id)
        assert status == 200
        assert answer["matches"] == search(one, query=text)[1]["matches"]
        search(two, query=text)
        assert value(server, encoded) == before + 1
        assert search(two, query_id="0" * 64)[0] == 404


def used(server: Served) -> list[str]:
    """The releases that /metrics names."""
    return re.findall(r'^dualtower_release_info{.*version="(\w+)"', server.get("/metrics")[1], re.MULTILINE)


def test_all_follow_a_publish(server: Served, releases: tuple[Path, str, str]) -> None:
    """Each process takes it into use, and /metrics names no other release then."""
    root, a, b = releases
    clients = [server.connect() for _ in range(COUNT)]
    for version in (b, a):
        Releases(root).publish(version)
        eventually(
            lambda version=version: (
                {client.ask("GET", "/health/ready")[1]["release"] for client in clients} == {version}
            ),
            "all use the release",
        )
        eventually(lambda version=version: used(server) == [version], "and /metrics names no other")
    for client in clients:
        client.__exit__()


def test_a_killed_process_is_replaced(releases: tuple[Path, str, str], tmp_path: Path) -> None:
    """The other one goes on; counters do not fall, and what was in work with the dead one is forgotten."""
    with Served(releases[0], processes=COUNT, log=tmp_path / "serve.log") as server:
        clients = [server.connect() for _ in range(COUNT)]
        for client in clients:
            assert search(client, query="red shoe")[0] == 200
        eventually(lambda: len(places(server)) == COUNT, "both are logged")
        place = places(server)[0]
        counter = 'dualtower_requests_total{route="/v1/search",status="200"}'
        (victim,) = (pid for pid, where in started(server).items() if where == place)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: server.logged("a process has ended, another one takes its place") != [], "told")
        assert search(clients[1], query="red shoe")[0] == 200
        eventually(lambda: len(started(server)) == COUNT + 1, "a new one is started")
        eventually(lambda: len(server.logged("release taken into use")) == COUNT + 1, "and has its release")
        assert value(server, "dualtower_process_restarts_total") == 1
        eventually(lambda: value(server, counter) == 3, "counters go on")
        eventually(lambda: value(server, "dualtower_requests_in_flight") == 1, "nothing else is in flight")
        (line,) = server.logged("a process has ended, another one takes its place")
        assert (line["place"], line["exit_status"]) == (place, -signal.SIGKILL)
        # A connection of its own goes to whoever has the fewest: the new one, as soon as it is ready.
        eventually(
            lambda: server.post("/v1/search", query="red shoe")[0] == 200 and place in places(server)[3:],
            "the new one answers, too",
        )
        for client in clients:
            client.__exit__()
        server.stop()
        assert server.process.wait(30) == 0


def test_a_stop_drains_all(releases: tuple[Path, str, str], tmp_path: Path) -> None:
    """Requests are still taken while ready is 503; a second signal ends that, and nobody is left."""
    with Served(releases[0], processes=COUNT, drain_s=60, log=tmp_path / "serve.log") as server:
        family = psutil.Process(server.process.pid).children()
        server.stop()
        clients = [server.connect() for _ in range(COUNT)]
        for client in clients:
            eventually(lambda client=client: client.ask("GET", "/health/ready")[0] == 503, "ready is 503")
        assert server.post("/v1/search", query="red shoe")[0] == 200
        server.stop(signal.SIGINT)
        assert server.process.wait(30) == 0
        assert len(server.logged("stopped")) == COUNT
        gone, alive = psutil.wait_procs(family, 10)
        assert (len(gone) >= COUNT, alive) == (True, [])


def test_nobody_outlives_the_parent(releases: tuple[Path, str, str], tmp_path: Path) -> None:
    """Killed it can tell nobody; the others notice and end."""
    with Served(releases[0], processes=COUNT, log=tmp_path / "serve.log") as server:
        family = psutil.Process(server.process.pid).children()
        server.process.kill()
        server.process.wait()
        assert psutil.wait_procs(family, 20)[1] == []
        assert len(server.logged("the parent process has gone")) == COUNT


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"DUALTOWER_API_KEYS": "shop:nonsense"}, "is not NAME:SHA256"),
        ({"DUALTOWER_BUNDLE": "/nowhere"}, "/nowhere is no bundle"),
        ({"DUALTOWER_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
        ({"DUALTOWER_PROCESSES": "0"}, "setting processes"),
    ],
)
def test_bad_settings_start_no_process(given: dict[str, str], said: str, tmp_path: Path) -> None:
    """The parent finds them by itself, and says so once."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DUALTOWER_")}
    environ |= {"DUALTOWER_PROCESSES": "2", "DUALTOWER_PORT": "0", "DUALTOWER_BUNDLE": str(TINY)} | given
    done = subprocess.run(
        [sys.executable, "-m", "dualtower", "serve", "--releases", str(tmp_path)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    errors = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert errors.count(said) == 1
    assert "Traceback" not in errors


def test_a_rate_limit_is_that_of_all_processes(releases: tuple[Path, str, str]) -> None:
    """Requests on connections of their own, which both processes get: a burst of six passes, whoever is asked."""
    with Served(releases[0], processes=COUNT, rate_limit=0.001, rate_burst=6) as server:
        found = []
        for _ in range(12):
            with server.connect() as client:
                found.append(search(client, query="red shoe", k=1)[0])
        assert sorted(found) == [200] * 6 + [429] * 6
        assert set(places(server)) == set(range(COUNT))
