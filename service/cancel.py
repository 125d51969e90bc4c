"""Requests whose client has gone: what waits for a thread is dropped, what runs ends at its next look.

The event loop sees that a connection ends, a thread does the work. Between them goes a request's Asker, in a context
variable like the request's id: Work notes in it what can still be dropped, and whoever computes for long looks at it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

from service.errors import GoneError


class Asker:
    """The client that waits for an answer."""

    def __init__(self) -> None:
        self.gone = False
        self._work: Future[Any] | None = None

    def waits_for(self, work: Future[Any]) -> None:
        """Note what to drop when the client goes."""
        self._work = work
        if self.gone:
            work.cancel()

    def leave(self) -> None:
        """The client has gone."""
        self.gone = True
        if self._work is not None:
            self._work.cancel()  # does nothing to what runs already


ASKER: ContextVar[Asker | None] = ContextVar("asker", default=None)


def while_wanted() -> Callable[[int], None]:
    """A look for between two batches, from any thread: it raises GoneError once the request's client has gone."""
    asker = ASKER.get()

    def look(_done: int) -> None:
        if asker is not None and asker.gone:
            raise GoneError("the client has gone; its request is not computed any further")

    return look
