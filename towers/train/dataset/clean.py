"""Cleaning labelled pairs and texts: repeats, contradictions and likely label errors are set aside with a reason.

Nothing is lost: every row is either kept or removed with a reason, and a removed row names the row that it repeats or
contradicts, or how likely its own label is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.labelled import Texts
from towers.train.data import PairSet, Split
from towers.train.dataset.doubt import Doubts, Encode, Signals, doubts, pair_features, text_features
from towers.train.dataset.duplicates import near_leaders, normal_form
from towers.train.dataset.label_scale import LabelScale, label_scale

EMPTY = "empty text"
EXACT = "exact duplicate"
NEAR = "near duplicate"
CONFLICT = "conflicting label"
ERROR = "likely label error"
REASONS = (EMPTY, EXACT, NEAR, CONFLICT, ERROR)

T = TypeVar("T")

_CONFLICTS = ("majority", "drop", "keep")


@dataclass(frozen=True)
class CleanRecipe:
    """What counts as dirt.

    Sources: near duplicates, Broder 1997; likely label errors, Northcutt et al. 2021 ("Confident learning"), as in
    cleanlab. Costs one pass over the texts to encode them and seven logistic regressions: 10 s for 2,000 rows. Not for
    sets whose labels were checked already: rows that look odd and are right are lost as well. On real sets with 5% of
    the labels flipped about half of what is removed as a label error is one (docs/experiments.md).

    Attributes:
        near: Texts are near duplicates from this Jaccard index of their character n-grams on; 1 finds exact ones
            only. 0.8 is what Lee et al. 2022 ("Deduplicating training data makes language models better") use.
        permutations: Of the MinHash; 128 is datasketch's default.
        conflicts: Where the same row has contradicting labels: "majority" keeps the label that more than half of its
            rows have, and none where there is no such; "drop" keeps none; "keep" keeps all.
        label_errors: Look for likely label errors.
        ratio: A label is doubted if it is at most this share as likely as the likeliest; 1 removes all that cleanlab
            names. 0.25: with 5% of the labels flipped, cleaning changed the accuracy of five sets by -1.1 (long
            Chinese reviews) to +1.9 points; at 1 by -1.6 to +2.8, and it removed two to six times as much
            (docs/experiments.md).
        gap: Of ordered labels (grades, similarities) two contradict each other from this share of the range on; guess,
            untested. 1 and 0, or -1, 0 and 1, always do.
        folds: Of the out-of-fold probabilities; cleanlab's default.
        seed: Of folds and hashes.
    """

    near: float = 0.8
    permutations: int = 128
    conflicts: str = "majority"
    label_errors: bool = True
    ratio: float = 0.25
    gap: float = 0.5
    folds: int = 5
    seed: int = 13

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.conflicts not in _CONFLICTS:
            raise InputError(
                f"clean: found conflicts = {self.conflicts!r}, expected one of {', '.join(_CONFLICTS)}"
            )
        for name, value, low in (
            ("near", self.near, 0.3),
            ("ratio", self.ratio, 0.0),
            ("gap", self.gap, 0.01),
        ):
            if not low <= value <= 1:
                raise InputError(f"clean: found {name} = {value}, expected {low} to 1")
        if self.folds < 2 or self.permutations < 16:
            raise InputError(
                f"clean: found folds = {self.folds} and permutations = {self.permutations}, expected at least 2 and 16"
            )


@dataclass(frozen=True)
class Removed:
    """A row that is set aside.

    Attributes:
        row: Its number, from 0.
        reason: One of REASONS.
        partner: The row that it repeats or contradicts.
        confidence: Out-of-fold probability of its own label, of a likely label error.
        suggested: The label that is likelier.
    """

    row: int
    reason: str
    partner: int | None = None
    confidence: float | None = None
    suggested: Any = None


@dataclass(frozen=True)
class Sifted:
    """What became of n rows; each is in one of the two.

    Attributes:
        kept: Their numbers, int64, in order.
        removed: The others, in order.
        notes: What a reader must know.
    """

    kept: NDArray[np.int64]
    removed: list[Removed]
    notes: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> rows removed for it, all reasons."""
        found = Counter(entry.reason for entry in self.removed)
        return {reason: found[reason] for reason in REASONS}


@dataclass(frozen=True)
class Cleaned(Generic[T]):
    """Cleaned data, and what became of its rows."""

    kept: T
    sifted: Sifted


def sift(
    rows: Sequence[tuple[str, ...]],
    labels: Sequence[Any],
    *,
    recipe: CleanRecipe | None = None,
    encode: Encode | Signals | None = None,
) -> Sifted:
    """Say which labelled rows are kept, and why not the others.

    Args:
        rows: n times (text,) or (query, title).
        labels: Of pairs numbers; of texts anything: numbers of up to ten values are taken as ordered.
        recipe: Settings; None for the defaults.
        encode: Texts -> vectors, or all that a bundle can say (`doubt.bundle_signals`); None where the recipe does
            not look for label errors.

    Raises:
        InputError: Label errors are looked for, and nothing was given to encode with.
    """
    recipe = recipe or CleanRecipe()
    if recipe.label_errors and encode is None:
        raise InputError(
            "likely label errors need vectors: give `encode`, or set label_errors = false in the recipe"
        )
    signals = encode if isinstance(encode, Signals) or encode is None else Signals(encode)
    keys = [tuple(map(normal_form, row)) for row in rows]
    ordered = bool(rows) and len(rows[0]) == 2
    scale = label_scale(labels, gap=recipe.gap, ordered=ordered)
    removed = {i: Removed(i, EMPTY) for i, key in enumerate(keys) if not all(key)}
    for group in _groups(keys, removed, recipe):
        removed.update((entry.row, entry) for entry in _from_group(group, keys, scale, recipe))
    left = np.array([i for i in range(len(keys)) if i not in removed], np.int64)
    notes: list[str] = []
    if signals is not None and recipe.label_errors and len(left):
        found = _doubts(left, [rows[i] for i in left], [keys[i] for i in left], scale, signals, recipe)
        notes = found.notes
        removed.update((entry.row, entry) for entry in _errors(left, found, scale))
    kept = np.array([i for i in left if i not in removed], np.int64)
    return Sifted(kept, [removed[i] for i in sorted(removed)], notes)


def clean_texts(
    data: Texts, *, recipe: CleanRecipe | None = None, encode: Encode | Signals | None = None
) -> Cleaned[Texts]:
    """Clean texts with a sentiment; arguments as in `sift`."""
    sifted = sift([(text,) for text in data.texts], data.labels.tolist(), recipe=recipe, encode=encode)
    return Cleaned(Texts([data.texts[i] for i in sifted.kept], data.labels[sifted.kept]), sifted)


def clean_split(
    pairs: PairSet, split: Split, *, recipe: CleanRecipe | None = None, encode: Encode | Signals | None = None
) -> Cleaned[Split]:
    """Clean the training side of a set; dev stays as it is. Arguments as in `sift`.

    A set has merged its repeats already: a 1/0 label between 0 and 1 is what is left of a contradiction.
    """
    recipe = recipe or CleanRecipe()
    rows = np.flatnonzero(split.train)
    broken = (pairs.kind == "binary") & (recipe.conflicts != "keep") & ~np.isin(pairs.labels[rows], (0, 1))
    sound = rows[~broken]
    sifted = sift(
        [(pairs.queries[i], pairs.titles[i]) for i in sound],
        pairs.original_labels[sound].tolist(),
        recipe=recipe,
        encode=encode,
    )
    removed = [_renumbered(entry, sound) for entry in sifted.removed]
    removed += [Removed(int(row), CONFLICT) for row in rows[broken]]
    kept = sound[sifted.kept]
    train = np.zeros(len(pairs), bool)
    train[kept] = True
    whole = Sifted(kept, sorted(removed, key=lambda entry: entry.row), sifted.notes)
    return Cleaned(replace(split, train=train), whole)


def _renumbered(entry: Removed, rows: NDArray[np.int64]) -> Removed:
    partner = None if entry.partner is None else int(rows[entry.partner])
    return replace(entry, row=int(rows[entry.row]), partner=partner)


def _doubts(
    left: NDArray[np.int64],
    rows: list[tuple[str, ...]],
    keys: list[tuple[str, ...]],
    scale: LabelScale,
    signals: Signals,
    recipe: CleanRecipe,
) -> Doubts:
    sides = [list(side) for side in zip(*rows, strict=True)]
    features = text_features(sides[0], signals) if len(sides) == 1 else pair_features(*sides, signals=signals)
    classes = scale.classes[left]
    return doubts(features, keys, classes, ratio=recipe.ratio, folds=recipe.folds, seed=recipe.seed)


def _groups(keys: list[tuple[str, ...]], skip: dict[int, Removed], recipe: CleanRecipe) -> list[list[int]]:
    """Rows, two or more and in order, whose texts are the same or nearly so on every side."""
    distinct = list(dict.fromkeys(text for i, key in enumerate(keys) if i not in skip for text in key))
    leaders = near_leaders(distinct, near=recipe.near, permutations=recipe.permutations, seed=recipe.seed)
    leader_of = dict(zip(distinct, leaders.tolist(), strict=True))
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, key in enumerate(keys):
        if i not in skip:
            groups.setdefault(tuple(leader_of[text] for text in key), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _from_group(
    group: list[int], keys: list[tuple[str, ...]], scale: LabelScale, recipe: CleanRecipe
) -> list[Removed]:
    """Which rows of a group go: those with another label than most, and the repeats of the others."""
    against = {i: next((j for j in group if scale.contradict(i, j)), None) for i in group}
    if all(partner is None for partner in against.values()):
        return _repeats(group, keys)
    if recipe.conflicts == "keep":
        classes = Counter(int(scale.classes[i]) for i in group)
        return [x for c in classes for x in _repeats([i for i in group if scale.classes[i] == c], keys)]
    winner = _winner(group, scale) if recipe.conflicts == "majority" else None
    kept = [i for i in group if winner is not None and not scale.contradict(i, winner)]
    lost = [i for i in group if i not in kept]
    # A grade between two that contradict each other contradicts none; it goes with them, and names any of them.
    others = {i: next(j for j in group if j != i) if against[i] is None else against[i] for i in lost}
    entries = [Removed(i, CONFLICT, others[i] if winner is None else winner) for i in lost]
    return entries + _repeats(kept, keys)


def _winner(group: list[int], scale: LabelScale) -> int | None:
    """The first row of the class that more than half of a group has."""
    most, count = Counter(int(scale.classes[i]) for i in group).most_common(1)[0]
    return next(i for i in group if scale.classes[i] == most) if 2 * count > len(group) else None


def _repeats(group: list[int], keys: list[tuple[str, ...]]) -> list[Removed]:
    """All but the first row of a group; an exact repeat names the row that it repeats exactly."""
    first: dict[tuple[str, ...], int] = {}
    entries = []
    for i in group:
        earlier = first.setdefault(keys[i], i)
        if earlier != i:
            entries.append(Removed(i, EXACT, earlier))
        elif i != group[0]:
            entries.append(Removed(i, NEAR, group[0]))
    return entries


def _errors(rows: NDArray[np.int64], found: Doubts, scale: LabelScale) -> list[Removed]:
    entries = []
    for place in np.flatnonzero(found.wrong):
        row = int(rows[place])
        probabilities = found.probabilities[place]
        likeliest = int(np.nanargmax(probabilities))
        if scale.far(row, likeliest):
            own = float(probabilities[scale.classes[row]])
            entries.append(Removed(row, ERROR, confidence=own, suggested=scale.names[likeliest]))
    return entries
