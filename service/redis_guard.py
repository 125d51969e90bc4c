"""A circuit breaker: a Redis that does not answer costs one timeout, not one per request."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from service.metrics import Metrics
from towers.errors import RedisUnavailableError

T = TypeVar("T")
log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 30.0  # guess, untested


class RedisGuard:
    """Lets calls through to Redis while it answers, and answers None at once while it does not.

    A server that answers probes but fails real calls (overloaded, too slow) would be tried again at every
    probe; each such failure doubles the pause before the next attempt, and the first real success resets it.
    """

    def __init__(
        self,
        ping: Callable[[], object],
        metrics: Metrics,
        *,
        probe_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ping, self._metrics, self._probe_s, self._now = ping, metrics, probe_s, now
        self._lock = threading.Lock()
        self._strikes = 0
        self._not_before = 0.0
        self.problem: str | None = "not asked yet"

    @property
    def up(self) -> bool:
        """Whether calls are let through."""
        return self.problem is None

    def ask(self, call: Callable[[], T]) -> T | None:
        """The result of `call`, or None when Redis is down or goes down in it."""
        if not self.up:
            return None
        try:
            result = call()
        except RedisUnavailableError as exc:
            self._strikes += 1
            pause = min(LONGEST_PAUSE_S, self._probe_s * 2 ** (self._strikes - 1))
            self._down(exc, not_before=self._now() + pause)
            return None
        self._strikes = 0
        return result

    def probe(self) -> None:
        """Look whether Redis answers and open or close the way accordingly; may take one timeout."""
        if self._now() < self._not_before:
            return
        try:
            self._ping()
        except RedisUnavailableError as exc:
            self._strikes = 0  # not a server that only answers probes: be there at once when it is back
            self._down(exc, not_before=0.0)
        else:
            self._back()

    def _down(self, error: RedisUnavailableError, *, not_before: float) -> None:
        self._metrics.redis_failures.inc()
        with self._lock:
            was_up, self.problem = self.up, str(error)
            self._not_before = not_before
        self._metrics.redis_up.set(0)
        if was_up:
            log.warning("redis down, going on without it", extra={"reason": self.problem})

    def _back(self) -> None:
        with self._lock:
            was_up, self.problem = self.up, None
        self._metrics.redis_up.set(1)
        if not was_up:
            log.info("redis answers")
