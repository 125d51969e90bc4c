from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.metrics import Metrics
from service.serving import InUse, Serving
from tests.service.fakes import FakeBundle, FakeRelease, serving_of


def serving(version: str) -> tuple[Serving, FakeRelease]:
    release = FakeRelease()
    return serving_of(version, FakeBundle(), release, Metrics()), release


def test_a_replaced_release_is_closed_when_its_last_user_leaves() -> None:
    """Whoever started with the old release finishes with it, and nobody else gets it."""
    old, old_release = serving("old")
    new, new_release = serving("new")
    in_use = InUse(old)
    with in_use.use() as first:
        with in_use.use():
            in_use.replace(new)
        assert first is old
        assert not old_release.closed
        with in_use.use() as second:
            assert second is new
    assert old_release.closed
    assert not new_release.closed


def test_an_unused_release_is_closed_at_once() -> None:
    """Replacing does not wait for a request that never comes; closing lets go of the last one."""
    old, old_release = serving("old")
    new, new_release = serving("new")
    in_use = InUse(old)
    in_use.replace(new)
    assert old_release.closed
    assert not new_release.closed
    in_use.close()
    assert new_release.closed


def test_a_request_that_fails_lets_go_too() -> None:
    """An error inside of a request must not keep a release open for ever."""
    old, release = serving("old")
    in_use = InUse(old)

    def fail() -> None:
        with in_use.use():
            in_use.replace(serving("new")[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert release.closed


def test_under_load_nobody_ever_holds_a_closed_release() -> None:
    """Many threads use releases while they are replaced: each is closed, and only after its last use."""
    made = [serving("0")]
    in_use = InUse(made[0][0])
    stop = threading.Event()

    def use() -> int:
        used = 0
        while not stop.is_set():
            with in_use.use() as current:
                current.matcher.search("running shoe", k=2, candidates=4)  # the fake asserts that it is open
                used += 1
        return used

    with ThreadPoolExecutor(4) as pool:
        users = [pool.submit(use) for _ in range(4)]
        for number in range(1, 100):
            made.append(serving(str(number)))
            in_use.replace(made[-1][0])
            threading.Event().wait(random.Random(number).random() / 500)
        stop.set()
        assert all(user.result() > 0 for user in users)
    assert [release.closed for _, release in made] == [True] * 99 + [False]


def test_all_conditions_of_a_filter_have_to_hold() -> None:
    """Rows of each condition are intersected; no condition means no restriction."""
    current, _ = serving("v")
    assert current.rows_where(None) is None
    assert current.rows_where({}) is None
    rows = current.rows_where({"domain": "shop", "colour": "blue"})
    assert rows is not None
    assert np.array_equal(rows, [1])
