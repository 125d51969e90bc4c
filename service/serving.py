"""The release in use, handed out and exchanged so that no request notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np

from service.known_texts import KnownTexts
from service.matcher import Matcher
from service.title_vectors import RemoteTitles


class Filterable(Protocol):
    """Rows by the value of a kept field."""

    def rows_where(self, field: str, value: object) -> np.ndarray:
        """Rows, int64 (m,) ascending, whose field has the value."""


def _nothing() -> None:
    """Close what needs no closing."""


@dataclass(eq=False)
class Serving:
    """Everything that requests use and that changes with the release: one value, exchanged as a whole.

    Attributes:
        version: Of the release; None when there is none.
        matcher: Answers the questions.
        filterable: Finds the rows of a filter.
        texts: Finds titles by their texts; None without a release.
        remote: Its titles in Redis, when there is a Redis.
        about: What /info says about the release; empty without one.
        close: Called once nobody uses it any more.
    """

    version: str | None
    matcher: Matcher
    filterable: Filterable
    texts: KnownTexts | None = None
    remote: RemoteTitles | None = None
    about: dict[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = _nothing
    users: int = field(default=0, init=False)
    retired: bool = field(default=False, init=False)

    @property
    def title_vectors(self) -> str:
        """Where vectors of titles by id come from: "redis", "memory map" or "none"."""
        if self.version is None:
            return "none"
        return "redis" if self.remote is not None and self.remote.in_use else "memory map"

    def rows_where(self, wanted: Mapping[str, object] | None) -> np.ndarray | None:
        """Rows whose kept fields have all these values; None means every row."""
        if not wanted:
            return None
        found = (self.filterable.rows_where(name, value) for name, value in wanted.items())
        return reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), found)


class InUse:
    """Holds the Serving of the moment. A replaced one is closed when its last user leaves."""

    def __init__(self, serving: Serving) -> None:
        self._lock = threading.Lock()
        self._serving = serving

    @property
    def version(self) -> str | None:
        """The version in use right now."""
        return self._serving.version

    @property
    def title_vectors(self) -> str:
        """Where vectors of titles by id come from right now."""
        return self._serving.title_vectors

    @contextmanager
    def use(self) -> Iterator[Serving]:
        """The Serving of the moment, kept open until the block ends."""
        with self._lock:
            serving = self._serving
            serving.users += 1
        try:
            yield serving
        finally:
            with self._lock:
                serving.users -= 1
                last = serving.retired and serving.users == 0
            if last:
                serving.close()

    def replace(self, new: Serving) -> None:
        """Hand out `new` from now on."""
        with self._lock:
            old, self._serving = self._serving, new
        self._retire(old)

    def close(self) -> None:
        """Let go of the release for good."""
        self._retire(self._serving)

    def _retire(self, serving: Serving) -> None:
        with self._lock:
            serving.retired = True
            unused = serving.users == 0
        if unused:
            serving.close()
