"""Learning curves: quality against the share of the training data, each share inside the next.

Nested shares make a curve smoother than fresh draws do: between two points rows are only added. Pairs are taken by
query, since another title of a known query teaches less than a new query; texts are stratified by label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.labelled import Texts
from towers.train.data import PairSet, Split, text_key

Rows = NDArray[np.int64]
T = TypeVar("T")

SHARES = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve.

    Attributes:
        share: Of the training data, above 0 and up to 1.
        rows: Rows that it is.
        quality: What `train_and_measure` returned.
    """

    share: float
    rows: int
    quality: float


def learning_curve(
    train_and_measure: Callable[[T], float], subsets: Sequence[tuple[float, int, T]]
) -> list[CurvePoint]:
    """Train and measure on each subset, smallest first.

    Args:
        train_and_measure: Subset -> quality on data that is the same for all.
        subsets: (share, rows, subset), of any kind.
    """
    ordered = sorted(subsets, key=lambda subset: subset[0])
    return [CurvePoint(share, rows, float(train_and_measure(subset))) for share, rows, subset in ordered]


def nested_shares(data: PairSet | Texts, shares: Sequence[float] = SHARES, *, seed: int) -> list[Rows]:
    """Return the rows of each share, int64 and ascending; those of a smaller share are among those of a larger.

    Args:
        data: Pairs, of which whole queries are taken, or texts, of which each label gives its share (one row at least).
        shares: Above 0 and up to 1, in any order.
        seed: Of the draw.

    Raises:
        InputError: A share outside 0 to 1, or no data.
    """
    if isinstance(data, Texts):
        return nested_texts(data.labels, shares, seed=seed)
    return nested_pairs(data.queries, shares, seed=seed)


def nested_texts(labels: NDArray[np.int64], shares: Sequence[float], *, seed: int) -> list[Rows]:
    """As `nested_shares`, of texts with labels (n,)."""
    _check(shares, len(labels))
    rng = np.random.default_rng(seed)
    of_label = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return [
        np.sort(np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in of_label]))
        for share in shares
    ]


def nested_pairs(queries: Sequence[str], shares: Sequence[float], *, seed: int) -> list[Rows]:
    """As `nested_shares`, of pairs with these n queries, which are taken in a drawn order."""
    _check(shares, len(queries))
    names: dict[str, int] = {}
    query_of = np.array([names.setdefault(text_key(query), len(names)) for query in queries], np.int64)
    place = np.random.default_rng(seed).permutation(len(names))
    # Pairs in the order in which their queries are drawn; a query is in if its first pair is.
    order = np.argsort(place[query_of], kind="stable")
    last = [
        place[query_of[order[min(len(order), max(1, round(share * len(order)))) - 1]]] for share in shares
    ]
    return [np.flatnonzero(place[query_of] <= limit).astype(np.int64) for limit in last]


def nested_splits(
    pairs: PairSet, split: Split, shares: Sequence[float] = SHARES, *, seed: int
) -> list[tuple[float, int, Split]]:
    """Return subsets for `learning_curve`: splits with a share of the training side each, and the whole dev side."""
    rows = np.flatnonzero(split.train)
    found = nested_pairs([pairs.queries[i] for i in rows], shares, seed=seed)
    return [
        (share, len(part), _with_train(split, rows[part])) for share, part in zip(shares, found, strict=True)
    ]


def nested_parts(
    data: Texts, shares: Sequence[float] = SHARES, *, seed: int
) -> list[tuple[float, int, Texts]]:
    """Return subsets for `learning_curve`: texts of each share."""
    found = nested_texts(data.labels, shares, seed=seed)
    return [
        (share, len(rows), Texts([data.texts[i] for i in rows], data.labels[rows]))
        for share, rows in zip(shares, found, strict=True)
    ]


def _with_train(split: Split, rows: Rows) -> Split:
    train = np.zeros(len(split.train), bool)
    train[rows] = True
    return Split(train, split.dev)


def _check(shares: Sequence[float], rows: int) -> None:
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong or not shares:
        raise InputError(
            f"learning curve: found the shares {list(shares)}, expected some above 0 and up to 1"
        )
    if not rows:
        raise InputError("learning curve: found no rows, expected some to take shares of")
