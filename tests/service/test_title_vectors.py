from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from service.errors import NoReleaseError
from service.metrics import Metrics
from service.redis_guard import RedisGuard
from service.title_vectors import NoRelease, ReleaseTitles
from tests.service.fakes import DIM, TITLES, FakeRelease
from towers.errors import RedisUnavailableError

IDS = [title.id for title in TITLES]


class Remote:
    """Redis with some of the titles."""

    def __init__(self, *ids: str) -> None:
        rows = FakeRelease().rows_of(ids)
        self.kept = dict(zip(ids, FakeRelease().vectors(np.array(rows)), strict=True))
        self.down = False

    def check(self) -> None:
        if self.down:
            raise RedisUnavailableError("down")

    def vectors(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        self.check()
        zero = np.zeros(DIM, np.float32)
        vectors = np.array([self.kept.get(id, zero) for id in ids], np.float32).reshape(-1, DIM)
        return vectors, np.array([id in self.kept for id in ids], bool)

    def close(self) -> None:
        pass


def stores() -> dict[str, tuple[ReleaseTitles, Metrics]]:
    """The same titles behind nothing, a whole Redis, a Redis with gaps, and a Redis that is down."""
    found = {}
    for name, remote in {
        "none": None,
        "whole": Remote(*IDS),
        "gaps": Remote(*IDS[:2]),
        "down": Remote(*IDS),
    }.items():
        metrics = Metrics()
        guard = None
        if remote is not None:
            guard = RedisGuard(remote.check, metrics, probe_s=1)
            guard.probe()
            remote.down = name == "down"
        found[name] = ReleaseTitles(FakeRelease(), metrics, remote=remote, guard=guard), metrics
    return found


@pytest.mark.parametrize("name", ["none", "whole", "gaps", "down"])
@pytest.mark.parametrize("ids", [IDS, ["nope", *IDS, "nada"], ["nope"], []])
def test_an_answer_does_not_depend_on_redis(name: str, ids: list[str]) -> None:
    """Wherever the vectors come from, they are the same, and the same ids are known."""
    titles, _ = stores()[name]
    vectors, known = titles.vectors_of(ids)
    assert vectors.shape == (len(ids), DIM)
    assert known.tolist() == [id in IDS for id in ids]
    rows = np.array([row for row in FakeRelease().rows_of(ids) if row is not None], np.int64)
    assert np.array_equal(vectors[known], FakeRelease().vectors(rows))


def test_metrics_say_where_vectors_come_from() -> None:
    """Two from Redis, the two that it lacks from the memory map."""
    titles, metrics = stores()["gaps"]
    titles.vectors_of(IDS)
    text = metrics.text().decode()
    assert 'title_vectors_total{source="redis"} 2.0' in text
    assert 'title_vectors_total{source="memory_map"} 2.0' in text


def test_without_a_release_everything_is_refused_with_the_way_out() -> None:
    """The stand-in has every method of the real ones."""
    nothing = NoRelease("publish one")
    for call in (
        lambda: nothing.search(np.zeros(DIM), 1),
        lambda: nothing.vectors(np.zeros(0)),
        lambda: nothing.vectors_of([]),
        lambda: nothing.titles(np.zeros(0)),
        lambda: nothing.rows_where("a", 1),
    ):
        with pytest.raises(NoReleaseError, match="publish one"):
            call()
