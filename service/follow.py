"""Follows CURRENT: a newly published release is opened beside the old one and exchanged when it is sound."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from index.releases import CURRENT_FILE, Releases
from service.metrics import Metrics
from service.serving import InUse, Serving

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


class Follower:
    """Keeps the release in use at what CURRENT names.

    `look` may block for as long as opening a release takes: it runs in a thread of its own, once at a time.
    """

    def __init__(
        self,
        root: Path,
        in_use: InUse,
        open_serving: Callable[[str], Serving],
        metrics: Metrics,
        *,
        retry_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._in_use, self._open, self._metrics = root, in_use, open_serving, metrics
        self._retry_s, self._now = retry_s, now
        self._seen: Stamp | None = None
        self._retry_at = float("inf")
        self.problem: str | None = None

    def look(self) -> None:
        """Take the published release into use if it is another one; keep the old one if that fails."""
        stamp = _stamp(self._root / CURRENT_FILE)
        if stamp == self._seen and self._now() < self._retry_at:
            return
        self._seen, self._retry_at = stamp, float("inf")
        try:
            version = Releases(self._root).current() if stamp else None
            # Unpublishing does not exist: a missing CURRENT takes nothing out of use.
            if version is not None and version != self._in_use.version:
                self.take(version)
        except Exception as exc:  # whatever is wrong with the new release, the old one goes on
            self._refuse(f"{type(exc).__name__}: {exc}")
        else:
            self.problem = None
            self._metrics.release_refused.set(0)

    def take(self, version: str) -> None:
        """Take a release into use.

        Raises:
            ReleaseError: It is incomplete or corrupt, or was made with another bundle; nothing has changed then.
        """
        serving = self._open(version)
        self._in_use.replace(serving)
        self._metrics.use_release(version, serving.about)
        log.info("release taken into use", extra={"release": version, "title_vectors": serving.title_vectors})

    def _refuse(self, problem: str) -> None:
        if problem != self.problem:
            log.error("published release refused", extra={"reason": problem, "in_use": self._in_use.version})
        self.problem = problem
        self._retry_at = self._now() + self._retry_s
        self._metrics.release_refused.set(1)


def _stamp(path: Path) -> Stamp | None:
    """What changes whenever the file is replaced or written; None while it is missing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
