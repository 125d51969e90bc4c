from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UnknownQueryError
from service.metrics import Metrics
from service.query_vectors import QueryVectors, Recent, query_id_of
from service.redis_guard import RedisGuard
from tests.service.fakes import FakeBundle
from towers.errors import RedisUnavailableError


class Shared(dict[str, np.ndarray]):
    """Shared query vectors in a dictionary, which can be out of reach."""

    down = False

    def get(self, text: str) -> np.ndarray | None:  # type: ignore[override]
        self.check()
        return super().get(text)

    def by_id(self, query_id: str) -> np.ndarray | None:
        self.check()
        return next((self[text] for text in self if query_id_of(text) == query_id), None)

    def put(self, text: str, vector: np.ndarray) -> None:
        self.check()
        self[text] = vector

    def check(self) -> None:
        if self.down:
            raise RedisUnavailableError("down")


def remembering(
    bundle: FakeBundle, *, size: int = 10, shared: Shared | None = None, metrics: Metrics | None = None
) -> QueryVectors:
    metrics = metrics or Metrics()
    guard = RedisGuard(shared.check, metrics, probe_s=1) if shared is not None else None
    if guard is not None:
        guard.probe()
    return QueryVectors(bundle, metrics, size=size, shared=shared, guard=guard)


def test_a_query_id_is_the_sha256_of_the_text() -> None:
    """Clients can work it out themselves."""
    assert query_id_of("鞋") == hashlib.sha256("鞋".encode()).hexdigest()


def test_a_query_is_encoded_once() -> None:
    """The kept vector is the vector."""
    bundle = FakeBundle()
    queries = remembering(bundle)
    first = queries.encode_queries(["a", "b", "a"])
    again = queries.encode_queries(["b", "a"])
    assert bundle.encoded == ["a", "b"]
    assert np.array_equal(first[[1, 0]], again)
    assert np.array_equal(queries.by_id(query_id_of("a")), first[0])


def test_the_cache_is_bounded_and_forgets_the_least_recent() -> None:
    """Memory does not grow with the number of different queries."""
    bundle = FakeBundle()
    queries = remembering(bundle, size=2)
    for text in ("a", "b", "a", "c"):
        queries.encode_queries([text])
    queries.by_id(query_id_of("a"))
    with pytest.raises(UnknownQueryError, match="send the text"):
        queries.by_id(query_id_of("b"))


def test_another_process_has_encoded_it() -> None:
    """What Redis has is not encoded again, and is kept in the process from then on."""
    shared, metrics = Shared(), Metrics()
    remembering(FakeBundle(), shared=shared).encode_queries(["a"])
    bundle = FakeBundle()
    queries = remembering(bundle, shared=shared, metrics=metrics)
    for _ in range(2):
        queries.encode_queries(["a"])
    assert bundle.encoded == []
    text = metrics.text().decode()
    assert 'query_vectors_total{source="redis"} 1.0' in text
    assert 'query_vectors_total{source="process"} 1.0' in text


def test_without_redis_queries_are_encoded() -> None:
    """A dead Redis is no reason not to answer."""
    shared = Shared()
    queries = remembering(FakeBundle(), shared=shared)
    shared.down = True
    expected = FakeBundle().encode_queries(["a"])
    assert np.array_equal(queries.encode_queries(["a"]), expected)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60), st.integers(0, 4))
def test_recent_is_an_ordered_dictionary_with_a_bound(steps: list[tuple[str, bool]], size: int) -> None:
    """Against the obvious list: most recent last, cut from the front."""
    recent, obvious = Recent(size), []
    for key, put in steps:
        if put:
            recent.put(key, np.zeros(1))
            obvious = ([other for other in obvious if other != key] + [key])[-size or len(obvious) + 1 :]
        elif recent.get(key) is not None:
            assert key in obvious
            obvious = [other for other in obvious if other != key] + [key]
        else:
            assert key not in obvious
    assert len(recent) == len(obvious) <= size


def test_many_threads_may_ask_at_once() -> None:
    """Each gets the vector of its own text."""
    queries = remembering(FakeBundle(), size=3)
    texts = [f"word {number % 7}" for number in range(200)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: queries.encode_queries([text])[0], texts))
    expected = {text: FakeBundle().encode_queries([text])[0] for text in set(texts)}
    assert all(np.array_equal(vector, expected[text]) for text, vector in zip(texts, found, strict=True))
