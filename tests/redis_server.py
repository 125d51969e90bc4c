"""A real Redis server for tests: on a free port, without persistence, stopped by its own process."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

REDIS_SERVER = shutil.which("redis-server")
_PATIENCE_S = 10.0


class RedisServer:
    """Starts `redis-server`; `stop` and `start` keep the port, so that a client sees a restart."""

    def __init__(self) -> None:
        self.port = _free_port()
        self._directory: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        if self._process is not None:
            return
        if REDIS_SERVER is None:
            raise FileNotFoundError("redis-server is not installed")
        self._directory = tempfile.mkdtemp(prefix="redis-")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        options += ["--dir", self._directory, "--logfile", "redis.log"]
        self._process = subprocess.Popen([REDIS_SERVER, *options])
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Kill the server, as a crash would; what it held is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def close(self) -> None:
        self.stop()

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                time.sleep(0.02)
        log = Path(self._directory or "", "redis.log").read_text()
        self.stop()
        raise TimeoutError(f"redis-server did not answer on port {self.port}:\n{log}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
