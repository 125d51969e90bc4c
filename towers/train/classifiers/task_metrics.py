"""Measures of classifiers, by name: scikit-learn's and scipy's, made safe for answers that are all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.train.classifiers.examples import Task

Array = NDArray[Any]


def task_report(task: Task, labels: Array, outputs: Array) -> dict[str, Any]:
    """Measure a model's outputs.

    Args:
        task: Says which measures.
        labels: (n,) classes or values.
        outputs: (n, task.outputs) float32 logits, probabilities or values.

    Returns:
        The number of rows, each measure by name, and "objective", their mean, as GLUE counts a task with two.
    """
    guess = outputs[:, 0] if task.is_regression else outputs.argmax(axis=1)
    found = {name: METRICS[name](labels, guess) for name in task.metrics}
    return {"rows": len(labels), **found, "objective": float(np.mean(list(found.values())))}


def _matthews(labels: Array, guess: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    if len(np.unique(labels)) < 2 or len(np.unique(guess)) < 2:
        return 0.0  # as scikit-learn, less its warning
    return float(matthews_corrcoef(labels, guess))


def _accuracy(labels: Array, guess: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, guess))


def _f1(labels: Array, guess: Array) -> float:
    """Of the class 1."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, guess, zero_division=0.0))


def _macro_f1(labels: Array, guess: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, guess, average="macro", zero_division=0.0))


def _pearson(labels: Array, guess: Array) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, labels, guess)


def _spearman(labels: Array, guess: Array) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, labels, guess)


def _correlation(of: Callable[..., Any], labels: Array, guess: Array) -> float:
    """0 where one side is all the same or no number: a model that learned nothing must not end a search."""
    if not np.isfinite(guess).all() or np.ptp(guess) < 1e-6 * (1 + np.abs(guess).max()) or not np.ptp(labels):
        return 0.0
    return float(of(labels, guess).statistic)


METRICS: Mapping[str, Callable[[Array, Array], float]] = {
    "matthews": _matthews,
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "pearson": _pearson,
    "spearman": _spearman,
}
