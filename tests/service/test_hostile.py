"""Whatever is sent to a POST route: a right answer, or a refusal with a reason in that route's shape; then all goes on.

The routes are those of the running service's document, so that a new one is tested as soon as it is there.
"""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from index.releases import Releases
from tests.service.hostile import TEXTS, VALUES, Route, Sender, post_routes, with_each
from tests.service.served import PATIENCE_S, Served, make_release
from towers import Bundle

SETTINGS = {"body_timeout_s": 1, "max_body": 2**22}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("hostile") / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    with Served(root, **SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def routes(server: Served) -> list[Route]:
    return post_routes(server)


@pytest.fixture(autouse=True)
def goes_on(server: Served, routes: list[Route]) -> Iterator[None]:
    """Before and after each test every route gives the same answer to a good body, and nothing has surprised us."""
    before = [answer_to_good(server, route) for route in routes]
    yield
    assert [answer_to_good(server, route) for route in routes] == before
    assert server.process.poll() is None
    assert not server.logged("unforeseen error"), server.log


def answer_to_good(server: Served, route: Route) -> Any:
    with Sender(server) as sender:
        status, content = sender.post(route.path, json.dumps(route.good).encode())
    assert (status, route.complaint(status, content)) == (200, None), route.path
    answer = json.loads(content)
    for changing in ("milliseconds", "id", "created"):
        if isinstance(answer, dict):
            answer.pop(changing, None)
    return answer


def complaints(server: Served, routes: list[Route], bodies: dict[str, Any]) -> list[str]:
    """What is wrong with the answers to bodies: {what it is: function from a route to JSON texts or bytes}."""
    found = []
    with Sender(server) as sender:
        for route in routes:
            for name, make in bodies.items():
                for body in make(route):
                    sent = body.encode() if isinstance(body, str) else body
                    complaint = route.complaint(*sender.post(route.path, sent))
                    if complaint:
                        found.append(f"{route.path}, {name}, {sent[:80]!r}: {complaint}")
    return found


def test_each_value_replaced_is_the_right_way() -> None:
    """The twin by hand: the whole, each field, each entry."""
    assert list(with_each({"a": ["b"]}, "1")) == ["1", '{"a": 1}', '{"a": [1]}']
    assert list(with_each({"a": ["b"], "c": "d"}, '"x"', only=str)) == [
        '{"c": "d", "a": ["x"]}',
        '{"a": ["b"], "c": "x"}',
    ]


def test_hostile_texts_in_every_place_of_a_text(server: Served, routes: list[Route]) -> None:
    """NUL, surrogates, marks of direction, a megabyte without a space: refused or answered, never a failure."""
    bodies = {
        name: lambda route, text=text: with_each(route.good, json.dumps(text), only=str)
        for name, text in TEXTS.items()
    }
    assert complaints(server, routes, bodies) == []


def test_hostile_texts_as_they_are(server: Served, routes: list[Route]) -> None:
    """The same without escapes, as UTF-8; lone surrogates have none and are sent as broken bytes."""
    bodies = {
        name: lambda route, text=text: (
            body.encode("utf-8", "surrogatepass")
            for body in with_each(route.good, json.dumps(text, ensure_ascii=False), only=str)
        )
        for name, text in TEXTS.items()
    }
    assert complaints(server, routes, bodies) == []


def test_hostile_values_in_every_place(server: Served, routes: list[Route]) -> None:
    """NaN, endless digits, endless depth, empty batches, wrong types, keys given twice."""
    bodies = {name: lambda route, value=value: with_each(route.good, value) for name, value in VALUES.items()}
    assert complaints(server, routes, bodies) == []


def test_bodies_that_are_no_json(server: Served, routes: list[Route]) -> None:
    """Broken UTF-8, other encodings, half a body, two bodies, no body."""

    def good(route: Route) -> bytes:
        return json.dumps(route.good).encode()

    bodies = {
        "nothing": lambda route: [b""],
        "white space": lambda route: [b" \r\n\t"],
        "broken UTF-8": lambda route: [good(route).replace(b'": "', b'": "\xff\xc0\x80'), b"\xff"],
        "overlong NUL": lambda route: [good(route).replace(b'": "', b'": "\xc0\x80')],
        "a byte order mark": lambda route: [b"\xef\xbb\xbf" + good(route)],
        "UTF-16": lambda route: [good(route).decode().encode("utf-16")],
        "UTF-32": lambda route: [good(route).decode().encode("utf-32-le")],
        "cut off": lambda route: [good(route)[:end] for end in range(1, len(good(route)), 7)],
        "twice": lambda route: [good(route) * 2, good(route) + b"\n" + good(route)],
        "rubbish behind": lambda route: [good(route) + b"x", good(route) + b"\x00"],
        "a field twice": lambda route: [good(route)[:-1] + b", " + good(route)[1:]],
        "an unknown field": lambda route: [good(route)[:-1] + b', "__proto__": {"constructor": 1}}'],
        "another format": lambda route: [b"a=b&c=d", b"<a/>", b"---\na: 1\n", bytes(range(256)) * 10],
    }
    assert complaints(server, routes, bodies) == []


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "image/png",
        "/",
        ";",
    ],
)
def test_other_media_types_are_refused(server: Served, routes: list[Route], media_type: str) -> None:
    """415 with a reason, also where the body would be good."""
    with Sender(server) as sender:
        for route in routes:
            status, content = sender.post(
                route.path, json.dumps(route.good).encode(), Content_Type=media_type
            )
            assert 400 <= status < 500, (route.path, status)
            assert route.complaint(status, content) is None


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "nonsense", "gzip, gzip"])
def test_encoded_bodies_are_answered_or_refused(server: Served, routes: list[Route], encoding: str) -> None:
    """Also a body that would unpack to far more than is accepted."""
    bomb = gzip.compress(bytes(2**24), 1)
    with Sender(server) as sender:
        for route in routes:
            for body in (gzip.compress(json.dumps(route.good).encode()), bomb):
                answer = sender.post(route.path, body, Content_Encoding=encoding)
                assert route.complaint(*answer) is None, route.path


def test_bodies_in_chunks_are_bodies(server: Served, routes: list[Route]) -> None:
    """A body may come byte by byte without a length; the bound on its size holds all the same."""
    with Sender(server) as sender:
        for route in routes:
            body = json.dumps(route.good).encode()
            status, content = sender.post(
                route.path, (body[i : i + 1] for i in range(len(body))), Transfer_Encoding="chunked"
            )
            assert (status, route.complaint(status, content)) == (200, None)
            large = (b" " * 2**16 for _ in range(65))  # 64 are what is accepted
            status, content = sender.post(route.path, large, Transfer_Encoding="chunked")
            assert (status, route.complaint(status, content)) == (413, None)


def test_requests_that_break_the_protocol(server: Served, routes: list[Route]) -> None:
    """Half bodies, wrong lengths and broken chunks get a 4xx or a closed connection, and hold nobody up."""
    for route in routes:
        start = f"POST {route.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        body = json.dumps(route.good)
        broken = {
            "half a body": f"Content-Length: {len(body) + 10}\r\n\r\n{body}",
            "a length below nothing": f"Content-Length: -1\r\n\r\n{body}",
            "a length that is none": f"Content-Length: many\r\n\r\n{body}",
            "two lengths": f"Content-Length: 5\r\nContent-Length: {len(body)}\r\n\r\n{body}",
            "an endless length": f"Content-Length: {'9' * 30}\r\n\r\n{body}",
            "a chunk without a size": f"Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n",
            "an endless chunk": f"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{body}",
            "half a chunk": f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body[:5]}",
            "a header without an end": "X: " + "x" * 2**18,
        }
        for name, rest in broken.items():
            answer = raw(server, start + rest)
            assert answer in (b"", b"4"), (route.path, name)


def raw(server: Served, request: str) -> bytes:
    """The first digit of the status that a request gets whose sender then sends no more; nothing when cut off."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(request.encode())
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(2**16)[9:10]
        except (ConnectionResetError, BrokenPipeError):
            return b""
