"""Load from wrk, which takes far less of two cores than a client in Python would."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.proof.numbers import Histogram, percentile_of, together

SCRIPT = Path(__file__).with_name("requests.lua")
WRK = shutil.which("wrk")
TIMEOUT_S = 10  # of one request
BUSY = 429


@dataclass(frozen=True)
class Outcome:
    """What came of a load.

    Attributes:
        seconds: How long it took.
        requests: That got an answer, of whatever status.
        broken: Connections that were not made, and requests whose answer did not come, by what went wrong.
        statuses: Answers by status.
        latencies: Microseconds of answers, counted.
    """

    seconds: float
    requests: int
    broken: dict[str, int]
    statuses: dict[int, int]
    latencies: Histogram

    @property
    def refused(self) -> int:
        """Answers that say that the service has enough to do."""
        return self.statuses.get(BUSY, 0)

    @property
    def failed(self) -> int:
        """Requests without an answer, and answers of another status than 200 and 429."""
        answered = sum(count for status, count in self.statuses.items() if status not in (200, BUSY))
        return answered + sum(self.broken.values())

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.statuses.get(200, 0) / self.seconds

    def ms(self, share: float) -> float:
        """Milliseconds that `share` percent of the answers did not take longer than."""
        return percentile_of(self.latencies, share) / 1000


def of_several(outcomes: Sequence[Outcome]) -> Outcome:
    """What came of loads at the same time, as if they had been one."""
    return Outcome(
        max(one.seconds for one in outcomes),
        sum(one.requests for one in outcomes),
        together(one.broken for one in outcomes),  # type: ignore[arg-type]
        together(one.statuses for one in outcomes),
        together(one.latencies for one in outcomes),
    )


class Load:
    """One wrk that posts bodies to a path; more of them may run at the same time."""

    def __init__(
        self, url: str, path: str, bodies: Iterable[bytes], *, folder: Path, connections: int, seconds: float
    ) -> None:
        if WRK is None:
            raise SystemExit("wrk is missing; on Debian: apt-get install wrk")
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl", delete=False) as file:
            file.writelines(body + b"\n" for body in bodies)
        command = [WRK, "-t1", f"-c{connections}", f"-d{seconds:g}s", f"--timeout={TIMEOUT_S}s"]
        command += [f"-s{SCRIPT}", url, "--", path, file.name]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def end(self) -> None:
        """End it before its time; what came of it counts."""
        self._process.send_signal(signal.SIGINT)

    def outcome(self) -> Outcome:
        """Wait for the end, and say what came of it."""
        said, _ = self._process.communicate()
        lines = [line for line in said.splitlines() if line.startswith("{")]
        if self._process.returncode or not lines:
            raise SystemExit(f"wrk ended with {self._process.returncode}:\n{said}")
        return read_outcome(lines[-1])


def read_outcome(line: str) -> Outcome:
    """What requests.lua prints."""
    said = json.loads(line)
    # wrk counts a bad status among its errors, too; here statuses are counted by themselves.
    broken = {name: count for name, count in said["errors"].items() if name != "status"}
    return Outcome(
        seconds=said["microseconds"] / 1e6,
        requests=said["requests"],
        broken=broken,
        statuses={int(name[1:]): count for name, count in said["statuses"].items()},
        latencies=dict(said["latencies"]),
    )
