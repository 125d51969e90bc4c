"""Running the application: uvicorn, with a stop that gives balancers time to notice."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from service.app import create_app
from service.door import Door
from service.listen import where
from service.state import State

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75  # longer than the 60 s of common balancers, so that it is they who end idle connections
# A worker thread that computes in Python gives the interpreter back after this long when the event loop wants
# it. Python's own 5 ms would be half of the time that an answer may take.
SWITCH_INTERVAL_S = 0.0005


class DrainingServer(uvicorn.Server):
    """When told to stop, first says so in /health/ready for `drain_s`, while it still takes requests."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, say where, and keep what is alive now out of later garbage collections."""
        await super().startup(sockets=sockets)
        gc.collect()
        gc.freeze()
        if self.started:
            self.opened()

    def opened(self) -> None:
        """Say where requests are taken."""
        if self.servers:
            log.info("listening", extra=where(self.servers[0].sockets[0]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop as uvicorn does: no new connections, requests in work are finished."""
        self._state.draining = True
        log.info("stopping", extra={"drain_s": self._state.settings.drain_s})
        waited = 0.0
        while waited < self._state.settings.drain_s and not self.force_exit:  # a second Ctrl-C skips the wait
            await asyncio.sleep(0.1)
            waited += 0.1
        await self.closing()
        await super().shutdown(sockets=sockets)
        log.info("stopped")

    async def closing(self) -> None:
        """Take no more connections; a listening socket is closed by uvicorn itself."""


class ChildServer(DrainingServer):
    """Listens nowhere: its connections come through a door."""

    def __init__(self, config: uvicorn.Config, state: State, channel: socket.socket) -> None:
        super().__init__(config, state)
        self._door = Door(channel, self._leave)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start without a socket."""
        await super().startup(sockets=[])

    def opened(self) -> None:
        """Open the door."""
        self._door.open(self._protocol)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: tell how many connections have ended."""
        self._door.tell(len(self.server_state.connections))
        return await super().on_tick(counter)

    async def closing(self) -> None:
        """Close the door."""
        await self._door.close()

    def _protocol(self) -> asyncio.Protocol:
        # As uvicorn makes it for a connection that it has accepted itself.
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _leave(self) -> None:
        log.error("the parent process has gone")
        self.should_exit = True


def run(state: State, channel: socket.socket | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then return; with a channel, what comes through it."""
    settings = state.settings
    config = uvicorn.Config(
        create_app(state),
        host=settings.host,
        port=settings.port,
        loop="auto",  # uvloop where it is installed
        http="auto",  # httptools where it is installed
        ws="none",
        lifespan="on",
        log_config=None,  # all loggers go to the root's handler
        access_log=False,  # the middleware writes a line with more in it
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    signal.signal(signal.SIGTERM, _leave)  # uvicorn raises the signal again once everything is finished
    try:
        server = DrainingServer(config, state) if channel is None else ChildServer(config, state, channel)
        server.run()
    except KeyboardInterrupt:
        log.debug("ended by Ctrl-C")


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
