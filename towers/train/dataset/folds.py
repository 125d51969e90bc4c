"""Folds for out-of-fold predictions of which no text has any part in its own training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def text_folds(
    texts: Sequence[tuple[str, ...]], classes: Rows, *, count: int, seed: int
) -> list[tuple[Rows, Rows]]:
    """Split rows into folds so that no text of a fold occurs in the rows that its model is trained on.

    Rows that share a text are connected, and connected rows go to one fold. Where a group of connected rows is larger
    than a fold (one popular title can connect everything) its rows are drawn by their first text instead, and the
    training rows that touch a text of the fold are left out.

    Args:
        texts: n rows' texts, as keys that compare equal: (text,) or (query, title).
        classes: (n,) int64, spread evenly over the folds as far as groups allow.
        count: Folds, at least 2.
        seed: Of the draw.

    Returns:
        `count` pairs (training rows, the fold's rows), fewer where there are fewer groups or rows of each class, none
        where these allow no two; else each row is in one fold.
    """
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    groups = _groups(texts, largest=len(texts) / count)
    count = min(count, len(np.unique(groups)), int(np.bincount(classes).max()))
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class has fewer rows than there are folds
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        drawn = list(splitter.split(np.zeros(len(texts)), classes, groups))
    return [(_apart(train, fold, texts), fold.astype(np.int64)) for train, fold in drawn]


def _groups(texts: Sequence[tuple[str, ...]], *, largest: float) -> Rows:
    """Number each row's group."""
    connected = _connected(texts)
    sizes = Counter(connected.tolist())
    names: dict[Hashable, int] = {}
    keys: list[Hashable] = [
        number if sizes[number] <= largest else row[0]
        for number, row in zip(connected.tolist(), texts, strict=True)
    ]
    return np.array([names.setdefault(key, len(names)) for key in keys], np.int64)


def _connected(texts: Sequence[tuple[str, ...]]) -> Rows:
    """Number each row's connected component in the graph whose edges join the texts of a row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place: dict[str, int] = {}
    rows = [[place.setdefault(text, len(place)) for text in row] for row in texts]
    first, last = np.array([row[0] for row in rows]), np.array([row[-1] for row in rows])
    edges = coo_array((np.ones(len(rows)), (first, last)), shape=(len(place), len(place)))
    return np.asarray(connected_components(edges, directed=False)[1][first], np.int64)


def _apart(train: Rows, fold: Rows, texts: Sequence[tuple[str, ...]]) -> Rows:
    held_out = {text for row in fold for text in texts[row]}
    return np.array([row for row in train if held_out.isdisjoint(texts[row])], np.int64)
