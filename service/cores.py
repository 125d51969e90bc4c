"""How many cores this process may use: those that it is bound to, and no more than its container is given."""

from __future__ import annotations

import math
from pathlib import Path

from towers.encoder import available_cores

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": two cores; "max 100000": no bound


def cores(limit: Path = CPU_MAX) -> int:
    """Cores for all threads and processes of the service, at least 1."""
    return max(1, min(available_cores(), _allowed(limit)))


def _allowed(limit: Path) -> int:
    try:
        quota, period = limit.read_text(encoding="ascii").split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return available_cores()
