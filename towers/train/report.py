"""Calibration, the threshold, and the comparison of scorer and calibrated cosine on dev pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
class Judged:
    """What a model says of the dev pairs, as probabilities.

    Attributes:
        probabilities: (n,) of the dev pairs.
        threshold: The score from which most dev pairs are decided rightly, each set counting the same.
    """

    probabilities: NDArray[np.float64]
    threshold: float


@dataclass(frozen=True)
class Calibrated(Judged):
    """A scorer whose scores are probabilities on dev pairs.

    Attributes:
        scorer: Calibrated in place.
    """

    scorer: ResidualScorer


def calibrate(scorer: ResidualScorer, dev: ScorerPairs) -> Calibrated:
    """Fit slope and offset to the dev pairs' classes and choose the threshold; every set has the same weight."""
    logits = logits_of(scorer, dev)
    slope, offset, judged = _judged(logits, dev)
    scorer.rescale(slope, offset)
    return Calibrated(judged.probabilities, judged.threshold, scorer)


def calibrate_scores(scores: NDArray[np.float32], dev: ScorerPairs) -> Judged:
    """Calibrate the scores in 0..1, (n,), of any other model, as of a cross-encoder, in the same way."""
    inside = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return _judged(np.log(inside / (1 - inside)), dev)[2]


def _judged(logits: NDArray[np.float64], dev: ScorerPairs) -> tuple[float, float, Judged]:
    weights = set_weights(dev.sets)
    positive = dev.labels > 0.5
    slope, offset = platt(logits, positive.astype(np.float32), weights)
    probabilities = 1 / (1 + np.exp(-(slope * logits + offset)))
    return slope, offset, Judged(probabilities, balanced_threshold(positive, probabilities, weights))


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
    score: Judged,
    cosine: Judged,
    teacher: Judged | None = None,
) -> dict[str, Any]:
    """Report on scorer and calibrated cosine, side by side, on the dev pairs.

    All are calibrated and all have their threshold from these pairs, two numbers and one for thousands of pairs.

    Args:
        sets: The sets.
        splits: One for each set.
        dev: The dev sides of all sets, in order.
        score: The scorer with its MLP.
        cosine: The scorer without.
        teacher: A cross-encoder, where there is one.

    Returns:
        "sets": a row for each set; "total": all pairs together; "gain": by how much the score is better, the mean
        over the sets of the mean of AUC and nDCG@10, where the set has queries with several titles.
    """
    relevances = np.concatenate(
        [x.original_labels[y.dev] - x.lowest for x, y in zip(sets, splits, strict=True)]
    )
    models = {"score": score, "cosine": cosine} | ({"teacher": teacher} if teacher else {})
    rows = []
    for number, pairs in enumerate(sets):
        measured = _measured(dev, relevances, models, dev.sets == number)
        rows.append({"name": pairs.name, "labels": [pairs.lowest, pairs.highest], **measured})
    return {
        "sets": rows,
        "total": _measured(dev, relevances, models, np.ones(len(dev), bool)),
        "gain": float(np.mean([_gain(row) for row in rows])),
    }


def wins(report: dict[str, Any]) -> bool:
    """Whether the scorer is better than calibrated cosine on dev pairs, each set counting the same."""
    return bool(report["gain"] > 0)


def _measured(
    dev: ScorerPairs,
    relevances: NDArray[np.float64],
    models: Mapping[str, Judged],
    here: NDArray[np.bool_],
) -> dict[str, Any]:
    pairs, rel = dev.where(here), relevances[here]
    return {
        "pairs": len(pairs),
        "queries": len(np.unique(pairs.queries)),
        "positives": int((pairs.labels > 0.5).sum()),
        **{
            name: _quality(pairs, rel, model.probabilities[here], model.threshold)
            for name, model in models.items()
        },
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
