"""The heart: text → query vector → candidates → titles → scores → matches.

The Matcher knows no framework. It is composed of four small things, and whatever has their few methods will
do: the service puts caches and Redis behind them, the tests put dictionaries there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from index.titles import Title
from index.vectors import cosines_of

T = TypeVar("T")


class Encoder(Protocol):
    """Texts in, rows of length 1 out."""

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim) of queries."""

    def encode_titles(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (n, dim) of titles."""


class Searcher(Protocol):
    """The nearest titles to a vector."""

    def search(
        self, query_vector: np.ndarray, k: int, *, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosines (m,) and rows int64 (m,) of the k nearest titles (of `rows`, when given), best first."""


class Titles(Protocol):
    """What is kept about titles, by row or by id."""

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) of rows."""

    def vectors_of(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, dim) of ids, and whether each is known, bool (n,)."""

    def titles(self, rows: np.ndarray) -> list[Title]:
        """Id, text and kept fields of rows."""


class Scorer(Protocol):
    """How well a query and titles match, judged from their vectors."""

    @property
    def threshold(self) -> float:
        """The score from which on they match."""

    def score(self, query_vector: np.ndarray, title_vectors: np.ndarray) -> np.ndarray:
        """Probabilities (n,) that a query (dim,) and titles (n, dim) match."""


@dataclass(frozen=True)
class Matches:
    """Judgements of n titles, in the order in which they were asked for (match) or best first (search).

    Attributes:
        scores: Probabilities that query and title match, float32 (n,).
        cosines: Cosines of their vectors, float32 (n,).
        matches: Whether the score reaches the threshold, bool (n,).
        known: False where a title has no vector: its numbers mean nothing, bool (n,).
        milliseconds: Time of each stage.
    """

    scores: np.ndarray
    cosines: np.ndarray
    matches: np.ndarray
    known: np.ndarray
    milliseconds: dict[str, float]


@dataclass(frozen=True)
class Found(Matches):
    """The answer to a search: judgements and the titles that they are about."""

    titles: list[Title]


class Matcher:
    """Answers two questions: which titles mean what the query means, and how well do these titles match it?

    A query is given by its text, or by its vector (dim,) when the caller has that already.
    """

    def __init__(self, encoder: Encoder, searcher: Searcher, titles: Titles, scorer: Scorer) -> None:
        self.encoder, self.searcher, self.titles, self.scorer = encoder, searcher, titles, scorer

    def search(
        self, query: str | np.ndarray, *, k: int, candidates: int, rows: np.ndarray | None = None
    ) -> Found:
        """Find the k best scores among the `candidates` nearest titles (of `rows`, when given)."""
        clock = Clock()
        vector = clock.lap("encode", self.query_vector(query))
        _, rows = clock.lap("search", self.searcher.search(vector, candidates, rows=rows))
        scores, cosines = clock.lap("score", self.judge(vector, self.titles.vectors(rows)))
        best = np.argsort(-scores, kind="stable")[:k]  # stable: of equal scores the nearer title goes first
        titles = clock.lap("fetch", self.titles.titles(rows[best]))
        return Found(*self._decided(scores[best], cosines[best]), milliseconds=clock.laps, titles=titles)

    def match(
        self, query: str | np.ndarray, *, ids: Sequence[str] = (), texts: Sequence[str] = ()
    ) -> Matches:
        """Judge one query against titles by id, then titles by text. Unknown ids are marked, not refused."""
        clock = Clock()
        vector = clock.lap("encode", self.query_vector(query))
        vectors, known = clock.lap("fetch", self.title_vectors(ids, texts))
        scores, cosines = clock.lap("score", self.judge(vector, vectors))
        return Matches(*self._decided(scores, cosines, known), milliseconds=clock.laps)

    def match_pairs(
        self,
        queries: Sequence[str | np.ndarray],
        which: np.ndarray,
        *,
        ids: Sequence[str] = (),
        texts: Sequence[str] = (),
    ) -> Matches:
        """Judge pairs: title i (of ids, then texts) against query `which[i]`, int (n,); -1 judges nothing."""
        clock = Clock()
        query_vectors = clock.lap("encode", [self.query_vector(query) for query in queries])
        vectors, known = clock.lap("fetch", self.title_vectors(ids, texts))
        scores, cosines = np.zeros(len(vectors), np.float32), np.zeros(len(vectors), np.float32)
        for number, vector in enumerate(query_vectors):
            mine = np.flatnonzero(which == number)
            scores[mine], cosines[mine] = self.judge(vector, vectors[mine])
        clock.lap("score", None)
        return Matches(*self._decided(scores, cosines, known), milliseconds=clock.laps)

    def query_vector(self, query: str | np.ndarray) -> np.ndarray:
        """The vector (dim,) of a query; a vector stays as it is."""
        return self.encoder.encode_queries([query])[0] if isinstance(query, str) else query

    def title_vectors(self, ids: Sequence[str], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, dim) of titles by id, then by text, and whether each is known, bool (n,)."""
        if not texts:
            return self.titles.vectors_of(ids)
        encoded, all_known = self.encoder.encode_titles(texts), np.ones(len(texts), bool)
        if not ids:
            return encoded, all_known
        kept, known = self.titles.vectors_of(ids)
        return np.concatenate([kept, encoded]), np.concatenate([known, all_known])

    def judge(self, query_vector: np.ndarray, title_vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and cosines, float32 (n,) each, of a query (dim,) and titles (n, dim)."""
        cosines = np.clip(cosines_of(query_vector, title_vectors), -1, 1)  # rounding may go a hair beyond 1
        return self.scorer.score(query_vector, title_vectors), cosines

    def _decided(
        self, scores: np.ndarray, cosines: np.ndarray, known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        matches = scores >= self.scorer.threshold
        return scores, cosines, matches, np.ones(len(scores), bool) if known is None else known


class Clock:
    """Notes how long each stage took: a lap runs from the end of the one before."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str, result: T) -> T:
        """Note the milliseconds since the last lap under `stage`; hands `result` through."""
        now = time.perf_counter()
        self.laps[stage] = round((now - self._last) * 1000, 3)
        self._last = now
        return result
