"""Small stand-ins with the real interfaces: an encoder that hashes words, and a release in memory.

They suffice wherever the question is what the service does around vectors, not what the vectors mean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from index.titles import Title
from service.compose import Opener
from service.follow import Follower
from service.keys import Keys
from service.matcher import Matcher
from service.metrics import Metrics
from service.query_vectors import QueryVectors
from service.serving import InUse, Serving
from service.settings import Settings
from service.state import State
from service.title_vectors import NoRelease, ReleaseTitles
from service.work import Work
from towers import Manifest
from towers.encoder import Progress
from towers.tokens import Token

DIM = 16
TITLES = [
    Title("shoe-1", "red running shoe", {"domain": "shop", "colour": "red"}),
    Title("shoe-2", "blue running shoe", {"domain": "shop", "colour": "blue"}),
    Title("faq-1", "how do I reset my password", {"domain": "faq"}),
    Title("新闻-1", "今天 天气 很 好", {"domain": "news"}),
]


class FakeBundle:
    """A bag of words: each word has a random direction, a text is the sum of its words."""

    bundle_id = titles_id = "f" * 64
    dim = DIM
    max_tokens = 64
    threshold = 0.75
    labels = (-1, 0, 1)
    has_sentiment = True
    exit_layers = ()
    short_dims: tuple[int, ...] = ()
    manifest = Manifest(DIM, 64, 0.75, "cosine", {}, {}, "Apache-2.0", labels=labels, sentiment_max_tokens=64)

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> np.ndarray:
        self.encoded += texts
        rows = np.stack(
            [sum((_direction(word) for word in text.split()), np.full(DIM, 1e-3)) for text in texts]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode_titles(self, texts: Sequence[str], *, progress: Progress | None = None) -> np.ndarray:
        return self.encode_queries(texts)

    def score(self, query_vector: np.ndarray, title_vectors: np.ndarray) -> np.ndarray:
        return ((1 + title_vectors @ query_vector) / 2).clip(0, 1).astype(np.float32)

    def tokens(self, text: str) -> list[Token]:
        """Words, each after what stands before it."""
        words = [match.span() for match in re.finditer(r"\S+", text)]
        return [Token(0, text[start:stop], False, start, stop) for start, stop in words]

    def full_counts(self, texts: Sequence[str]) -> list[int]:
        return [len(self.tokens(text)) for text in texts]

    def sentiment(self, texts: Sequence[str], *, progress: Progress | None = None) -> np.ndarray:
        rows = {"good": [0.1, 0.2, 0.7], "bad": [0.8, 0.1, 0.1]}
        return np.array([rows.get(text, [0.2, 0.6, 0.2]) for text in texts], np.float32)


def _direction(word: str) -> np.ndarray:
    return np.random.default_rng(int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)).normal(size=DIM)


class FakeRelease:
    """A release whose rows are a list."""

    def __init__(self, titles: Sequence[Title] = TITLES) -> None:
        self._titles = list(titles)
        self._vectors = FakeBundle().encode_titles([title.title for title in titles])
        self.closed = False

    def search(self, query_vector: np.ndarray, k: int, *, rows: np.ndarray | None = None) -> Any:
        assert not self.closed
        rows = np.arange(len(self._titles)) if rows is None else rows
        cosines = self._vectors[rows] @ query_vector
        best = np.argsort(-cosines, kind="stable")[:k]
        return cosines[best], rows[best]

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        assert not self.closed
        return self._vectors[rows]

    def rows_of(self, ids: Sequence[str]) -> list[int | None]:
        places = {title.id: row for row, title in enumerate(self._titles)}
        return [places.get(id) for id in ids]

    def titles(self, rows: np.ndarray) -> list[Title]:
        return [self._titles[row] for row in rows]

    def rows_where(self, field: str, value: object) -> np.ndarray:
        return np.array([row for row, t in enumerate(self._titles) if t.fields.get(field) == value], np.int64)

    def close(self) -> None:
        self.closed = True


def serving_of(version: str, bundle: Any, release: FakeRelease, metrics: Metrics) -> Serving:
    """What Opener makes, from a fake release."""
    matcher = Matcher(bundle, release, ReleaseTitles(release, metrics), bundle)
    about = {"version": version, "bundle_id": "f" * 64, "count": len(TITLES)}
    return Serving(version, matcher, release, about=about, close=release.close)


def fake_state(
    root: Path, *, release: FakeRelease | None = None, bundle: FakeBundle | None = None, **given: Any
) -> State:
    """A state over fakes; with a release, that is in use from the start."""
    settings = Settings(**({"releases": root, "drain_s": 0.0, "workers": 2} | given))
    bundle, metrics = bundle or FakeBundle(), Metrics()
    queries = QueryVectors(bundle, metrics, size=settings.query_cache)
    in_use = InUse(Opener(settings, bundle, queries, metrics, None).without_release())
    if release is not None:
        serving = serving_of("v1", bundle, release, metrics)
        serving.matcher.encoder = queries
        in_use.replace(serving)
    follower = Follower(root, in_use, lambda version: None, metrics, retry_s=1)
    work = Work(workers=settings.workers, queue=settings.queue)
    return State(settings, bundle, metrics, queries, in_use, follower, work, Keys(settings))


__all__ = ["DIM", "TITLES", "FakeBundle", "FakeRelease", "NoRelease", "fake_state", "serving_of"]
