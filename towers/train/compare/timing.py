"""Fair timing: everything that is compared takes turns, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from towers.errors import InputError
from towers.train.compare.results import Spread

# A turn of this length is far above the resolution of the clock (about 100 ns) and the pauses of a scheduler (a few
# milliseconds), and 30 rows in 7 rounds still take about ten seconds. Guess, untested.
SECONDS_EACH = 0.05
_MOST_CALLS = 100_000  # in one turn, for calls that a coarse clock cannot see at all


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    seconds_each: float = SECONDS_EACH,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """Time calls side by side: a warm-up that does not count, then rounds in which each has one turn.

    The order is drawn anew in each round, so that no call always follows the same other one. A turn repeats a short
    call and counts the mean, so that the clock's resolution does not matter.

    Args:
        calls: Name -> what to time.
        rounds: Turns of each call.
        seconds_each: Length of a turn; a call that takes longer runs once a turn.
        seed: Of the order.
        clock: Seconds; only differences count.

    Returns:
        Name -> seconds of one call, in the order of `calls`; see `Spread.scaled` and `Spread.rate`.

    Raises:
        InputError: No rounds.
    """
    if rounds < 1:
        raise InputError(f"found {rounds} rounds of timing, expected 1 or more")
    repeats = {name: _warm_up(call, seconds_each, clock) for name, call in calls.items()}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    names, draw = list(calls), np.random.default_rng(seed)
    for _ in range(rounds):
        for place in draw.permutation(len(names)):
            name = names[place]
            spent[name].append(_turn(calls[name], repeats[name], clock) / repeats[name])
    smallest = 1e-9  # seconds; a clock that saw nothing at all still has to give a number above 0
    return {name: Spread.of([max(one, smallest) for one in values]) for name, values in spent.items()}


def _warm_up(call: Callable[[], object], seconds_each: float, clock: Callable[[], float]) -> int:
    """Run a call until a turn is long enough; return how often it ran in that turn.

    The first call alone would not do: it also pays for what is loaded and allocated once.
    """
    if _turn(call, 1, clock) >= seconds_each:
        return 1
    repeats = 1
    while repeats < _MOST_CALLS and (took := _turn(call, repeats, clock)) < seconds_each:
        wanted = math.ceil(repeats * seconds_each / took) if took > 0 else _MOST_CALLS
        repeats = min(max(wanted, 2 * repeats), 10 * repeats, _MOST_CALLS)
    return repeats


def _turn(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return clock() - start
