"""How connections get from the parent, which accepts them, to the child that answers.

Between the two is a pair of sockets. The parent sends a connection with one byte; the child says READY once, and ENDED
for each connection that has ended. A child that wants no more ends its side; what comes until the parent has ended the
other side was already on its way, and is still answered.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

READY, ENDED, CONNECTION = b"r", b"e", b"c"
LAST_MS = 1000  # how long a child waits for the parent's end


def hand_over(channel: socket.socket, connection: socket.socket) -> None:
    """Send a connection to a child; the sender's own may be closed afterwards.

    Raises:
        BlockingIOError: The child has not looked for long, and the channel is full.
        OSError: The child has gone.
    """
    socket.send_fds(channel, [CONNECTION], [connection.fileno()])


class Door:
    """The child's side of the channel.

    Args:
        channel: To the parent.
        gone: Called when the parent has ended without a word.
    """

    def __init__(self, channel: socket.socket, gone: Callable[[], None]) -> None:
        self._channel, self._gone = channel, gone
        self._connecting: set[asyncio.Task[None]] = set()
        self._taken = self._told = 0
        self._closing = False
        self._closed = asyncio.Event()

    def open(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Take connections from now on, and tell the parent so."""
        self._protocol = protocol
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._take)
        self._say(READY)

    def tell(self, connections: int) -> None:
        """Tell the parent how many of its connections have ended, given how many there are."""
        ended = self._taken - connections
        if ended > self._told:
            self._told += self._say(ENDED * (ended - self._told))

    async def close(self) -> None:
        """Take what is on its way, and nothing after that."""
        self._closing = True
        try:
            self._channel.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(self._closed.wait(), LAST_MS / 1000)
        except (OSError, TimeoutError):
            self._end()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def _take(self) -> None:
        while not self._closed.is_set():
            try:
                said, files, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                return
            except OSError:
                said, files = b"", []
            if not said:
                self._end()
                if not self._closing:
                    self._gone()
            elif not files:  # the system drops a file that there is no descriptor for, and the client with it
                log.error("a connection was lost: no descriptor is free; raise the limit of open files")
                self._taken += 1  # taken and ended at once: the next `tell` counts it
            for file in files:
                task = asyncio.create_task(self._connect(socket.socket(fileno=file)))
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client has gone already
            connection.close()
        finally:
            self._taken += 1

    def _say(self, what: bytes) -> int:
        try:
            return self._channel.send(what)
        except OSError:  # the parent has gone, which _take will see, or is too busy to hear it now
            return 0

    def _end(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
