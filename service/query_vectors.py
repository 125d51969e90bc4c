"""Vectors of queries: kept in the process, then by all processes of the machine, then in Redis, else encoded."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from service.cancel import while_wanted
from service.errors import UnknownQueryError
from service.lanes import need_long_lane
from service.metrics import Metrics
from service.query_table import QueryTable
from service.redis_guard import RedisGuard

T = TypeVar("T")
QUERY_ID = re.compile("[0-9a-f]{64}")
Progress = Callable[[int], None]


class Encoder(Protocol):
    """What a bundle does; `progress` is called between batches and may raise, which ends the encoding."""

    def encode_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> np.ndarray:
        """Vectors (n, dim) of queries."""

    def encode_titles(self, texts: Sequence[str], *, progress: Progress | None = None) -> np.ndarray:
        """Vectors (n, dim) of titles."""


class SharedQueries(Protocol):
    """Query vectors that several processes share; index.redis_titles.RedisQueries is one."""

    def get(self, text: str) -> np.ndarray | None:
        """The vector (dim,) of a query, or None."""

    def by_id(self, query_id: str) -> np.ndarray | None:
        """The vector (dim,) of the query whose text has this SHA-256, or None."""

    def put(self, text: str, vector: np.ndarray) -> None:
        """Keep the vector (dim,) of a query."""


def query_id_of(text: str) -> str:
    """The id of a query: the SHA-256 of its text in UTF-8, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


class QueryVectors:
    """An Encoder that remembers.

    A kept vector and a fresh one are the same, because a query's vector depends on its own text alone.
    """

    def __init__(
        self,
        encoder: Encoder,
        metrics: Metrics,
        *,
        size: int,
        shared: SharedQueries | None = None,
        guard: RedisGuard | None = None,
        table: QueryTable | None = None,
    ) -> None:
        self._encoder, self._metrics = encoder, metrics
        self._shared, self._guard, self._table = shared, guard, table
        self._recent = Recent(size)

    def encode_titles(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim) of titles, which are not kept."""
        need_long_lane(texts)
        return self._encoder.encode_titles(texts, progress=while_wanted())

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim) of queries; those that are not kept anywhere are encoded together."""
        need_long_lane(texts)
        kept = {text: self._kept(text) for text in texts}
        vectors = {text: vector for text, vector in kept.items() if vector is not None}
        missing = [text for text in kept if text not in vectors]
        if missing:
            fresh = self._encoder.encode_queries(missing, progress=while_wanted())
            for text, vector in zip(missing, fresh, strict=True):
                vectors[text] = vector
                self._keep(text, vector)
            self._metrics.queries.labels("encoder").inc(len(missing))
        return np.stack([vectors[text] for text in texts])

    def by_id(self, query_id: str) -> np.ndarray:
        """The kept vector (dim,) of a query.

        Raises:
            UnknownQueryError: It is not kept (any more).
        """
        vector = self._found(query_id, lambda shared: shared.by_id(query_id))
        if vector is None:
            raise UnknownQueryError(
                "no vector is kept under this query_id: it was never encoded here, or it was displaced; "
                "send the text as query"
            )
        return vector

    def _found(self, query_id: str, ask: Callable[[SharedQueries], np.ndarray | None]) -> np.ndarray | None:
        """The vector from the nearest place that has it, and kept in those before it from then on."""
        if (vector := self._recent.get(query_id)) is not None:
            self._metrics.queries.labels("process").inc()
            return vector
        if not QUERY_ID.fullmatch(query_id):  # what a client calls an id may be anything
            return None
        if self._table is not None and (vector := self._table.get(query_id)) is not None:
            self._metrics.queries.labels("machine").inc()
            self._recent.put(query_id, vector)
        elif (vector := self._ask_redis(ask)) is not None:
            self._metrics.queries.labels("redis").inc()
            self._keep_here(query_id, vector)
        return vector

    def _kept(self, text: str) -> np.ndarray | None:
        return self._found(query_id_of(text), lambda shared: shared.get(text))

    def _keep(self, text: str, vector: np.ndarray) -> None:
        self._keep_here(query_id_of(text), vector)
        self._ask_redis(lambda shared: shared.put(text, vector))

    def _keep_here(self, query_id: str, vector: np.ndarray) -> None:
        self._recent.put(query_id, vector)
        if self._table is not None:
            self._table.put(query_id, vector)

    def _ask_redis(self, call: Callable[[SharedQueries], T]) -> T | None:
        shared = self._shared
        if shared is None or self._guard is None:
            return None
        return self._guard.ask(lambda: call(shared))


class Recent:
    """A bounded dictionary that forgets what was used longest ago. Safe between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: str) -> np.ndarray | None:
        """The vector under `key`, which becomes the most recent one."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
            return vector

    def put(self, key: str, vector: np.ndarray) -> None:
        """Keep a vector and forget the oldest ones beyond the size."""
        with self._lock:
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
