"""How good scores, rankings and classes are, in numpy alone.

Labels, scores and predictions are one-dimensional and of the same length n. A metric that the data leave
undefined (one class only, a constant, no relevant title) is nan, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from towers.errors import InputError

Floats = NDArray[np.float64]

# Pairs: does a higher score mean a match?


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The chance that a positive pair scores above a negative one; equal scores count half.

    Computed from ranks (Mann and Whitney 1947).

    Args:
        labels: (n,) 1 or True for a match, 0 or False for none.
        scores: (n,) any real numbers, higher is better.
    """
    labels, scores = _same_length(labels, scores)
    positive = labels > 0
    n_positive = int(positive.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    above = _ranks(scores)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def accuracy_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """The share of pairs that `score >= threshold` decides as the labels (n,), 1 or 0, do."""
    labels, scores = _same_length(labels, scores)
    return float(((scores >= threshold) == (labels > 0)).mean())


def best_threshold(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """The threshold that decides most pairs rightly, and its accuracy on these same pairs.

    Candidates are the middles between neighbouring scores, the lowest score (all match) and just above the
    highest (none does). Of equally good ones the lowest is taken.
    """
    labels, scores = _same_length(labels, scores)
    values, where = np.unique(scores, return_inverse=True)
    positives = np.bincount(where, weights=labels > 0)
    negatives = np.bincount(where) - positives
    # Entry i: the pairs decided rightly when the i lowest distinct scores are "no match".
    right = np.append(0, negatives.cumsum()) + np.append(positives[::-1].cumsum()[::-1], 0)
    best = int(right.argmax())
    return _cut_below(values, best), float(right[best] / len(labels))


def _cut_below(values: Floats, index: int) -> float:
    """A threshold that lets values[index:] pass and nothing below."""
    if index == 0:
        return float(values[0])
    if index == len(values):
        return float(np.nextafter(values[-1], np.inf))
    middle = (values[index - 1] + values[index]) / 2
    return float(
        middle if middle > values[index - 1] else values[index]
    )  # neighbouring floats have no middle


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: how far probabilities are from the shares of matches that they announce.

    Bins of equal width, each weighted by its pairs (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", section 2; 15 bins as there).

    Args:
        labels: (n,) 1 or 0.
        probabilities: (n,) in 0..1; values outside are moved to the nearer end.
        bins: Number of bins.
    """
    labels, probabilities = _same_length(labels, probabilities)
    probabilities = probabilities.clip(0, 1)
    where = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = np.bincount(where, weights=(labels > 0) - probabilities, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """The correlation of the ranks of a and b, both (n,); equal values share a rank (Spearman 1904)."""
    a, b = _same_length(a, b)
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale else float("nan")


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, as float64 (n,); equal values get the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: Floats = counts.cumsum() - (counts - 1) / 2
    return means[where]


# Rankings: pairs with the query they belong to, as `groups` (n,): query ids, equal for equal queries.


def ndcg(groups: ArrayLike, relevances: ArrayLike, scores: ArrayLike, k: int = 10) -> float:
    """Normalised discounted cumulative gain at k, mean over the queries that have a relevant title.

    Gain 2^relevance - 1, discount 1 / log2(1 + rank) (Järvelin and Kekäläinen 2002; Burges et al. 2005).
    Equal scores give the mean over all their orders (McSherry and Najork 2008).

    Args:
        groups: (n,) query ids.
        relevances: (n,) at least 0; 0 is not relevant.
        scores: (n,) higher is better; -inf says that the title was not found, so it has no rank.
        k: Ranks that count.
    """
    ranking = _Ranking(groups, relevances, scores)
    gains = 2.0**ranking.relevances - 1
    found = ranking.per_query(ranking.tie_means(gains) * _discounts(ranking.ranks, k))
    ideal_order = np.lexsort((-gains, ranking.queries))
    ideal = ranking.per_query(gains[ideal_order] * _discounts(ranking.places, k))
    return _mean(found[ideal > 0] / ideal[ideal > 0])


def _discounts(ranks: Floats, k: int) -> Floats:
    return np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)


def recall_at(groups: ArrayLike, relevances: ArrayLike, scores: ArrayLike, k: int) -> float:
    """The share of a query's relevant titles among the first k, mean over the queries that have any.

    Arguments and ties as in `ndcg`.
    """
    ranking = _Ranking(groups, relevances, scores)
    relevant = (ranking.relevances > 0).astype(np.float64)
    found = ranking.per_query(ranking.tie_means(relevant) * (ranking.ranks <= k))
    total = ranking.per_query(relevant)
    return _mean(found[total > 0] / total[total > 0])


def mrr(groups: ArrayLike, relevances: ArrayLike, scores: ArrayLike, k: int = 10) -> float:
    """1 / rank of the first relevant title, 0 beyond k; mean over the queries that have a relevant title.

    Arguments as in `ndcg`. Among equal scores the relevant titles come last: the worst order of the ties.
    """
    ranking = _Ranking(groups, relevances, scores)
    reciprocal = np.where((ranking.relevances > 0) & (ranking.ranks <= k), 1 / ranking.ranks, 0.0)
    best = np.zeros(ranking.queries.max() + 1)
    np.maximum.at(best, ranking.queries, reciprocal)
    return _mean(best[ranking.per_query((ranking.relevances > 0).astype(np.float64)) > 0])


class _Ranking:
    """Pairs in the order of their query and, inside it, from the best score to the worst.

    Attributes:
        queries: (n,) int, the query's number.
        relevances: (n,) float64; the lowest first where scores are equal.
        places: (n,) float64, 1, 2, … in each query.
        ranks: (n,) float64, the places; inf for what was not found.
    """

    def __init__(self, groups: ArrayLike, relevances: ArrayLike, scores: ArrayLike) -> None:
        relevances, scores = _same_length(relevances, scores)
        queries = np.unique(np.asarray(groups), return_inverse=True)[1]
        if len(queries) != len(scores):
            raise InputError(f"{len(queries)} query ids for {len(scores)} scores; give one for each pair.")
        if relevances.min() < 0:
            raise InputError(f"found the relevance {relevances.min():g}, expected none below 0.")
        order = np.lexsort((relevances, -scores, queries))
        self.queries, self.relevances, scores = queries[order], relevances[order], scores[order]
        first = np.append(True, self.queries[1:] != self.queries[:-1])
        self.places = np.arange(1.0, len(order) + 1) - np.flatnonzero(first)[first.cumsum() - 1]
        self.ranks = np.where(np.isneginf(scores), np.inf, self.places)
        self._ties = np.append(True, (scores[1:] != scores[:-1]) | first[1:]).cumsum() - 1

    def tie_means(self, values: Floats) -> Floats:
        """Replace each value by the mean over the pairs of its query with the same score; (n,) to (n,)."""
        means = np.bincount(self._ties, weights=values) / np.bincount(self._ties)
        return np.asarray(means[self._ties], dtype=np.float64)

    def per_query(self, values: Floats) -> Floats:
        """Sum (n,) values to (queries,)."""
        return np.asarray(np.bincount(self.queries, weights=values), dtype=np.float64)


# Classes.


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The share of predictions (n,) that equal the labels (n,)."""
    labels, predictions = _same_length(labels, predictions)
    return float((labels == predictions).mean())


def macro_recall(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The mean over the classes that occur in the labels of the share of the class that was found."""
    labels, predictions = _same_length(labels, predictions)
    return _mean([float((predictions[labels == c] == c).mean()) for c in np.unique(labels)])


def macro_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The mean, over the classes that occur as label or prediction, of 2 · hits / (labelled + predicted)."""
    labels, predictions = _same_length(labels, predictions)
    classes = np.union1d(labels, predictions)
    hits = [((labels == c) & (predictions == c)).sum() for c in classes]
    sizes = [(labels == c).sum() + (predictions == c).sum() for c in classes]
    return _mean([2 * hit / size for hit, size in zip(hits, sizes, strict=True)])


def confusion(labels: ArrayLike, predictions: ArrayLike, classes: Sequence[int]) -> NDArray[np.int64]:
    """Counts (c, c) for c classes: row i, column j holds those labelled classes[i], predicted classes[j]."""
    labels, predictions = _same_length(labels, predictions)
    return np.array([[((labels == a) & (predictions == b)).sum() for b in classes] for a in classes])


def _same_length(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise InputError(
            f"found shapes {a.shape} and {b.shape}, expected two lists of one length, not empty."
        )
    return a, b


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
