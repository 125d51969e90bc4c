"""What comes from the parent is answered, or the parent hears that it has ended."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.door import ENDED, READY, Door, hand_over


@contextmanager
def no_descriptor_free() -> Iterator[None]:
    """Whoever opens a file is refused; what is open stays open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Greeting(asyncio.Protocol):
    """Says a word to whoever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")


def handed(parent: socket.socket) -> socket.socket:
    """A client whose connection the parent has handed over."""
    client, accepted = socket.socketpair()
    client.setblocking(False)
    hand_over(parent, accepted)
    accepted.close()
    return client


def test_a_connection_without_a_descriptor_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    """The client is not left waiting, the parent counts it no longer, and the next one is answered."""

    async def story() -> None:
        parent, child = socket.socketpair()
        door = Door(child, gone=pytest.fail)
        door.open(Greeting)
        hear = asyncio.get_running_loop().sock_recv
        assert parent.recv(10) == READY
        parent.setblocking(False)
        lost = handed(parent)
        with no_descriptor_free():
            assert await asyncio.wait_for(hear(lost, 10), 5) == b""
        door.tell(0)
        assert parent.recv(10) == ENDED
        served = handed(parent)
        assert await asyncio.wait_for(hear(served, 10), 5) == b"hello"
        door.tell(1)
        with pytest.raises(BlockingIOError):
            parent.recv(10)
        parent.close()
        await door.close()
        for client in (lost, served):
            client.close()
        await asyncio.sleep(0.01)  # the transport sees that its client has gone

    with caplog.at_level(logging.ERROR):
        asyncio.run(story())
    assert [record.message for record in caplog.records] == [
        "a connection was lost: no descriptor is free; raise the limit of open files"
    ]
