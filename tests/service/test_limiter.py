from __future__ import annotations

import multiprocessing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from service.limiter import Limiter


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_then_the_rate_holds() -> None:
    """Three at once, then one each half second; who waits as long as told gets through."""
    clock = Hand()
    limiter = Limiter(2.0, 3, now=clock)
    assert [limiter.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [limiter.wait_s("a") for _ in range(2)] == [0, 0.5]
    clock.now += 60
    assert [limiter.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_names_do_not_share() -> None:
    """One key's haste costs no other key anything."""
    limiter = Limiter(1.0, 1, now=Hand())
    assert limiter.wait_s("a") == 0
    assert limiter.wait_s("a") > 0
    assert limiter.wait_s("b") == 0


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 50), st.integers(1, 20))
def test_never_more_than_the_burst_and_the_rate_allow(pauses: list[float], rate: float, burst: int) -> None:
    """Whatever the pauses: in t seconds at most burst + rate · t requests pass."""
    clock = Hand()
    limiter = Limiter(rate, burst, now=clock)
    passed = 0
    for pause in pauses:
        clock.now += pause
        passed += limiter.wait_s("a") == 0
    assert passed <= burst + rate * clock.now + 1e-6


def passed(directory: Path, tries: int) -> int:
    """How many of the tries a process of its own gets through."""
    limiter = Limiter(0.001, 40, directory=directory)
    return sum(limiter.wait_s("a") == 0 for _ in range(tries))


def test_processes_count_together(tmp_path: Path) -> None:
    """Three that hurry at the same time get one burst between them; another name has its own, and so has a lone one."""
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert sum(pool.starmap(passed, [(tmp_path, 300)] * 3)) == 40
    assert Limiter(0.001, 40, directory=tmp_path).wait_s("a") > 0
    assert Limiter(0.001, 40, directory=tmp_path).wait_s("b") == 0
    assert Limiter(0.001, 40).wait_s("a") == 0
