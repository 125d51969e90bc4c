"""Labels from scores, by thresholds that are chosen on the pairs of other queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from towers import metrics

Scores = NDArray[np.float64]


def first_half(queries: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) whether a pair's query is in the first half of the different queries, drawn at random, always the same."""
    groups = np.unique(np.array(queries), return_inverse=True)[1]
    count = int(groups.max()) + 1
    return np.asarray(np.random.default_rng(0).permutation(count)[groups] < (count + 1) // 2)


def crosswise(
    labels: NDArray[np.int64],
    scores: Scores,
    half: NDArray[np.bool_],
    choose: Callable[[NDArray[np.int64], Scores], Sequence[float]],
) -> NDArray[np.int64]:
    """Labels 0, 1, … (n,) that scores give: how many thresholds they reach, each half with those of the other."""
    found = np.empty(len(labels), np.int64)
    for chosen_on, used_on in ((half, ~half), (~half, half)):
        found[used_on] = np.digitize(scores[used_on], choose(labels[chosen_on], scores[chosen_on]))
    return found


def match_cut(labels: NDArray[np.int64], scores: Scores) -> list[float]:
    """The threshold of the highest accuracy."""
    return [metrics.best_threshold(labels, scores)[0]]


def grade_cuts(grades: NDArray[np.int64], scores: Scores, *, most: int = 200) -> list[float]:
    """The two thresholds of the highest macro-F1 of the grades 0, 1 and 2, of some 200 quantiles of the scores."""
    cuts = np.unique(np.quantile(scores, np.linspace(0, 1, most + 1)))
    below = np.stack([np.searchsorted(np.sort(scores[grades == grade]), cuts) for grade in range(3)])
    sizes = np.bincount(grades, minlength=3)
    low, high = np.triu_indices(len(cuts))
    hits = np.stack([below[0, low], below[1, high] - below[1, low], sizes[2] - below[2, high]])
    all_below = below.sum(axis=0)
    given = np.stack([all_below[low], all_below[high] - all_below[low], sizes.sum() - all_below[high]])
    f1 = (2 * hits / np.maximum(sizes[:, None] + given, 1)).mean(axis=0)
    best = int(f1.argmax())
    return [float(cuts[low[best]]), float(cuts[high[best]])]
