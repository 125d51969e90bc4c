"""What the proof runs against: releases of real titles, services as processes of their own, and their memory."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.common import DUALTOWER, ROOT, bundle_option, environment, icecat
from index.releases import Releases

PATIENCE_S = 180.0  # a busy machine takes a minute to import torch
QUICK_TITLES = 500


def titles(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The catalogue; the start of it in a trial."""
    rows = icecat(options)
    return rows[:QUICK_TITLES] if options.quick else rows


def make_release(
    options: argparse.Namespace, root: Path, rows: Sequence[dict[str, Any]], *, redis: str | None = None
) -> str:
    """Index rows of the catalogue, publish the release and return its version."""
    source = root.parent / "titles.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [
        *DUALTOWER,
        "index",
        str(source),
        "--releases",
        str(root),
        "--publish",
        *bundle_option(options),
    ]
    command += ["--redis", redis] if redis else []
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the release was not made:\n{done.stdout}{done.stderr}")
    return Releases(root).published()


class Service:
    """A `dualtower serve` on one port, which may be killed and started again."""

    def __init__(
        self,
        options: argparse.Namespace,
        root: Path,
        *,
        redis: str | None = None,
        **settings: Any,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = root.parent / f"serve-{self.port}.log"
        self._command = [*DUALTOWER, "serve", "--port", str(self.port), "--releases", str(root)]
        self._command += bundle_option(options) + (["--redis", redis] if redis else [])
        quiet = {"log_level": "WARNING", "processes": 1}  # of one process memory and connections can be told
        given = {f"DUALTOWER_{name.upper()}": str(value) for name, value in (quiet | settings).items()}
        self._environ = environment() | given
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environ, stdout=output, stderr=output
            )
        with ending_on_failure(self.kill):
            wait_until(self.ready, f"the service at {self.url} is ready; its log is {self._log}")

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def few_files(self, more: int) -> Iterator[None]:
        """While the block lasts, it may open only so many more files; a connection is a file."""
        before = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        limit = psutil.Process(self.pid).num_fds() + more
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, before)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def ready(self) -> bool:
        """Whether it answers, and has a release."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise SystemExit(f"the service ended with {code}:\n{self._log.read_text(encoding='utf-8')}")
        try:
            return self.ask("GET", "/health/ready")[0] == 200
        except OSError:
            return False

    @property
    def release(self) -> str:
        """The release in use."""
        return str(json.loads(self.ask("GET", "/health/ready")[1])["release"])

    @property
    def title_vectors(self) -> str:
        """Where it takes the vectors of titles by id from."""
        return str(json.loads(self.ask("GET", "/info")[1])["title_vectors"])

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content of the answer to one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that takes seconds at most; end loudly when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE_S:g} s in vain: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def ending_on_failure(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` when the block fails: a process that did not get ready must not stay."""
    try:
        yield
    except BaseException:
        end()
        raise


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Memory:
    """The memory of a process, looked at again and again.

    Attributes:
        seconds: Since the first look.
        resident_mb: What it has in memory, mapped files included.
        private_mb: What of that no other process could share.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.resident_mb: list[float] = []
        self.private_mb: list[float] = []

    @contextlib.contextmanager
    def of(self, pid: int, *, every_s: float) -> Iterator[None]:
        """Look while the block lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(psutil.Process(pid), every_s, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, process: psutil.Process, every_s: float, over: threading.Event) -> None:
        start = time.monotonic()
        while True:
            found = process.memory_full_info()
            self.seconds.append(time.monotonic() - start)
            self.resident_mb.append(found.rss / 2**20)
            self.private_mb.append(found.uss / 2**20)
            if over.wait(every_s):
                return
