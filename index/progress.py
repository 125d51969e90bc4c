"""What a long job says while it works: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_BETWEEN_LINES: Final = 10.0
Advance = Callable[[int], None]


class Reporter:
    """Tells a person how a job is going.

    Args:
        console: where to; standard error is usual, so that standard output stays free for the result.
        clock: seconds that only grow.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def counting(self, verb: str, total: int, *, done: int = 0) -> Iterator[Advance]:
        """Show the way from `done` to `total` titles; the caller is given a function to report each step.

        The rate and the time left come from this run's work only, so that a resumed job does not promise too
        much.
        """
        with (
            self._bar(verb, total, done)
            if self._console.is_terminal
            else self._lines(verb, total, done) as advance
        ):
            yield advance

    @contextmanager
    def _bar(self, verb: str, total: int, done: int) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, speed_estimate_period=60) as progress:
            task = progress.add_task(verb, total=total, completed=done)
            yield lambda count: progress.advance(task, count)

    @contextmanager
    def _lines(self, verb: str, total: int, done: int) -> Iterator[Advance]:
        started = said = self._clock()
        here = 0
        lock = Lock()  # an encoder reports from several threads

        def advance(count: int) -> None:
            nonlocal here, said
            with lock:
                here += count
                now = self._clock()
                if now - said >= SECONDS_BETWEEN_LINES:
                    said = now
                    rate = here / (now - started)
                    left = _clock_text((total - done - here) / rate) if rate else "?"
                    self.say(
                        f"{verb}: {done + here:,} of {total:,} titles, {rate:,.0f} titles/s, {left} left"
                    )

        yield advance
        if here:
            seconds = max(self._clock() - started, 1e-9)
            self.say(f"{verb}: {done + here:,} of {total:,} titles, {here / seconds:,.0f} titles/s")


class _Rate(ProgressColumn):
    """Titles per second."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} titles/s", style="progress.data.speed")


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
