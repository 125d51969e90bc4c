"""What the proof runs against: releases of real titles, services as processes of their own, and their memory."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.common import DUALTOWER, ROOT, bundle_option, environment, icecat
from index.releases import Releases
from service.settings import Settings

PATIENCE_S = 180.0  # a busy machine takes a minute to import torch
QUICK_TITLES = 500
# Who counts connections learns only ten times a second that one has ended: with so many kept ones for each process,
# every process has one.
CONNECTIONS_EACH = 8


def default_processes() -> int:
    """How many processes answer where nobody says another number: one for each core, eight at most."""
    return int(Settings.model_fields["processes"].get_default(call_default_factory=True))


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
    """A `dualtower serve` on one port, with the settings that it has by default; it may be killed and started again.

    Args:
        options: Those of the benchmark.
        root: The directory of releases.
        redis: URL, if there is a Redis.
        files: How many files each process may open, as `ulimit -n` sets it; None: as many as this one.
        settings: What differs from the defaults.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        root: Path,
        *,
        redis: str | None = None,
        files: int | None = None,
        **settings: Any,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = root.parent / f"serve-{self.port}.log"
        self._command = ["prlimit", f"--nofile={files}:{files}"] if files else []
        self._command += [*DUALTOWER, "serve", "--port", str(self.port), "--releases", str(root)]
        self._command += bundle_option(options) + (["--redis", redis] if redis else [])
        self.processes = int(settings.get("processes") or default_processes())
        quiet = {"log_level": "WARNING"}
        given = {f"DUALTOWER_{name.upper()}": str(value) for name, value in (quiet | settings).items()}
        self._environ = environment() | given
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environ, stdout=output, stderr=output
            )
        with ending_on_failure(self.kill):
            wait_until(self.ready, f"the service at {self.url} is ready; its log is {self._log}")

    def end(self) -> None:
        """Stop it as an operator does, with SIGTERM."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End all of its processes as a crash of the machine would, with SIGKILL, the parent first."""
        if self._process is None:
            return
        everyone = family(self.pid)
        left = shared_directories(everyone)
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(everyone, PATIENCE_S)
        self._process = None
        for directory in left:  # in memory, where a restart of the machine would remove it
            shutil.rmtree(directory, ignore_errors=True)

    def kill_one(self) -> None:
        """Kill one of the processes that answer, and wait until another one in its place has the release."""
        before = self.metric("dualtower_release_changes_total")

        def replaced() -> bool:
            # The connection may have been on its way to the one that was killed.
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.metric("dualtower_release_changes_total") > before
            return False

        self.answering()[0].kill()
        wait_until(replaced, "the killed process is replaced")

    @property
    def pid(self) -> int:
        """Its process; the parent where there are several."""
        assert self._process is not None
        return self._process.pid

    def answering(self) -> list[psutil.Process]:
        """The processes that answer requests: the children, or the only one."""
        parent, *others = family(self.pid)
        # Python's own tracker of resources is a child, too.
        return [one for one in others if "multiprocessing.spawn" in " ".join(one.cmdline())] or [parent]

    def ready(self) -> bool:
        """Whether it answers, and has a release."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise SystemExit(f"the service ended with {code}:\n{self._log.read_text(encoding='utf-8')}")
        try:
            return self.ask("GET", "/health/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def metrics(self) -> str:
        """What it says of all its processes, whichever is asked."""
        return self.ask("GET", "/metrics")[1].decode()

    def metric(self, name: str) -> float:
        """A metric without labels."""
        return float(re.findall(rf"^{name} (\S+)$", self.metrics(), re.MULTILINE)[0])

    def releases(self) -> list[str]:
        """The releases in use; more than one while its processes change."""
        return re.findall(r'^dualtower_release_info{.*version="(\w+)"', self.metrics(), re.MULTILINE)

    def title_vectors(self) -> set[str]:
        """Where its processes take the vectors of titles by id from."""
        with contextlib.ExitStack() as kept:
            connections = [self._connection(kept) for _ in range(CONNECTIONS_EACH * self.processes)]
            for connection in connections:
                connection.connect()
            answers = [asked(connection, "GET", "/info")[1] for connection in connections]
        return {json.loads(answer)["title_vectors"] for answer in answers}

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content of the answer to one request on a connection of its own."""
        with contextlib.ExitStack() as kept:
            return asked(self._connection(kept), method, path, body)

    def _connection(self, kept: contextlib.ExitStack) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        return kept.enter_context(contextlib.closing(connection))


def asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and content of the answer to one request."""
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def family(pid: int) -> list[psutil.Process]:
    """A process and its children."""
    parent = psutil.Process(pid)
    return [parent, *parent.children()]


def shared_directories(processes: Iterable[psutil.Process]) -> set[Path]:
    """The directories in memory that processes of a service share; who is killed cannot remove them."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            paths = (Path(mapped.path) for mapped in process.memory_maps())
            found |= {path.parent for path in paths if path.match("/dev/shm/dualtower-*/*")}
    return found


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
    """The memory of a service, parent and children, looked at again and again.

    Attributes:
        seconds: Since the first look.
        resident_mb: What they have in memory, mapped files included; a page that several have counts once.
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
        thread = threading.Thread(target=self._watch, args=(pid, every_s, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, pid: int, every_s: float, over: threading.Event) -> None:
        start = time.monotonic()
        while True:
            found = [process.memory_full_info() for process in family(pid)]
            self.seconds.append(time.monotonic() - start)
            # Proportional: of a page that n processes have, each counts a part in n.
            self.resident_mb.append(sum(one.pss for one in found) / 2**20)
            self.private_mb.append(sum(one.uss for one in found) / 2**20)
            if over.wait(every_s):
                return
