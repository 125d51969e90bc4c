from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from service.errors import NoReleaseError
from service.metrics import Metrics
from service.redis_guard import RedisGuard
from service.title_vectors import NoRelease, ReleaseTitles, RemoteTitles
from tests.service.fakes import DIM, TITLES, FakeRelease
from towers.errors import RedisUnavailableError

IDS = [title.id for title in TITLES]


class Shared:
    """Redis with some of the titles."""

    def __init__(self, *ids: str) -> None:
        rows = FakeRelease().rows_of(ids)
        self.kept = dict(zip(ids, FakeRelease().vectors(np.array(rows, np.int64)), strict=True))
        self.down, self.asked = False, 0

    def check(self) -> None:
        if self.down:
            raise RedisUnavailableError("down")

    def sealed(self) -> int | None:
        self.check()
        return len(self.kept) or None

    def vectors(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        self.check()
        self.asked += 1
        zero = np.zeros(DIM, np.float32)
        vectors = np.array([self.kept.get(id, zero) for id in ids], np.float32).reshape(-1, DIM)
        return vectors, np.array([id in self.kept for id in ids], bool)

    def close(self) -> None:
        pass


def connected(shared: Shared, metrics: Metrics) -> RemoteTitles:
    guard = RedisGuard(shared.check, metrics, probe_s=1)
    guard.probe()
    remote = RemoteTitles(shared, guard)
    remote.look()
    return remote


def stores() -> dict[str, tuple[ReleaseTitles, Metrics]]:
    """The same titles behind nothing, a whole Redis, one with gaps, an empty one, and one that is down."""
    found = {}
    for name, shared in {
        "none": None,
        "whole": Shared(*IDS),
        "gaps": Shared(*IDS[:2]),
        "empty": Shared(),
        "down": Shared(*IDS),
    }.items():
        metrics = Metrics()
        remote = connected(shared, metrics) if shared is not None else None
        if shared is not None:
            shared.down = name == "down"
        found[name] = ReleaseTitles(FakeRelease(), metrics, remote=remote), metrics
    return found


@pytest.mark.parametrize("name", ["none", "whole", "gaps", "empty", "down"])
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


def test_a_redis_that_lost_the_release_is_not_asked_for_it() -> None:
    """It was restarted empty: it answers, but every question would be in vain; written again, it is used again."""
    shared = Shared()
    remote = connected(shared, Metrics())
    titles = ReleaseTitles(FakeRelease(), Metrics(), remote=remote)
    titles.vectors_of(IDS)
    assert not remote.in_use
    assert shared.asked == 0
    shared.kept = Shared(*IDS).kept
    remote.look()
    titles.vectors_of(IDS)
    assert remote.in_use
    assert shared.asked == 1


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
