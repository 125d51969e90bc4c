"""The parent of several processes: it listens, gives each connection to a child, and replaces children that end.

It accepts connections itself instead of letting the children share a socket: eight kept connections then are four and
four, and not seven and one, as it happens when whoever is quickest takes what is there.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import selectors
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from service.child import Place, run_child
from service.cores import cores
from service.door import READY, hand_over
from service.keys import Keys
from service.listen import bound, where
from service.query_table import table_bytes
from service.settings import Settings
from towers import open_bundle

log = logging.getLogger(__name__)

MEMORY = Path("/dev/shm")
MARGIN = 16 * 2**20  # bytes for metrics and for others
BACKLOG = 2048  # as uvicorn's
RESERVE = 64  # files that a child keeps open beside its connections
# Guesses, untested: pauses before a process is replaced, doubled each time, and when a failure is an old story.
FIRST_PAUSE_S, LONGEST_PAUSE_S, FORGET_S = 0.1, 30.0, 60.0
LOOK_AGAIN_S = 0.01  # after every child's channel was full


def run_processes(settings: Settings) -> None:
    """Serve with several processes until SIGINT or SIGTERM, then return.

    Raises:
        DualtowerError: Keys or bundle cannot be used, or the address is taken; no process was started then.
        SystemExit: A process did not get ready.
    """
    Keys(settings)
    bundle = open_bundle(settings.bundle)  # reads no weights, but holds the files against the manifest
    threads = settings.threads or max(1, cores() // settings.processes)
    table = table_bytes(settings.query_cache, bundle.dim)
    with tempfile.TemporaryDirectory(prefix="dualtower-", dir=_roomy(table)) as directory:
        parent = Parent(settings.model_copy(update={"threads": threads}), Path(directory))
        if not parent.run():
            sys.exit(1)


class Child:
    """What the parent knows about a process."""

    def __init__(self, number: int, process: BaseProcess, channel: socket.socket) -> None:
        self.number, self.process, self.channel = number, process, channel
        self.ready, self.open = False, True
        self.connections = 0
        self.started = time.monotonic()


class Parent:
    """Starts and watches the children. Everything happens in `run`, on one thread."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings, self._directory = settings, directory
        self._events = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}  # places to be filled again, and when
        self._failures = dict.fromkeys(range(settings.processes), 0)
        self._sockets = bound(settings.host, settings.port)
        self._listening = self._watching = self._stopping = self._failed = False
        self._held: socket.socket | None = None
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = sys.maxsize if files == resource.RLIM_INFINITY else max(1, files - RESERVE)

    def run(self) -> bool:
        """Serve until told to stop; False when a process did not get ready."""
        self._hear_signals()
        for number in range(self._settings.processes):
            self._start(number, again=False)
        while self._children or self._due:
            self._watch_sockets()
            for key, _ in self._events.select(self._pause()):
                happened: Callable[[], None] = key.data
                happened()
            self._hand_held_over()
            self._start_due()
        self._close_sockets()
        return not self._failed

    # Children.

    def _start(self, number: int, *, again: bool) -> None:
        ours, theirs = socket.socketpair()
        place = Place(number, self._directory, os.getpid(), again)
        process = multiprocessing.get_context("spawn").Process(
            target=run_child,
            args=(self._settings, place, theirs),
            name=f"dualtower-{number}",
            daemon=True,  # ended, too, if an error nobody foresaw ends the parent
        )
        before = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # inherited, until the child hears signals itself
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
            theirs.close()
        ours.setblocking(False)
        child = self._children[number] = Child(number, process, ours)
        self._events.register(ours, selectors.EVENT_READ, lambda: self._hear(child))
        self._events.register(process.sentinel, selectors.EVENT_READ, lambda: self._bury(child))

    def _hear(self, child: Child) -> None:
        try:
            said = child.channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._close(child)
            return
        if READY in said:
            child.ready = True
            self._listen()
        child.connections -= len(said) - said.count(READY)

    def _close(self, child: Child) -> None:
        """End our side of the channel: the child knows then that nothing more will come."""
        if child.open:
            child.open = False
            self._events.unregister(child.channel)
            child.channel.close()

    def _bury(self, child: Child) -> None:
        child.process.join()
        self._close(child)
        self._events.unregister(child.process.sentinel)
        del self._children[child.number]
        _forget(self._directory, child.number)
        if self._stopping:
            return
        facts = {"place": child.number, "exit_status": child.process.exitcode}
        if not self._listening:
            log.error("a process did not get ready; ending", extra=facts)
            self._failed = True
            self._stop()
            return
        pause = self._pause_after(child)
        log.error("a process has ended, another one takes its place", extra=facts | {"pause_s": pause})
        self._due[child.number] = time.monotonic() + pause

    def _pause_after(self, child: Child) -> float:
        lived = time.monotonic() - child.started
        failures = 0 if lived > FORGET_S else self._failures[child.number]
        self._failures[child.number] = failures + 1
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**failures)

    def _start_due(self) -> None:
        for number in [number for number, when in self._due.items() if when <= time.monotonic()]:
            del self._due[number]
            self._start(number, again=True)

    def _pause(self) -> float | None:
        if self._held is not None:
            return LOOK_AGAIN_S
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    # Connections.

    def _listen(self) -> None:
        """Let clients in as soon as every process is ready for the first time."""
        if self._listening or self._stopping or not all(child.ready for child in self._children.values()):
            return
        for listener in self._sockets:
            listener.listen(BACKLOG)
        self._listening = True
        log.info("listening", extra=where(self._sockets[0]) | {"processes": self._settings.processes})

    def _takers(self) -> list[Child]:
        """Children that take connections; the one with the fewest goes first."""
        takers = (c for c in self._children.values() if c.ready and c.open and c.connections < self._most)
        return sorted(takers, key=lambda child: child.connections)

    def _watch_sockets(self) -> None:
        """Accept only what can be given to somebody; what is not accepted waits in the system's queue."""
        if self._stopping and not any(child.open for child in self._children.values()):
            self._close_sockets()
        wanted = self._listening and self._held is None and bool(self._takers())
        if wanted == self._watching:
            return
        self._watching = wanted
        for listener in self._sockets:
            if wanted:
                self._events.register(
                    listener, selectors.EVENT_READ, lambda listener=listener: self._accept(listener)
                )
            else:
                self._events.unregister(listener)

    def _accept(self, listener: socket.socket) -> None:
        if self._held is None:
            try:
                self._held, _ = listener.accept()
            except OSError:  # the client has gone again
                return
            self._hand_held_over()

    def _hand_held_over(self) -> None:
        """Give the accepted connection to a child; it is held while every channel is full."""
        if self._held is None:
            return
        for child in self._takers():
            try:
                hand_over(child.channel, self._held)
            except OSError:
                continue
            child.connections += 1
            self._held.close()
            self._held = None
            return

    def _close_sockets(self) -> None:
        if self._watching:
            for listener in self._sockets:
                self._events.unregister(listener)
        for listener in self._sockets:
            listener.close()
        self._sockets, self._listening, self._watching = [], False, False

    # Signals.

    def _hear_signals(self) -> None:
        heard, wake = socket.socketpair()
        heard.setblocking(False)
        wake.setblocking(False)
        self._wake = wake  # kept open
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _ignore)
        self._events.register(heard, selectors.EVENT_READ, lambda: self._signalled(heard))

    def _signalled(self, heard: socket.socket) -> None:
        for number in heard.recv(64):
            if number in (signal.SIGINT, signal.SIGTERM):
                self._stop()

    def _stop(self) -> None:
        """Have the children finish; the second time at once."""
        number = signal.SIGINT if self._stopping else signal.SIGTERM
        self._stopping = True
        self._due.clear()
        for child in self._children.values():
            if child.process.pid is not None:
                os.kill(child.process.pid, number)


def _roomy(table: int) -> Path | None:
    """Memory, where there is room for what the children share: it is written often, and need not outlive them."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return None
    room = found.f_bavail * found.f_frsize
    return MEMORY if room > table + MARGIN and os.access(MEMORY, os.W_OK) else None


def _forget(directory: Path, number: int) -> None:
    from service.shared_metrics import forget  # the parent has no metrics of its own

    forget(directory, number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The signal is read from the socket that wakes `select`."""
