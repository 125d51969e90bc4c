"""How often each key may ask: a token bucket for each name, counted in this process."""

from __future__ import annotations

import time
from collections.abc import Callable


class Limiter:
    """Token buckets. A bucket holds `burst` tokens, gets `rate` of them a second, and a request takes one.

    To be used from one thread. Names must come from a bounded set: their buckets are kept.
    """

    def __init__(self, rate: float, burst: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._now = rate, float(burst), now
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens left, and when that was

    def wait_s(self, name: str) -> float:
        """Take a token of `name`: 0.0 when there was one, else the seconds until there will be one."""
        now = self._now()
        left, then = self._buckets.get(name, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        taken = left >= 1
        self._buckets[name] = (left - taken, now)
        return 0.0 if taken else (1 - left) / self._rate
