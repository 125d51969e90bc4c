"""Titles of the release in use: vectors by id from Redis where it has them, all else from the memory map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from index.titles import Title
from service.errors import NoReleaseError
from service.metrics import Metrics
from service.redis_guard import RedisGuard
from towers.errors import RedisUnavailableError


class OpenRelease(Protocol):
    """The part of index.release.Release that is needed here."""

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) of rows."""

    def rows_of(self, ids: Sequence[str]) -> list[int | None]:
        """The row of each id, None where there is no such id."""

    def titles(self, rows: np.ndarray) -> list[Title]:
        """Titles of rows."""


class SharedTitles(Protocol):
    """Title vectors of this release outside of the process; index.redis_titles.RedisTitles is one."""

    def vectors(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, dim) of ids, and whether each was found, bool (n,)."""

    def sealed(self) -> int | None:
        """How many titles there are, or None while the release is not there completely."""

    def close(self) -> None:
        """Close the connections."""


class RemoteTitles:
    """Titles of one release in Redis, asked only while Redis answers and holds all of them.

    A Redis that was restarted empty answers well, and finds nothing: asking it would only cost time.
    """

    def __init__(self, shared: SharedTitles, guard: RedisGuard) -> None:
        self._shared, self._guard = shared, guard
        self._complete = False

    @property
    def in_use(self) -> bool:
        """Whether vectors come from here."""
        return self._complete and self._guard.up

    def look(self) -> None:
        """See whether the release is there completely."""
        try:
            self._complete = self._guard.up and self._shared.sealed() is not None
        except RedisUnavailableError:  # the guard's own probe will find out, too
            self._complete = False

    def vectors(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
        """Vectors (n, dim) of ids, and whether each was found, bool (n,); None when Redis cannot be asked."""
        return self._guard.ask(lambda: self._shared.vectors(ids)) if self._complete else None

    def close(self) -> None:
        """Close the connections."""
        self._shared.close()


class ReleaseTitles:
    """Titles of one release.

    Search needs vectors of rows that the index has just named: they come from the memory map, without a round
    trip. Match by id takes them from Redis; what Redis lacks, and all while it is down, from the memory map.
    """

    def __init__(self, release: OpenRelease, metrics: Metrics, *, remote: RemoteTitles | None = None) -> None:
        self._release, self._metrics, self._remote = release, metrics, remote

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) of rows."""
        self._metrics.titles.labels("memory_map").inc(len(rows))
        return self._release.vectors(rows)

    def titles(self, rows: np.ndarray) -> list[Title]:
        """Titles of rows."""
        return self._release.titles(rows)

    def vectors_of(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, dim) of titles by id, and whether each is known, bool (n,)."""
        answer = self._remote.vectors(ids) if self._remote is not None else None
        if answer is None:
            return self._from_memory_map(ids)
        vectors, found = answer
        self._metrics.titles.labels("redis").inc(int(found.sum()))
        missing = np.flatnonzero(~found).tolist()
        if missing:
            vectors[missing], found[missing] = self._from_memory_map([ids[place] for place in missing])
        return vectors, found

    def _from_memory_map(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array([-1 if row is None else row for row in self._release.rows_of(ids)], np.int64)
        known = rows >= 0
        found = self.vectors(rows[known])
        if known.all():
            return found, known
        vectors = np.zeros((len(ids), found.shape[1]), np.float32)
        vectors[known] = found
        return vectors, known


class NoRelease:
    """Stands where a release would: every question about titles is refused with the way out."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def search(
        self, query_vector: np.ndarray, k: int, *, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Refuse."""
        raise NoReleaseError(self._reason)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Refuse."""
        raise NoReleaseError(self._reason)

    def vectors_of(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Refuse."""
        raise NoReleaseError(f"{self._reason}; titles can be matched by text meanwhile")

    def titles(self, rows: np.ndarray) -> list[Title]:
        """Refuse."""
        raise NoReleaseError(self._reason)

    def rows_where(self, field: str, value: object) -> np.ndarray:
        """Refuse."""
        raise NoReleaseError(self._reason)
