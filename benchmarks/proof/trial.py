"""Load before, during and after a fault, and one client that tells for how long nobody was answered."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proof.load import mixed_bodies
from benchmarks.proof.services import make_release, titles
from benchmarks.proof.wrk import Load, Outcome, of_several

ASKED = ("/v1/search", "/v1/match")
RELEASES = 10
LONGEST_S = 600.0  # of a load; it is ended when its fault is over
PROBE_PAUSE_S = 0.02
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Endured:
    """What came of the load around a fault.

    Attributes:
        load: Of all requests.
        probes: How often the probe asked.
        probes_failed: How often it got no answer, or another than 200.
        gap_s: The longest time from one good answer to the probe to the next.
    """

    load: Outcome
    probes: int
    probes_failed: int
    gap_s: float


class Trial:
    """What all faults use: a release, ten more that differ in a few titles, and requests for what all of them have."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.root = options, folder, folder / "releases"
        rows = titles(options)
        self.rows = rows[:-RELEASES]
        bodies = mixed_bodies(options, self.rows)
        self._bodies = {path: bodies[path] for path in ASKED}
        self.pause_s = 0.5 if options.quick else 5.0
        self.release = make_release(options, self.root, self.rows)
        self.later = [
            make_release(options, self.root, rows[: len(self.rows) + 1 + i]) for i in range(RELEASES)
        ]

    def under_load(self, port: int, fault: Callable[[], None], *, more: int = 0) -> Endured:
        """Load the service or the proxy on a port while something happens; `more` connections of each kind."""
        probe = Probe(port, self._bodies["/v1/search"][0])
        with contextlib.ExitStack() as stack:
            loads = [stack.enter_context(self._load(port, path, more)) for path in ASKED]
            with probe.asking():
                time.sleep(self.pause_s)
                fault()
                time.sleep(self.pause_s)
            for load in loads:
                load.end()
            outcome = of_several([load.outcome() for load in loads])
        return Endured(outcome, probe.asked, probe.failed, probe.gap_s)

    def _load(self, port: int, path: str, more: int) -> Load:
        return Load(
            f"http://127.0.0.1:{port}",
            path,
            self._bodies[path],
            folder=self.folder,
            connections=self.options.connections + more,
            seconds=LONGEST_S,
        )


class Probe:
    """One client that asks again and again, each time on a new connection."""

    def __init__(self, port: int, body: bytes) -> None:
        self._port, self._body = port, body
        self.asked = self.failed = 0
        self.gap_s = 0.0

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while the block lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._ask_until, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _ask_until(self, over: threading.Event) -> None:
        last = time.monotonic()
        while not over.wait(PROBE_PAUSE_S):
            self.asked += 1
            if self._good():
                now = time.monotonic()
                self.gap_s, last = max(self.gap_s, now - last), now
            else:
                self.failed += 1
        self.gap_s = max(self.gap_s, time.monotonic() - last)

    def _good(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PROBE_TIMEOUT_S)
        with contextlib.closing(connection):
            try:
                connection.request("POST", "/v1/search", self._body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                return False
            return response.status == 200
