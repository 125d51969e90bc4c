"""Calibration, the threshold, and the comparison of scorer and calibrated cosine on dev pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers import metrics
from towers.train.data import PairSet, Split
from towers.train.scorer import ResidualScorer
from towers.train.scorer_training import ScorerPairs, logits_of, platt

K = 10  # nDCG counts this many ranks, as most published results do


@dataclass(frozen=True)
class Calibrated:
    """A scorer whose scores are probabilities on dev pairs.

    Attributes:
        scorer: Calibrated in place.
        probabilities: (n,) of the dev pairs.
        threshold: The score from which most dev pairs are decided rightly, each set counting the same.
    """

    scorer: ResidualScorer
    probabilities: NDArray[np.float64]
    threshold: float


def calibrate(scorer: ResidualScorer, dev: ScorerPairs) -> Calibrated:
    """Fit slope and offset to the dev pairs' classes and choose the threshold; every set has the same weight."""
    weights = set_weights(dev.sets)
    positive = dev.labels > 0.5
    logits = logits_of(scorer, dev)
    slope, offset = platt(logits, positive.astype(np.float32), weights)
    scorer.rescale(slope, offset)
    probabilities = 1 / (1 + np.exp(-(slope * logits + offset)))
    return Calibrated(scorer, probabilities, balanced_threshold(positive, probabilities, weights))


def set_weights(sets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a weight for each pair, (n,), so that every set weighs 1 in all."""
    _, where, counts = np.unique(sets, return_inverse=True, return_counts=True)
    return (1 / counts[where]).astype(np.float32)


def balanced_threshold(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float32]
) -> float:
    """Return the threshold with the greatest weight of pairs decided rightly by score >= threshold.

    The middle between two neighbouring scores; the lowest score, or just above the highest, when all pairs are
    best decided alike.
    """
    values, where = np.unique(scores, return_inverse=True)
    wins_above = np.bincount(where, weights=weights * positive)
    wins_below = np.bincount(where, weights=weights * ~positive)
    right = np.append(0, wins_below.cumsum()) + np.append(wins_above[::-1].cumsum()[::-1], 0)
    best = int(right.argmax())
    if best == 0:
        return float(values[0])
    if best == len(values):
        return float(np.nextafter(values[-1], np.inf))
    return float((values[best - 1] + values[best]) / 2)


def compare(
    sets: Sequence[PairSet],
    splits: Sequence[Split],
    dev: ScorerPairs,
    *,
    score: Calibrated,
    cosine: Calibrated,
) -> dict[str, Any]:
    """Report on scorer and calibrated cosine, side by side, on the dev pairs.

    Both are calibrated and both have their threshold from these pairs, two numbers and one for thousands of pairs.

    Args:
        sets: The sets.
        splits: One for each set.
        dev: The dev sides of all sets, in order.
        score: The scorer with its MLP.
        cosine: The scorer without.

    Returns:
        "sets": a row for each set; "total": all pairs together; "gain": by how much the score is better, the mean
        over the sets of the mean of AUC and nDCG@10, where the set has queries with several titles.
    """
    relevances = np.concatenate(
        [x.original_labels[y.dev] - x.lowest for x, y in zip(sets, splits, strict=True)]
    )
    rows = []
    for number, pairs in enumerate(sets):
        here = dev.sets == number
        both = _both(dev, relevances, score, cosine, here)
        rows.append({"name": pairs.name, "labels": [pairs.lowest, pairs.highest], **both})
    everywhere = np.ones(len(dev), bool)
    return {
        "sets": rows,
        "total": _both(dev, relevances, score, cosine, everywhere),
        "gain": float(np.mean([_gain(row) for row in rows])),
    }


def wins(report: dict[str, Any]) -> bool:
    """Whether the scorer is better than calibrated cosine on dev pairs, each set counting the same."""
    return bool(report["gain"] > 0)


def _both(
    dev: ScorerPairs,
    relevances: NDArray[np.float64],
    score: Calibrated,
    cosine: Calibrated,
    here: NDArray[np.bool_],
) -> dict[str, Any]:
    pairs, rel = dev.where(here), relevances[here]
    return {
        "pairs": len(pairs),
        "queries": len(np.unique(pairs.queries)),
        "positives": int((pairs.labels > 0.5).sum()),
        "score": _quality(pairs, rel, score.probabilities[here], score.threshold),
        "cosine": _quality(pairs, rel, cosine.probabilities[here], cosine.threshold),
    }


def _quality(
    pairs: ScorerPairs, relevances: NDArray[np.float64], scores: NDArray[np.float64], threshold: float
) -> dict[str, float | None]:
    """Measure scores; None where the pairs leave a metric undefined, as JSON has no nan."""
    positive = pairs.labels > 0.5
    ranked = np.unique(pairs.queries, return_counts=True)[1].max() > 1
    measured = {
        "auc": metrics.auc(positive, scores),
        "accuracy": metrics.accuracy_at(positive, scores, threshold),
        "threshold": threshold,
        "spearman": metrics.spearman(pairs.labels, scores),
        f"ndcg@{K}": metrics.ndcg(pairs.queries, relevances, scores, K) if ranked else math.nan,
        "calibration_error": metrics.calibration_error(positive, scores),
    }
    return {name: None if math.isnan(value) else value for name, value in measured.items()}


def _gain(row: dict[str, Any]) -> float:
    names = [name for name in ("auc", f"ndcg@{K}") if row["score"][name] is not None]
    return float(np.mean([row["score"][name] - row["cosine"][name] for name in names]))
