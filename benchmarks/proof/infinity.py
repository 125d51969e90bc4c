"""infinity-emb in an environment of its own, with the checkpoint that the default bundle was made from."""

from __future__ import annotations

import http.client
import subprocess
import tempfile
from pathlib import Path

from benchmarks.common import environment
from benchmarks.proof.services import ending_on_failure, free_port, wait_until
from towers.train.base import resolve_checkpoint


class Infinity:
    """Its server on a free port of the loopback interface, as it comes but for the log."""

    model = "minilm"

    def __init__(self, venv: Path) -> None:
        self._command = venv.resolve() / "bin" / "infinity_emb"
        if not self._command.is_file():
            raise SystemExit(
                f"{venv} has no infinity-emb; make it with `python3 -m venv {venv}` and "
                f"`{venv}/bin/pip install 'infinity-emb[server,torch]'`"
            )
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Infinity:
        command = [
            str(self._command),
            "v2",
            "--model-id",
            resolve_checkpoint(),
            "--served-model-name",
            self.model,
        ]
        command += [
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
            "--url-prefix",
            "/v1",
            "--engine",
            "torch",
        ]
        command += ["--device", "cpu", "--no-bettertransformer", "--log-level", "warning"]
        offline = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, env=environment() | offline, stdout=self._log, stderr=self._log
        )
        with ending_on_failure(self.end):
            wait_until(self._ready, "infinity-emb answers")
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            self._log.seek(0)
            raise SystemExit(f"infinity-emb has ended:\n{self._log.read().decode(errors='replace')}")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
