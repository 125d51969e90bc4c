"""A request whose client has gone costs nothing more: not while it waits, and not while it is computed."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from index.releases import Releases
from service.cancel import ASKER, Asker, while_wanted
from service.errors import GoneError
from service.metrics import Metrics
from service.query_vectors import Progress, QueryVectors
from service.work import Work
from tests.service.fakes import DIM
from tests.service.served import Served, eventually, make_release
from towers import Bundle

BATCHES = 100
TEXTS = 30_000


class Body:
    """Something that one can see being forgotten."""


class BatchEncoder:
    """Counts its batches, in the midst of which the client goes."""

    def __init__(self, asker: Asker, *, leave_after: int) -> None:
        self.batches = 0
        self._asker, self._leave_after = asker, leave_after

    def encode_titles(self, texts: Sequence[str], *, progress: Progress | None = None) -> np.ndarray:
        assert progress is not None
        for _ in range(BATCHES):
            self.batches += 1
            if self.batches == self._leave_after:
                self._asker.leave()
            progress(1)
        return np.zeros((len(texts), DIM), np.float32)

    encode_queries = encode_titles


def test_what_waits_is_dropped_with_its_body_and_its_place_is_free_at_once() -> None:
    """While the only worker is still at work for somebody else."""

    async def story() -> None:
        work, leave, computed = Work(workers=1, queue=1), threading.Event(), []
        other = asyncio.create_task(work.run(leave.wait))
        asker, body = Asker(), Body()
        forgotten = weakref.ref(body)
        ASKER.set(asker)
        waiting = asyncio.create_task(work.run(computed.append, body))
        del body
        await asyncio.sleep(0)
        assert work.taken == 2
        asker.leave()
        await asyncio.wait([waiting])
        assert "before its request was begun" in str(waiting.exception())
        assert work.taken == 1
        del waiting
        gc.collect()  # the error holds frames, and they the body
        assert forgotten() is None
        leave.set()
        assert await other
        work.close()
        assert computed == []

    asyncio.run(story())


def test_who_has_gone_before_the_work_is_handed_over_gets_none() -> None:
    """The connection may end at any time."""

    async def story() -> None:
        work, leave, computed = Work(workers=1, queue=1), threading.Event(), []
        other = asyncio.create_task(work.run(leave.wait))
        await asyncio.sleep(0)
        asker = Asker()
        asker.leave()
        ASKER.set(asker)
        with pytest.raises(GoneError):
            await work.run(computed.append, 1)
        leave.set()
        await other
        work.close()
        assert computed == []

    asyncio.run(story())


@pytest.mark.parametrize("method", ["encode_titles", "encode_queries"])
def test_a_long_list_ends_between_two_batches(method: str) -> None:
    """Of a hundred batches, those after the client's leaving are not computed."""

    async def story() -> None:
        asker = Asker()
        encoder = BatchEncoder(asker, leave_after=3)
        encode = getattr(QueryVectors(encoder, Metrics(), size=10), method)
        ASKER.set(asker)
        work = Work(workers=1, queue=0)
        with pytest.raises(GoneError, match="not computed any further"):
            await work.run(encode, [f"text {number}" for number in range(BATCHES)])
        assert work.taken == 0
        work.close()
        assert encoder.batches == 3

    asyncio.run(story())


def test_the_bundle_looks_between_batches_of_every_kind(tiny_bundle: Bundle, tiny_exits: Bundle) -> None:
    """Titles, queries, and sentiment with and without exits."""
    asker, texts = Asker(), ["red shoes"] * 300
    before = ASKER.set(asker)
    try:
        look = while_wanted()
        asker.leave()
        for compute in (
            tiny_bundle.encode_titles,
            tiny_bundle.encode_queries,
            tiny_bundle.sentiment,
            tiny_exits.sentiment_with_exits,
        ):
            with pytest.raises(GoneError):
                compute(texts, progress=look)  # type: ignore[operator]
    finally:
        ASKER.reset(before)


def test_without_a_client_there_is_nothing_to_look_at() -> None:
    """Warming up and the like."""
    while_wanted()(1)


def test_closed_connections_are_counted_and_the_service_is_free(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """Five clients send long lists and go away; one list had begun, four were waiting, none is computed to its end."""
    root = tmp_path / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    body = json.dumps(
        {"inputs": [f"red shoe {number}" for number in range(TEXTS)], "truncate": True}
    ).encode()
    with Served(root, workers=1, threads=1, max_texts=TEXTS) as server:
        clients = [_sent(server.port, body) for _ in range(5)]
        eventually(lambda: server.metric("dualtower_requests_in_flight") == 6, "all have arrived")
        for client in clients:
            client.close()
        eventually(lambda: server.metric("dualtower_requests_in_flight") == 1, "only who asks for it is left")
        text = server.get("/metrics")[1]
        assert 'dualtower_requests_cancelled_total{route="/embed"} 5.0' in text
        assert 'dualtower_requests_total{route="/embed",status="499"} 5.0' in text
        assert 'dualtower_stage_seconds_count{stage="encode"}' not in text
        assert server.post("/embed", inputs=["red shoe"])[0] == 200
        assert "unforeseen" not in server.log


def _sent(port: int, body: bytes) -> socket.socket:
    """A connection over which a request has been sent."""
    client = socket.create_connection(("127.0.0.1", port))
    head = f"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client
