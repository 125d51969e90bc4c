"""Bounded work: a few threads compute, a few requests may wait for one, and the next is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

from service.cancel import ASKER
from service.errors import BusyError, GoneError
from service.lanes import LongError, be_nice, enter_quick_lane, leave_quick_lane

T = TypeVar("T")


class Work:
    """Runs functions in threads, off the event loop. To be used from one event loop.

    Args:
        workers: Threads of the quick lane, and of the long lane.
        queue: Functions that may wait, for either.
    """

    def __init__(self, *, workers: int, queue: int) -> None:
        self._quick = ThreadPoolExecutor(workers, thread_name_prefix="work")
        self._long = ThreadPoolExecutor(workers, thread_name_prefix="long-work", initializer=be_nice)
        self._limit = workers + queue
        self.taken = 0

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run `function(*args)` in a thread; again from the start in the long lane, where it asks for that.

        Raises:
            BusyError: All workers are taken and the queue is full.
            GoneError: The client has gone before a thread was free.
        """
        if self.taken >= self._limit:
            raise BusyError(
                f"{self.taken} requests are in work or waiting, which is the limit; try again later"
            )
        self.taken += 1
        # The thread sees the request's id and span, which log lines and traces name, and its client.
        context = copy_context()
        call = partial(function, *args)
        try:
            context.run(enter_quick_lane)
            return await _in_thread(self._quick, context, call)
        except LongError:
            context.run(leave_quick_lane)
            return await _in_thread(self._long, context, call)
        finally:
            self.taken -= 1

    def close(self) -> None:
        """Wait for running functions and end the threads."""
        self._quick.shutdown(wait=True, cancel_futures=True)
        self._long.shutdown(wait=True, cancel_futures=True)


async def _in_thread(pool: ThreadPoolExecutor, context: Context, call: Callable[[], T]) -> T:
    waiting = [
        call
    ]  # emptied when it is dropped: the pool keeps dropped work, and with it a body, until its turn
    future = pool.submit(context.run, _first, waiting)
    asker = ASKER.get()
    if asker is not None:
        asker.waits_for(future)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        waiting.clear()
        if asker is not None and asker.gone:
            raise GoneError("the client has gone before its request was begun") from None
        raise


def _first(waiting: list[Callable[[], Any]]) -> Any:
    return waiting[0]()
