"""A real server process, real releases and a real Redis, and what goes wrong around them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as RedisClient

from index.releases import Releases
from tests.redis_server import RedisServer
from tests.service.served import Served, eventually, make_release, publish_by_hand
from towers import Bundle


class OtherBundle:
    """The tiny bundle under another id: its vectors must not be mixed with the tiny bundle's."""

    bundle_id = titles_id = "0123456789abcdef" * 4

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bundle, name)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> tuple[Path, str, str]:
    """A directory with two releases, whose ids and texts start with a and b."""
    root = tmp_path_factory.mktemp("served") / "releases"
    return root, make_release(root, tiny_bundle, prefix="a"), make_release(root, tiny_bundle, prefix="b")


@pytest.fixture(scope="module")
def server(releases: tuple[Path, str, str]) -> Iterator[Served]:
    """One server for all tests that only publish; each of them starts by publishing a."""
    Releases(releases[0]).publish(releases[1])
    with Served(releases[0], body_timeout_s=1) as server:
        yield server


@pytest.fixture
def serving_a(server: Served, releases: tuple[Path, str, str]) -> Served:
    """The server with release a in use and nothing wrong."""
    root, a, _ = releases
    publish_by_hand(root, a)
    eventually(
        lambda: server.ready() == {"ready": True, "not_ready": [], "degraded": [], "release": a},
        "release a in use",
    )
    return server


@contextmanager
def load(server: Served, path: str, body: dict[str, Any], *, clients: int = 4) -> Iterator[list[Any]]:
    """Clients that ask the same again and again; gives the list of (status, answer), which grows meanwhile."""
    answers: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        with server.connect() as client:
            while not stop.is_set():
                try:
                    answers.append(client.ask("POST", path, body))
                except Exception as exc:
                    answers.append((0, repr(exc)))
                    return

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(answers) >= 10, "the first answers under load")
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def some_more(answers: list[Any], count: int = 30) -> None:
    """Wait until some more requests were answered."""
    enough = len(answers) + count
    eventually(lambda: len(answers) >= enough, "more answers under load")


def test_publish_and_rollback_under_load_fail_no_request(
    serving_a: Served, releases: tuple[Path, str, str]
) -> None:
    """Each answer comes whole from one release, the old or the new one, and none fails."""
    root, a, b = releases
    publisher = Releases(root)
    with load(serving_a, "/v1/search", {"query": "red shoe", "k": 5}) as answers:
        for _ in range(4):
            publisher.publish(b)
            eventually(lambda: serving_a.ready()["release"] == b, "release b in use")
            some_more(answers)
            assert publisher.rollback() == a
            eventually(lambda: serving_a.ready()["release"] == a, "release a in use again")
            some_more(answers)
    assert {status for status, _ in answers} == {200}
    for _, answer in answers:
        assert {found["fields"]["release"] for found in answer["matches"]} == {
            "a" if answer["release"] == a else "b"
        }
    assert {answer["release"] for _, answer in answers} == {a, b}


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_corrupt_release_is_refused_and_the_old_one_stays(
    serving_a: Served, releases: tuple[Path, str, str], damage: str
) -> None:
    """Ready stays 200 and says why; once the release is whole it is taken, without a restart."""
    root, a, b = releases
    vectors, kept = root / b / "vectors.npy", root.parent / "kept.npy"
    shutil.copy(vectors, kept)
    data = kept.read_bytes()
    try:
        vectors.unlink()
        if damage != "missing":
            vectors.write_bytes(data[:-100] if damage == "truncated" else data[:-100] + bytes(100))
        with load(serving_a, "/v1/match", {"query": "red", "title_ids": ["a-1"]}, clients=1) as answers:
            publish_by_hand(root, b)
            eventually(lambda: serving_a.ready()["degraded"] != [], "the refusal")
            status, ready = serving_a.get("/health/ready")
            assert (status, ready["release"]) == (200, a)
            assert "vectors.npy" in ready["degraded"][0]
            assert f"release {a} stays in use" in ready["degraded"][0]
            assert serving_a.metric("dualtower_release_refused") == 1
            some_more(answers)
            os.replace(kept, vectors)
            eventually(lambda: serving_a.ready()["release"] == b, "the mended release in use")
        assert {status for status, _ in answers} == {200}
        assert serving_a.ready()["degraded"] == []
    finally:
        vectors.write_bytes(data)


def test_a_release_of_another_bundle_is_refused(
    serving_a: Served, releases: tuple[Path, str, str], tiny_bundle: Bundle
) -> None:
    """Both bundles are named, and the old release stays."""
    root, a, _ = releases
    foreign = make_release(root, OtherBundle(tiny_bundle), prefix="c")
    publish_by_hand(root, foreign)
    eventually(lambda: serving_a.ready()["degraded"] != [], "the refusal")
    ready = serving_a.ready()
    assert (ready["ready"], ready["release"]) == (True, a)
    assert "BundleMismatchError" in ready["degraded"][0]
    assert tiny_bundle.bundle_id[:8] in ready["degraded"][0]
    assert "01234567" in ready["degraded"][0]


def test_nonsense_in_current_is_named(serving_a: Served, releases: tuple[Path, str, str]) -> None:
    """A version that does not exist, and a file that is no JSON."""
    root, a, _ = releases
    publish_by_hand(root, "f" * 16)
    eventually(lambda: "f" * 16 in str(serving_a.ready()["degraded"]), "the missing version is named")
    (root / "CURRENT").write_text("latest")
    eventually(lambda: "cannot be read" in str(serving_a.ready()["degraded"]), "the broken file is named")
    assert serving_a.ready()["release"] == a


def test_a_large_body_is_refused_while_it_is_still_coming(serving_a: Served) -> None:
    """413 with the bound; the service goes on."""
    with serving_a.connect() as client:
        status, answer = client.ask("POST", "/v1/match", {"query": "a", "titles": ["x" * 5_000_000]})
    assert (status, answer["error_type"]) == (413, "TooLargeError")
    assert serving_a.get("/health/live") == (200, {"live": True})


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(serving_a: Served) -> None:
    """It is counted as the client's doing, and nothing is logged as unforeseen."""
    with socket.create_connection(("127.0.0.1", serving_a.port)) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"query":'
        )
    eventually(
        lambda: 'route="/v1/search",status="400"' in serving_a.get("/metrics")[1],
        "the broken request is counted",
    )
    assert serving_a.logged("unforeseen error") == []


def test_a_client_that_never_finishes_its_body_is_sent_away(serving_a: Served) -> None:
    """It gets 408 and holds nothing: while it dawdles, others are served."""
    with socket.create_connection(("127.0.0.1", serving_a.port)) as connection:
        connection.sendall(b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert serving_a.post("/v1/search", query="red shoe")[0] == 200
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_without_any_release_texts_match_and_the_first_one_is_picked_up(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    """Not ready until something is published; what needs no release is answered before."""
    root = tmp_path / "releases"
    with Served(root) as server:
        status, ready = server.get("/health/ready")
        assert status == 503
        assert "no release is published" in ready["not_ready"][0]
        assert server.post("/v1/match", query="red shoe", titles=["red shoe"])[0] == 200
        status, answer = server.post("/v1/search", query="red shoe")
        assert (status, answer["error_type"]) == (503, "NoReleaseError")
        version = make_release(root, tiny_bundle, prefix="a")
        Releases(root).publish(version)
        eventually(lambda: server.get("/health/ready")[0] == 200, "the first release in use")
        assert server.post("/v1/search", query="red shoe")[0] == 200


@pytest.fixture
def with_redis(
    tmp_path: Path, tiny_bundle: Bundle, redis_factory: Callable[[], RedisServer]
) -> tuple[Path, RedisServer, Callable[[], str]]:
    """A release that is also in Redis, that Redis, and a way to write it there again."""
    root, redis = tmp_path / "releases", redis_factory()

    def write() -> str:
        return make_release(root, tiny_bundle, prefix="a", redis_url=redis.url)

    Releases(root).publish(write())
    return root, redis, write


BY_ID = {"query": "red shoe", "title_ids": [f"a-{i}" for i in range(100)] + ["nope"]}


def test_redis_stops_in_the_middle_of_requests_and_comes_back(
    with_redis: tuple[Path, RedisServer, Callable[[], str]],
) -> None:
    """Every request is answered, and the same; ready, metrics and one log line say what happened."""
    root, redis, write = with_redis
    with Served(root, "--redis", redis.url) as server:
        assert server.get("/info")[1]["title_vectors"] == "redis"
        with load(server, "/v1/match", BY_ID) as answers:
            some_more(answers)
            redis.stop()
            eventually(lambda: server.ready()["degraded"] != [], "the loss is noticed")
            status, ready = server.get("/health/ready")
            assert status == 200
            assert ready["degraded"][0].startswith("redis: ")
            assert server.metric("dualtower_redis_up") == 0
            some_more(answers)
            redis.start()  # empty: what it held is lost
            eventually(
                lambda: "not there completely" in str(server.ready()["degraded"]), "Redis is back, empty"
            )
            some_more(answers)
            write()
            eventually(lambda: server.ready()["degraded"] == [], "Redis is used again")
            some_more(answers)
            assert server.get("/info")[1]["title_vectors"] == "redis"
            assert server.metric("dualtower_redis_up") == 1
        assert {status for status, _ in answers} == {200}
        first = answers[0][1]["matches"]
        assert first[-1]["error_type"] == "UnknownTitleError"
        assert all(answer["matches"] == first for _, answer in answers)
        assert len(server.logged("redis down, going on without it")) == 1
        assert len(server.logged("redis answers")) == 2  # at the start, and when it was back


def test_a_redis_that_hangs_costs_a_few_timeouts_not_one_per_request(
    with_redis: tuple[Path, RedisServer, Callable[[], str]],
) -> None:
    """The worst fault: the connection stands, nothing answers. Requests do not queue behind it."""
    root, redis, _ = with_redis
    with RedisClient.from_url(redis.url) as client:
        pid = client.info("server")["process_id"]
    with Served(root, "--redis", redis.url, redis_timeout_s=0.1) as server:
        with load(server, "/v1/match", BY_ID) as answers:
            os.kill(pid, signal.SIGSTOP)
            try:
                eventually(lambda: server.ready()["degraded"] != [], "the hang is noticed")
                failures = server.metric("dualtower_redis_failures_total")
                some_more(answers, 300)
                after = server.metric("dualtower_redis_failures_total")
            finally:
                os.kill(pid, signal.SIGCONT)
            eventually(lambda: server.ready()["degraded"] == [], "Redis is used again")
            some_more(answers)
        assert {status for status, _ in answers} == {200}
        assert after - failures < 100  # probes; none of the 300 requests has waited


def test_a_service_that_starts_without_its_redis_finds_it_later(
    with_redis: tuple[Path, RedisServer, Callable[[], str]],
) -> None:
    """Redis is help, not a condition."""
    root, redis, write = with_redis
    redis.stop()
    with Served(root, "--redis", redis.url) as server:
        assert server.get("/health/ready")[0] == 200
        assert server.post("/v1/match", **BY_ID)[0] == 200
        redis.start()
        write()
        eventually(lambda: server.ready()["degraded"] == [], "Redis is used")
        assert server.get("/info")[1]["title_vectors"] == "redis"


def test_query_vectors_are_shared_through_redis(
    with_redis: tuple[Path, RedisServer, Callable[[], str]], tmp_path: Path
) -> None:
    """What one process has encoded, the next one finds, and answers the same."""
    root, redis, _ = with_redis
    body = {"query": "blue phone", "k": 3}
    answers = []
    for number in range(2):
        with Served(root, "--redis", redis.url, log=tmp_path / f"{number}.log") as server:
            answers.append(server.post("/v1/search", **body)[1]["matches"])
            source = "redis" if number else "encoder"
            assert f'dualtower_query_vectors_total{{source="{source}"}} 1.0' in server.get("/metrics")[1]
    assert answers[0] == answers[1]


def test_a_stop_finishes_what_has_begun(releases: tuple[Path, str, str], tmp_path: Path) -> None:
    """After SIGTERM nothing new is accepted, a request that had begun is answered, and the status is 0."""
    with Served(releases[0], log=tmp_path / "serve.log") as server:
        begun = socket.create_connection(("127.0.0.1", server.port))
        body = b'{"query": "red shoe", "titles": ["blue shoe"]}'
        head = f"POST /v1/match HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        begun.sendall(head + body[:10])
        eventually(lambda: server.metric("dualtower_requests_in_flight") == 2, "the request has begun")
        server.stop()
        eventually(lambda: not _accepts(server.port), "the door is closed")
        begun.sendall(body[10:])
        answer = b""
        while chunk := begun.recv(65536):
            answer += chunk
        begun.close()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"match"' in answer
        assert server.process.wait(30) == 0
        assert server.logged("stopped") != []


def test_while_draining_ready_is_503_and_requests_are_answered(
    releases: tuple[Path, str, str], tmp_path: Path
) -> None:
    """Balancers get time to notice; nobody who comes meanwhile is turned away. A second Ctrl-C cuts it short."""
    with Served(releases[0], log=tmp_path / "serve.log", drain_s=60) as server:
        assert server.get("/health/ready")[0] == 200
        server.stop(signal.SIGINT)
        eventually(lambda: server.get("/health/ready")[0] == 503, "ready is 503")
        assert "stopping" in server.ready()["not_ready"][0]
        assert server.post("/v1/search", query="red shoe")[0] == 200
        server.stop(signal.SIGINT)
        assert server.process.wait(30) == 0


def test_a_port_that_is_taken_ends_the_start(
    serving_a: Served, releases: tuple[Path, str, str], tmp_path: Path
) -> None:
    """The status is not 0, and the log says which address."""
    second = Served(releases[0], "--port", str(serving_a.port), log=tmp_path / "serve.log")
    assert second.process.wait(30) != 0
    assert f"{serving_a.port}" in second.log
    assert "address already in use" in second.log


def test_a_corrupt_bundle_ends_the_start(
    releases: tuple[Path, str, str], tiny_copy: Path, tmp_path: Path
) -> None:
    """The message names the file and the way out; no traceback."""
    weights = tiny_copy / "encoder.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    served = Served(releases[0], bundle=tiny_copy, log=tmp_path / "serve.log")
    assert served.process.wait(30) == 1
    assert str(weights) in served.log
    assert "SHA-256" in served.log
    assert "Traceback" not in served.log


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
