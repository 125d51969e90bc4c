from __future__ import annotations

import asyncio
import threading

import pytest

from service.errors import BusyError
from service.lanes import QUICK, QUICK_CHARACTERS, need_long_lane
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


def test_single_texts_do_not_wait_for_long_lists() -> None:
    """With one worker: while a list is at work and another one waits, a single text is answered."""

    async def story() -> None:
        work, begun, leave = Work(workers=1, queue=3), threading.Event(), threading.Event()

        def lists(texts: list[str]) -> int:
            need_long_lane(texts)
            begun.set()
            leave.wait()
            return len(texts)

        def single() -> str:
            need_long_lane(["a"] * QUICK)
            return threading.current_thread().name

        long = [asyncio.create_task(work.run(lists, ["a"] * (QUICK + 1))) for _ in range(2)]
        await asyncio.to_thread(begun.wait)
        assert (await work.run(single)).startswith("work")
        assert work.taken == 2
        leave.set()
        assert await asyncio.gather(*long) == [QUICK + 1] * 2
        work.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("texts", "lane"),
    [
        (["a"] * QUICK, "work"),
        (["a"] * (QUICK + 1), "long-work"),
        (["a" * (QUICK_CHARACTERS // 2)] * 2, "work"),
        (["a" * (QUICK_CHARACTERS // 2)] * 2 + ["a"], "long-work"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} texts",
)
def test_many_texts_or_characters_go_to_the_long_lane(texts: list[str], lane: str) -> None:
    """A few texts do not, also when each is as long as the towers read."""

    async def story() -> None:
        work = Work(workers=1, queue=0)

        def where() -> str:
            need_long_lane(texts)
            return threading.current_thread().name

        assert (await work.run(where)).rpartition("_")[0] == lane
        work.close()

    asyncio.run(story())


def test_outside_of_work_there_are_no_lanes() -> None:
    """Whoever calls a handler by hand gets its answer."""
    need_long_lane(["a"] * (QUICK + 1))
