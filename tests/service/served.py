"""A real `dualtower serve` in a process of its own, and releases for it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from index.build import BuildOptions, index_titles
from index.progress import Reporter
from index.releases import Releases
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
WORDS = ["red", "blue", "shoe", "phone", "cable", "music", "light", "password", "order", "box"]


def make_release(
    root: Path, encoder: Any, *, prefix: str, count: int = 200, redis_url: str | None = None
) -> str:
    """Build, but not publish, a release whose ids start with `prefix`; returns its version."""
    source = root.parent / f"{prefix}.jsonl"
    rows = [
        {"id": f"{prefix}-{i}", "title": f"{WORDS[i % 10]} {WORDS[i // 10 % 10]} {i}", "release": prefix}
        for i in range(count)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with (root.parent / "index.log").open("w", encoding="utf-8") as said:
        manifest = index_titles(
            source,
            Releases(root),
            encoder,
            options=BuildOptions(),
            report=Reporter(Console(file=said)),
            redis_url=redis_url,
        )
    return manifest.version


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true; give up loudly after a time that no healthy service needs."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE_S:g} s in vain: {what}"
        time.sleep(0.02)


class Served:
    """A server process on a free port of the loopback interface."""

    def __init__(
        self, root: Path, *options: str, bundle: Path = TINY, log: Path | None = None, **settings: Any
    ) -> None:
        self._log = log or root.parent / "serve.log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DUALTOWER_")}
        fast = {"release_poll_s": 0.05, "release_retry_s": 0.1, "redis_probe_s": 0.05, "drain_s": 0}
        fast["processes"] = 1  # a test asks for more where it is about them
        environ |= {f"DUALTOWER_{name.upper()}": str(value) for name, value in (fast | settings).items()}
        command = [sys.executable, "-m", "dualtower", "serve", "--port", "0"]
        command += ["--releases", str(root), "--bundle", str(bundle), *options]
        with self._log.open("w") as log_file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=log_file, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Served:
        eventually(self._listening, "the server says where it listens")
        (line,) = self.logged("listening")
        self.port: int = line["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _listening(self) -> bool:
        assert self.process.poll() is None, f"the server has ended:\n{self.log}"
        return bool(self.logged("listening"))

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message."""
        lines = [line for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in map(json.loads, lines) if line["message"] == message]

    def connect(self) -> Client:
        return Client(self.port)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body of a GET on a connection of its own."""
        with self.connect() as client:
            return client.ask("GET", path)

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        """Status and body of a POST on a connection of its own."""
        with self.connect() as client:
            return client.ask("POST", path, body)

    def ready(self) -> Any:
        """The body of /health/ready."""
        return self.get("/health/ready")[1]

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = self.get("/metrics")[1].splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the server to stop."""
        self.process.send_signal(number)


class Client:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self._connection.request(
            method, path, data, {"Content-Type": "application/json"} | dict(headers or {})
        )
        response = self._connection.getresponse()
        text = response.read().decode()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text


def publish_by_hand(root: Path, version: str, previous: Sequence[str] = ()) -> None:
    """Write CURRENT as somebody would who goes around `dualtower releases publish`."""
    temporary = root / "by-hand"
    temporary.write_text(json.dumps({"version": version, "previous": list(previous)}))
    os.replace(temporary, root / "CURRENT")
