from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from towers.train.compare.measure import Contestant, time_rows

REFERENCE = ("match", "full")


class Sleeper:
    """A model that takes as long as it is told, and counts its calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def open(self) -> tuple[Callable[[str], object], Callable[[Sequence[str]], object]]:
        def call(_: object) -> None:
            self.calls += 1
            time.sleep(self.seconds)

        return call, call


def test_all_groups_are_told_on_one_scale() -> None:
    """Twelve rows make two groups; the reference is in both, has more turns, and its timing is told once."""
    sleepers = {REFERENCE: Sleeper(0.001)} | {("match", f"row-{n}"): Sleeper(0.001) for n in range(11)}
    found = time_rows(
        [Contestant(key, one.open) for key, one in sleepers.items()],
        ["a", "b"],
        reference=REFERENCE,
        rounds=2,
    )
    assert set(found) == set(sleepers)
    assert found[REFERENCE].one.rounds == 6
    assert found["match", "row-0"].one.rounds == 2
    assert sleepers[REFERENCE].calls > 4 * sleepers["match", "row-0"].calls
