"""Timing the rows of a comparison, once all of them are made.

Rows are timed in groups, because not all models fit into memory at once; within a group they take turns. Every group
holds the task's reference as well. What it took there, against the first group, scales the group's other rows, so that
no ratio comes from two different minutes. Its own noise falls on all rows of a group by that, so it has several turns
for each of theirs: with one, rows of the same graph came out 1.4 times as slow as the reference (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from towers.bundle import Bundle, open_bundle
from towers.train.compare.results import Spread
from towers.train.compare.timing import interleaved

BATCH = 32  # texts in a batch, as a service or an indexing job has them at hand
ROUNDS = 9
_REFERENCE_TURNS = 3  # of the reference in a round
_GROUP = 8  # float32 models of 90 MB each, twice while ONNX Runtime packs them
_SAMPLE = 64  # different texts that the calls go round

Call = Callable[[], object]
Calls = tuple[Callable[[str], object], Callable[[Sequence[str]], object]]
"""Of one text alone, and of a batch."""


@dataclass(frozen=True)
class Contestant:
    """A row that can be timed.

    Attributes:
        key: Task and name of the row.
        open: Opens its model and returns two functions of texts: for one text alone, and for a batch.
    """

    key: tuple[str, str]
    open: Callable[[], Calls]


@dataclass(frozen=True)
class Timing:
    """What was timed: seconds for one text, and for a batch of BATCH texts."""

    one: Spread
    batch: Spread


def time_rows(
    contestants: Sequence[Contestant],
    texts: Sequence[str],
    *,
    reference: tuple[str, str] | None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[tuple[str, str], Timing]:
    """Time rows of one task on one machine, in turns.

    Args:
        contestants: The rows.
        texts: Held-out texts of the task.
        reference: The row that sits in every group; its timing is that of the first group.
        rounds: Turns of each call.
        seed: Of the order of turns.
    """
    base = next((one for one in contestants if one.key == reference), None)
    others = [one for one in contestants if one is not base]
    groups = [others[i : i + _GROUP] for i in range(0, len(others), _GROUP)] or [[]]
    timings: dict[tuple[str, str], Timing] = {}
    for number, group in enumerate(groups):
        members = ([base] if base else []) + group
        turns = [_REFERENCE_TURNS if one is base else 1 for one in members]
        found = _time_group(members, turns, list(texts[:_SAMPLE]), rounds=rounds, seed=seed + number)
        if base is not None and base.key in timings:
            found = _like(timings[base.key], found, base.key)
        timings = found | timings  # what the first group says of the reference stays
    return timings


def _like(
    first: Timing, found: Mapping[tuple[str, str], Timing], key: tuple[str, str]
) -> dict[tuple[str, str], Timing]:
    """Scale a group's timings by what its reference took in the first group against what it took in this one."""
    one = first.one.median / found[key].one.median
    batch = first.batch.median / found[key].batch.median
    return {name: Timing(each.one.scaled(one), each.batch.scaled(batch)) for name, each in found.items()}


def match_calls(path: Path) -> Calls:
    """Open a bundle for its towers: one query, a batch of titles."""
    bundle = open_bundle(path, verify=False)
    return lambda text: bundle.encode_queries([text]), bundle.encode_titles


def sentiment_calls(path: Path) -> Calls:
    """Open a bundle for its sentiment head: one text, a batch of texts."""
    bundle: Bundle = open_bundle(path, verify=False)
    return lambda text: bundle.sentiment([text]), bundle.sentiment


def _time_group(
    members: Sequence[Contestant], turns: Sequence[int], texts: list[str], *, rounds: int, seed: int
) -> dict[tuple[str, str], Timing]:
    calls: dict[str, Call] = {}
    batch = (texts * (1 + BATCH // max(1, len(texts))))[:BATCH]
    for number, member in enumerate(members):
        one, many = member.open()
        for turn in range(turns[number]):
            calls[f"{number} one {turn}"] = _round(one, texts)
            calls[f"{number} batch {turn}"] = _always(many, batch)
    spreads = interleaved(calls, rounds=rounds, seed=seed)

    def all_turns(number: int, what: str) -> Spread:
        return _together([spreads[f"{number} {what} {turn}"] for turn in range(turns[number])])

    return {
        member.key: Timing(all_turns(number, "one"), all_turns(number, "batch"))
        for number, member in enumerate(members)
    }


def _together(turns: Sequence[Spread]) -> Spread:
    """Several turns of one call in each round as one spread."""
    return Spread(
        median([one.median for one in turns]),
        min(one.lowest for one in turns),
        max(one.highest for one in turns),
        sum(one.rounds for one in turns),
    )


def _round(call: Callable[[str], object], texts: Sequence[str]) -> Call:
    """A call that takes another text each time, so that no length is favoured."""
    endless = cycle(texts)
    return lambda: call(next(endless))


def _always(call: Callable[[Sequence[str]], object], batch: Sequence[str]) -> Callable[[], Any]:
    return lambda: call(batch)
