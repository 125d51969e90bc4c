"""Kills an index job before its first rename, another before its second, and so on, and lets each be finished.

One process that imports everything once and forks for each job, so that the deaths are real and still take little time.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.index.fake_encoder import main

_FACTORY = "HNSW16_SQ8"


def job(titles: str, directory: Path, *, dies_before: int = 0) -> int:
    """Run a job in a process of its own; its exit status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if dies_before:
                _die_before_rename(dies_before)
            main(titles, str(directory), str(directory) + ".log", "0", _FACTORY)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _die_before_rename(number: int) -> None:
    rename = os.replace
    left = number

    def dying(source: Any, target: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = dying  # type: ignore[assignment]


def deaths(titles: str, root: Path) -> int:
    """How many renames there are; `died-<n>` is what a job has left that died before the n-th and was then repeated."""
    if job(titles, root / "whole") != 0:
        sys.exit("the uninterrupted job failed")
    number = 0
    while True:
        number += 1
        directory = root / f"died-{number}"
        code = job(titles, directory, dies_before=number)
        if code == 0:
            return number - 1
        if code != -signal.SIGKILL or job(titles, directory) != 0:
            sys.exit(f"the job that died before rename {number} could not be repeated")


if __name__ == "__main__":
    import faiss  # noqa: F401  # once, before the forks
    import numpy as np  # noqa: F401
    from rich.console import Console  # noqa: F401

    import index.build  # noqa: F401

    sys.stdout.write(str(deaths(sys.argv[1], Path(sys.argv[2]))))
