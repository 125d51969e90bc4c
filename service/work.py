"""Bounded work: a few threads compute, a few requests may wait for one, and the next is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from service.errors import BusyError

T = TypeVar("T")


class Work:
    """Runs functions in threads, off the event loop. To be used from one event loop."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="work")
        self._limit = workers + queue
        self.taken = 0

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run `function(*args)` in a thread.

        Raises:
            BusyError: All workers are taken and the queue is full.
        """
        if self.taken >= self._limit:
            raise BusyError(
                f"{self.taken} requests are in work or waiting, which is the limit; try again later"
            )
        self.taken += 1
        try:
            # The thread sees the request's id and span, which log lines and traces name.
            context = copy_context()
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, context.run, partial(function, *args)
            )
        finally:
            self.taken -= 1

    def close(self) -> None:
        """Wait for running functions and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
