"""Timing is fair, and depends on nothing but the clock that it is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers import InputError
from towers.train.compare.results import Spread
from towers.train.compare.timing import interleaved


class World:
    """A clock that only calls move on, and a diary of the calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.diary: list[str] = []

    def clock(self) -> float:
        return self.now

    def call(self, name: str, *takes: float) -> Callable[[], None]:
        """A call that takes so long the first time, the second time ... and the last of them ever after."""
        left = list(takes)

        def work() -> None:
            self.diary.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_the_median_of_the_rounds_counts() -> None:
    """The warm-up does not, though its calls are the slowest."""
    world = World()
    calls = {"a": world.call("a", 90.0, 3.0, 1.0, 2.0)}
    assert interleaved(calls, rounds=3, clock=world.clock) == {"a": Spread(2.0, 1.0, 3.0, 3)}


def test_every_call_has_one_turn_in_each_round() -> None:
    """After the warm-up the diary falls into rounds that hold each name once, and not always in one order."""
    world = World()
    calls = {name: world.call(name, 1.0) for name in "abcd"}
    interleaved(calls, rounds=20, clock=world.clock)
    diary = world.diary[4:]
    rounds = ["".join(diary[start : start + 4]) for start in range(0, len(diary), 4)]
    assert len(rounds) == 20
    assert all(sorted(turns) == list("abcd") for turns in rounds)
    assert len(set(rounds)) > 5
    assert {turns[0] for turns in rounds} == set("abcd")


def test_the_seed_decides_the_order() -> None:
    """Two runs with one seed take the same turns."""

    def diary(seed: int) -> list[str]:
        world = World()
        calls = {name: world.call(name, 1.0) for name in "abcd"}
        interleaved(calls, rounds=5, seed=seed, clock=world.clock)
        return world.diary

    assert diary(1) == diary(1)
    assert diary(1) != diary(2)


def test_a_slow_machine_falls_on_all_alike() -> None:
    """When everything takes twice as long from the middle on, the ratio of two calls stays what it is."""
    world = World()

    def slows_down(seconds: float) -> Callable[[], None]:
        def work() -> None:
            world.now += seconds * (2 if world.now > 40 else 1)

        return work

    found = interleaved({"a": slows_down(1.0), "b": slows_down(3.0)}, rounds=21, clock=world.clock)
    assert found["b"].median / found["a"].median == pytest.approx(3)


@given(takes=st.floats(1e-5, 10), each=st.floats(0.001, 0.2))
def test_a_turn_is_as_long_as_wanted(takes: float, each: float) -> None:
    """A short call is repeated until a turn has its length, and the mean of the turn is what one call takes."""
    world = World()
    turns: list[float] = []

    def clock() -> float:
        turns.append(world.now)
        return world.now

    found = interleaved({"a": world.call("a", takes)}, rounds=2, seconds_each=each, clock=clock)
    assert found["a"].median == pytest.approx(takes)
    assert turns[-1] - turns[-2] >= each * 0.999
    assert turns[-1] - turns[-2] <= max(takes, 10 * each) * 1.001


def test_a_clock_that_sees_nothing_still_ends() -> None:
    """A call below any resolution gets the smallest time there is, not a division by zero."""
    found = interleaved({"a": lambda: None}, rounds=2, clock=lambda: 7.0)
    assert 0 < found["a"].median < 1e-6


def test_nothing_to_time_is_no_error() -> None:
    """An empty table is fine; no rounds are not."""
    assert interleaved({}, rounds=3) == {}
    with pytest.raises(InputError, match="found 0 rounds"):
        interleaved({}, rounds=0)


def test_an_error_in_a_call_is_not_swallowed() -> None:
    """What cannot run has no time."""
    with pytest.raises(ZeroDivisionError):
        interleaved({"a": lambda: 1 // 0}, rounds=1)
