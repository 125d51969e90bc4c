"""Labelled pairs for training: read, put on one scale, freed of repeats, and split so that nothing leaks.

Labels of every set are moved to 0..1 on their own, so that 1 or 0, grades of 1..4 and similarities of 0..5 can be
trained on together; the original scale is remembered for the report.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.evaluate import label_range
from towers.labelled import Pairs, read_pairs
from towers.tables import require_columns

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
TextPairs = Sequence[tuple[str, str]]

MOST_GRADES = (
    10  # whole-number labels of up to this many values are grades, more are measurements; guess, untested
)
# A group of connected texts with more than this share of its set's pairs is split between its queries after all.
# 0.05 keeps the largest groups of the sets it was tried on whole (CrowdFlower 4.7%, STS-B 4.1%).
LARGEST_GROUP = 0.05


@dataclass(frozen=True)
class PairSet:
    """Distinct pairs of one source.

    Attributes:
        name: How reports call it.
        queries: n texts.
        titles: n texts.
        labels: (n,) float32 in 0..1; above 0.5 a pair is positive.
        lowest: The original label that became 0.
        highest: The original label that became 1.
        kind: "binary" (0 and 1), "graded" (a few whole numbers) or "float".
        rows: Rows read; n is smaller where pairs were repeated.
        licence: As stated by the source, for the model card.
    """

    name: str
    queries: list[str]
    titles: list[str]
    labels: NDArray[np.float32]
    lowest: float
    highest: float
    kind: str
    rows: int
    licence: str = "not given"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positive(self) -> Mask:
        """(n,) whether a pair counts as a match."""
        return self.labels > 0.5

    def take(self, rows: Mask) -> PairSet:
        """Return some of the pairs, (n,) bool."""
        return replace(
            self,
            queries=[text for text, wanted in zip(self.queries, rows, strict=True) if wanted],
            titles=[text for text, wanted in zip(self.titles, rows, strict=True) if wanted],
            labels=self.labels[rows],
        )

    @property
    def original_labels(self) -> NDArray[np.float64]:
        """(n,) the labels on the scale they were read in."""
        return self.lowest + (self.highest - self.lowest) * self.labels.astype(np.float64)


def read_pair_set(
    source: str | Path | pd.DataFrame,
    *,
    name: str | None = None,
    licence: str = "not given",
    query: str = "query",
    title: str = "title",
    label: str = "label",
) -> PairSet:
    """Read a table file or a DataFrame; the last three arguments name its columns.

    Pairs that differ only in case or spaces are one pair, whose label is the mean.

    Raises:
        InputError: Names the row that is broken, or says that all labels are equal.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        name = name or path.name.split(".")[0]
        pairs = read_pairs(path, query=query, title=title, label=label)
    else:
        name = name or "DataFrame"
        pairs = _frame_pairs(source, name, (query, title, label))
    return make_pair_set(pairs, name=name, licence=licence)


def make_pair_set(pairs: Pairs, *, name: str, licence: str = "not given") -> PairSet:
    """Normalise labels to 0..1 and drop repeats.

    Raises:
        InputError: All labels are equal and not 1, so they say nothing about what matches.
    """
    kind = label_kind(pairs.labels)
    lowest, highest = label_range(pairs.labels)
    if lowest == highest or not (pairs.labels > lowest).any():
        raise InputError(
            f"{name}: found the label {pairs.labels[0]:g} in every row, expected positive and other pairs. "
            "Give pairs that match as well, with higher labels."
        )
    scaled = (pairs.labels - lowest) / (highest - lowest)
    first: dict[tuple[str, str], list[int]] = {}
    for i, (query, title) in enumerate(zip(pairs.queries, pairs.titles, strict=True)):
        first.setdefault((text_key(query), text_key(title)), []).append(i)
    return PairSet(
        name=name,
        queries=[pairs.queries[rows[0]] for rows in first.values()],
        titles=[pairs.titles[rows[0]] for rows in first.values()],
        labels=np.array([scaled[rows].mean() for rows in first.values()], np.float32),
        lowest=lowest,
        highest=highest,
        kind=kind,
        rows=len(pairs.labels),
        licence=licence,
    )


def label_kind(labels: NDArray[np.float64]) -> str:
    """Say whether labels are "binary", "graded" or "float"."""
    values = np.unique(labels)
    if np.isin(values, (0, 1)).all():
        return "binary"
    whole = bool((values == np.round(values)).all())
    return "graded" if whole and len(values) <= MOST_GRADES else "float"


def text_key(text: str) -> str:
    """What two texts have in common that differ only in case or spaces."""
    return " ".join(text.lower().split())


def _frame_pairs(frame: pd.DataFrame, name: str, columns: tuple[str, str, str]) -> Pairs:
    require_columns(name, [str(column) for column in frame.columns], columns)
    if not len(frame):
        raise InputError(f"{name} has no rows. Give a DataFrame of pairs.")
    query, title, label = columns
    queries = [_frame_text(value, name, i, query) for i, value in enumerate(frame[query])]
    titles = [_frame_text(value, name, i, title) for i, value in enumerate(frame[title])]
    return Pairs(
        queries, titles, np.array([_frame_number(x, name, i, label) for i, x in enumerate(frame[label])])
    )


def _frame_text(value: Any, name: str, row: int, column: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)  # a title like 1984
    raise InputError(
        f"{name}, row {row + 1}: found {value!r} as {column}, expected text. Correct or remove it."
    )


def _frame_number(value: Any, name: str, row: int, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            f"{name}, row {row + 1}: found {value!r} as {column}, expected a number. Correct or remove it."
        )
    return number


# Splitting.


@dataclass(frozen=True)
class Split:
    """Which pairs of a set are for training and which for dev; a pair may be on neither side.

    Attributes:
        train: (n,) bool.
        dev: (n,) bool.
    """

    train: Mask
    dev: Mask


def split_pairs(sets: Sequence[PairSet], *, dev_share: float, seed: int) -> list[Split]:
    """Split each set so that no text of a dev pair, query or title, occurs in a training pair of any set.

    Texts are connected when they form a pair, as in questions paired with questions: a title may be a query
    elsewhere. Whole groups of connected texts go to one side. Where a group is a large part of its set (one popular
    title can connect everything) its queries are drawn one by one, and the training pairs that touch a text of
    the dev side are dropped.

    Args:
        sets: One or more.
        dev_share: The share of each set's pairs that dev gets, about; between 0 and 1.
        seed: Of the draw.

    Raises:
        InputError: A set has pairs of one class only on one of the sides, or none at all.
    """
    texts = [list(zip(pairs.queries, pairs.titles, strict=True)) for pairs in sets]
    splits = split_connected(texts, dev_share=dev_share, seed=seed)
    for pairs, split in zip(sets, splits, strict=True):
        _check_side(pairs, split.dev, "dev")
        _check_side(pairs, split.train, "training")
    return splits


def split_connected(sets: Sequence[TextPairs], *, dev_share: float, seed: int) -> list[Split]:
    """Split pairs of texts as `split_pairs` does, whatever their labels.

    Args:
        sets: One or more, of any pairs of a first and a second text.
        dev_share: As for `split_pairs`, like `seed`.
        seed: Of the draw.
    """
    keyed = [[(text_key(first), text_key(second)) for first, second in pairs] for pairs in sets]
    groups = _Groups()
    for first, second in (pair for pairs in keyed for pair in pairs):
        groups.join(first, second)
    group_side: dict[Hashable, bool] = {}
    dev_of = [_draw(pairs, groups, group_side, dev_share=dev_share, seed=seed) for pairs in keyed]
    dev_texts = {
        text
        for pairs, dev in zip(keyed, dev_of, strict=True)
        for i in np.flatnonzero(dev)
        for text in pairs[i]
    }
    return [Split(~dev & ~_touches(pairs, dev_texts), dev) for pairs, dev in zip(keyed, dev_of, strict=True)]


def _draw(
    pairs: TextPairs, groups: _Groups, side: dict[Hashable, bool], *, dev_share: float, seed: int
) -> Mask:
    """Return (n,) bool: the pairs whose group goes to dev. `side` remembers groups that other sets share."""
    names = _group_names(pairs, groups)
    sizes = Counter(names)
    order = sorted(sizes, key=str)
    np.random.default_rng(seed).shuffle(order)
    wanted = dev_share * len(pairs)
    taken = sum(sizes[name] for name in order if side.get(name))
    for name in order:
        if name not in side:
            side[name] = taken == 0 or taken + sizes[name] <= wanted
            taken += sizes[name] * side[name]
    return np.array([side[name] for name in names], bool)


def _group_names(pairs: TextPairs, groups: _Groups) -> list[Hashable]:
    roots = [groups.root(first) for first, _ in pairs]
    sizes = Counter(roots)
    most = max(1.0, LARGEST_GROUP * len(pairs))
    return [
        ("group", root) if sizes[root] <= most else ("query", first)
        for root, (first, _) in zip(roots, pairs, strict=True)
    ]


def _touches(pairs: TextPairs, texts: set[str]) -> Mask:
    return np.array([first in texts or second in texts for first, second in pairs], bool)


def _check_side(pairs: PairSet, chosen: Mask, side: str) -> None:
    positives = int(pairs.positive[chosen].sum())
    count = int(chosen.sum())
    if not positives or (side == "dev" and positives == count):
        raise InputError(
            f"{pairs.name}: the {side} side got {count:,} of {len(pairs):,} pairs, {positives:,} of them positive; "
            "expected positive and other pairs there. Give more pairs, or another --dev-share or --seed."
        )


class _Groups:
    """Connected texts (union-find with path halving); a group is known by the text at its root."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, text: str) -> str:
        parent = self._parent
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    def join(self, a: str, b: str) -> None:
        self._parent[self.root(a)] = self.root(b)
