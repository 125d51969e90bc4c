from __future__ import annotations

import asyncio
import threading

import pytest

from service.errors import BusyError
from service.work import Work


def test_work_is_bounded_and_places_are_given_back() -> None:
    """Workers and queue together are the limit; a finished function, also one that failed, makes room."""

    async def story() -> None:
        work, leave = Work(workers=2, queue=1), threading.Event()
        running = [asyncio.create_task(work.run(leave.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="3 requests"):
            await work.run(int)
        leave.set()
        assert await asyncio.gather(*running) == [True] * 3
        with pytest.raises(ValueError, match="invalid literal"):
            await work.run(int, "no number")
        assert await asyncio.gather(*(work.run(int, str(number)) for number in range(3))) == [0, 1, 2]
        work.close()

    asyncio.run(story())


def test_closing_waits_for_what_runs() -> None:
    """Nothing that has begun is cut off."""

    async def story() -> None:
        work, begun, done = Work(workers=1, queue=0), threading.Event(), threading.Event()

        def slow() -> None:
            begun.set()
            threading.Event().wait(0.05)
            done.set()

        task = asyncio.create_task(work.run(slow))
        await asyncio.to_thread(begun.wait)
        await asyncio.to_thread(work.close)
        assert done.is_set()
        await task

    asyncio.run(story())
