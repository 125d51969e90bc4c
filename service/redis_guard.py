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

# Guesses, untested.
LONGEST_PAUSE_S = 30.0
FORGET_S = 60.0  # a failure that comes this long after the last one is a new story


class RedisGuard:
    """Lets calls through to Redis while it answers, and answers None at once while it does not.

    A server that answers probes but fails real calls (overloaded, too slow) would be tried again at every
    probe; each such failure soon after another one doubles the pause before the next attempt.
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
        self._failed_at = float("-inf")
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
            return call()
        except RedisUnavailableError as exc:
            if self._down(exc):
                self._pause()
            return None

    def probe(self) -> None:
        """Look whether Redis answers and open or close the way accordingly; may take one timeout."""
        if self._now() < self._not_before:
            return
        try:
            self._ping()
        except RedisUnavailableError as exc:
            self._strikes = 0  # not a server that only answers probes: be there at once when it is back
            self._down(exc)
        else:
            self._back()

    def _pause(self) -> None:
        """Put off the next attempt after a failed call; of several calls that fail together, only after one."""
        now = self._now()
        self._strikes = self._strikes + 1 if now - self._failed_at < FORGET_S else 1
        self._failed_at = now
        self._not_before = now + min(LONGEST_PAUSE_S, self._probe_s * 2.0 ** (self._strikes - 1))

    def _down(self, error: RedisUnavailableError) -> bool:
        """Close the way; True when it was open."""
        self._metrics.redis_failures.inc()
        with self._lock:
            self._metrics.redis_up.set(0)  # first: who reads the problem must not find the gauge still at 1
            was_up, self.problem = self.up, str(error)
        if was_up:
            log.warning("redis down, going on without it", extra={"reason": self.problem})
        return was_up

    def _back(self) -> None:
        with self._lock:
            self._metrics.redis_up.set(1)
            was_up, self.problem = self.up, None
        if not was_up:
            log.info("redis answers")
