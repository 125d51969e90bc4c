from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.redis_titles import RedisQueries, RedisTitles
from tests.redis_server import RedisServer
from towers.errors import InputError, RedisUnavailableError

DIM = 6
VERSION = "0123456789abcdef"
PREFIX = f"dualtower:{VERSION}"


@pytest.fixture
def titles(redis_url: str) -> Iterator[RedisTitles]:
    store = RedisTitles(redis_url, prefix=PREFIX, dim=DIM)
    yield store
    store.delete_release()
    store.close()


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(texts, st.integers(0, 99), max_size=8), st.lists(texts, max_size=8))
def test_redis_is_a_dict(titles: RedisTitles, written: dict[str, int], others: list[str]) -> None:
    """Whatever the ids, Redis gives the vectors that were written, and nothing for any other id."""
    titles.delete_release()
    ids = list(written)
    rows = np.array([vectors_of(1, seed)[0] for seed in written.values()], np.float32).reshape(-1, DIM)
    titles.write(ids, ids, [{} for _ in ids], rows)
    asked = [*others, *ids, *ids]
    vectors, found = titles.vectors(asked)
    assert found.tolist() == [name in written for name in asked]
    for name, vector in zip(asked, vectors, strict=True):
        expected = vectors_of(1, written[name])[0] if name in written else np.zeros(DIM, np.float32)
        assert np.array_equal(vector, expected)
    assert titles.count(ids) == len(ids)


def test_more_titles_than_one_pipeline_carries(titles: RedisTitles) -> None:
    """Writing, counting, reading and deleting go through any number of titles, and progress counts each once."""
    ids = [f"sku-{i}" for i in range(1203)]
    rows = vectors_of(len(ids))
    done: list[int] = []
    titles.write(ids, ids, [{} for _ in ids], rows, done.append)
    assert sum(done) == titles.count(ids) == 1203
    vectors, found = titles.vectors(ids)
    assert found.all()
    assert np.array_equal(vectors, rows)
    assert titles.delete_release() == 1203
    assert titles.count(ids) == 0


def test_the_hashes_follow_redisvl(titles: RedisTitles, redis_url: str) -> None:
    """A hash per title: id and title as text, the vector as raw little-endian float32, kept fields as text."""
    fields: dict[str, Any] = {
        "brand": "联想", "price": 2.5, "new": True, "tags": ["a", "b"], "vector": "taken", "id": "taken",
    }  # fmt: skip
    titles.write(["a:b"], ["a 标题"], [fields], vectors_of(1))
    client = redis_py.Redis.from_url(redis_url)
    assert client.hgetall(f"{PREFIX}:a:b") == {
        b"id": b"a:b",
        b"title": "a 标题".encode(),
        b"vector": vectors_of(1)[0].astype("<f4").tobytes(),
        b"brand": "联想".encode(),
        b"price": b"2.5",
        b"new": b"true",
        b"tags": b'["a", "b"]',
    }
    client.close()


def test_a_release_is_sealed_when_it_is_whole(titles: RedisTitles) -> None:
    """The seal tells a whole release from a half written one, and goes first when it is deleted."""
    assert titles.sealed() is None
    titles.seal(7)
    assert titles.sealed() == 7
    titles.delete_release()
    assert titles.sealed() is None


def test_deleting_a_release_touches_no_other(titles: RedisTitles, redis_url: str) -> None:
    """Only the release's own hashes go."""
    other = RedisTitles(redis_url, prefix="dualtower:fedcba9876543210", dim=DIM)
    for store in (titles, other):
        store.write(["a"], ["x"], [{}], vectors_of(1))
        store.seal(1)
    assert titles.delete_release() == 1
    assert (other.count(["a"]), other.sealed()) == (1, 1)
    other.delete_release()
    other.close()


def test_a_vector_of_another_length_counts_as_missing(
    titles: RedisTitles, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not dim float32 long is not handed out, and the log says so."""
    other = RedisTitles(redis_url, prefix=PREFIX, dim=DIM + 1)
    other.write(["a"], ["x"], [{}], np.ones((1, DIM + 1), np.float32))
    other.close()
    vectors, found = titles.vectors(["a"])
    assert (found.tolist(), vectors.tolist()) == ([False], [[0.0] * DIM])
    assert "not 6 float32 long" in caplog.text


def test_a_key_that_is_no_hash_does_not_mix_up_answers(titles: RedisTitles, redis_url: str) -> None:
    """An error in the middle of the answers ends that call only; the next one reads its own answers."""
    titles.write(["a", "c"], ["x", "y"], [{}, {}], vectors_of(2))
    client = redis_py.Redis.from_url(redis_url)
    client.set(f"{PREFIX}:b", "no hash")
    with pytest.raises(RedisUnavailableError, match="WRONGTYPE"):
        titles.vectors(["a", "b", "c"])
    assert np.array_equal(titles.vectors(["c", "a"])[0], vectors_of(2)[::-1])
    client.close()


def test_many_threads_share_a_store(titles: RedisTitles) -> None:
    """Threads get their own answers."""
    ids = [f"sku-{i}" for i in range(100)]
    rows = vectors_of(100)
    titles.write(ids, ids, [{} for _ in ids], rows)
    wrong: list[int] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            chosen = rng.integers(0, 100, 30)
            if not np.array_equal(titles.vectors([ids[i] for i in chosen])[0], rows[chosen]):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_redis_that_goes_and_comes_back(redis_factory: Callable[[], RedisServer]) -> None:
    """While Redis is away every call is one of our errors; once it is back, the same object works."""
    server = redis_factory()
    titles = RedisTitles(server.url, prefix=PREFIX, dim=DIM, timeout_s=0.5)
    queries = RedisQueries(server.url, bundle_id="b" * 64, dim=DIM, ttl_s=60, timeout_s=0.5)
    titles.write(["a"], ["x"], [{}], vectors_of(1))
    queries.put("q", vectors_of(1)[0])
    server.stop()
    calls: list[Callable[[], object]] = [
        titles.ping,
        lambda: titles.vectors(["a"]),
        lambda: titles.write(["a"], ["x"], [{}], vectors_of(1)),
        lambda: titles.count(["a"]),
        lambda: titles.seal(1),
        titles.sealed,
        titles.delete_release,
        lambda: queries.get("q"),
        lambda: queries.put("q", vectors_of(1)[0]),
    ]
    for call in calls:
        with pytest.raises(RedisUnavailableError, match=f"Redis at 127.0.0.1:{server.port}"):
            call()
    server.start()
    assert titles.vectors(["a"])[1].tolist() == [False]
    assert queries.get("q") is None
    titles.write(["a"], ["x"], [{}], vectors_of(1))
    assert titles.vectors(["a"])[1].tolist() == [True]
    titles.close()
    queries.close()


def test_queries_are_kept_for_a_while(redis_url: str) -> None:
    """A query vector is found under its text and its bundle, with a time to live."""
    queries = RedisQueries(redis_url, bundle_id="b" * 64, dim=DIM, ttl_s=60)
    others = RedisQueries(redis_url, bundle_id="c" * 64, dim=DIM, ttl_s=60)
    vector = vectors_of(1)[0]
    queries.put("红色 shoe", vector)
    assert np.array_equal(queries.get("红色 shoe"), vector)
    assert queries.get("红色  shoe") is None
    assert others.get("红色 shoe") is None
    client = redis_py.Redis.from_url(redis_url)
    (key,) = client.scan_iter(f"dualtower:q:{'b' * 64}:*")
    assert 0 < client.ttl(key) <= 60
    client.set(key, b"short")
    assert queries.get("红色 shoe") is None
    client.delete(key)
    for closable in (client, queries, others):
        closable.close()


def test_no_password_in_errors() -> None:
    """An error shows where Redis is, never the password that the URL holds."""
    titles = RedisTitles("redis://user:hunter2@127.0.0.1:1/0", prefix=PREFIX, dim=DIM, timeout_s=0.2)
    with pytest.raises(RedisUnavailableError) as caught:
        titles.ping()
    assert "127.0.0.1:1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:6379", "http://:hunter2@localhost", "redis://localhost:port/0"])
def test_a_url_that_is_none(url: str) -> None:
    """What cannot be a Redis URL is an input error with an example of one."""
    with pytest.raises(InputError, match="redis://host:6379/0") as caught:
        RedisTitles(url, prefix=PREFIX, dim=DIM)
    assert "hunter2" not in str(caught.value)
