"""GLUE's measures against formulas by hand, on random answers and on answers that are all the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.train.classifiers.examples import Task
from towers.train.classifiers.glue import GLUE
from towers.train.classifiers.task_metrics import METRICS, task_report


def counts(labels: np.ndarray, guess: np.ndarray) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives."""
    pairs = [(1, 1), (0, 1), (1, 0), (0, 0)]
    return tuple(int(((labels == a) & (guess == b)).sum()) for a, b in pairs)  # type: ignore[return-value]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_two_classes_by_hand(rows: list[tuple[int, int]]) -> None:
    """Accuracy, F1 of class 1 and Matthews' correlation from the four counts."""
    labels, guess = np.array(rows).T
    tp, fp, fn, tn = counts(labels, guess)
    assert METRICS["accuracy"](labels, guess) == pytest.approx((tp + tn) / len(rows))
    assert METRICS["f1"](labels, guess) == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0)
    below = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert METRICS["matthews"](labels, guess) == pytest.approx((tp * tn - fp * fn) / below if below else 0)


def test_correlations_by_hand() -> None:
    """Pearson from the covariance, Spearman the same of the ranks."""
    rng = np.random.default_rng(0)
    labels = rng.normal(size=50)
    guess = (labels + rng.normal(size=50)).astype(np.float32)
    x, y = labels - labels.mean(), guess - guess.mean()
    assert METRICS["pearson"](labels, guess) == pytest.approx((x @ y) / np.sqrt((x @ x) * (y @ y)), rel=1e-5)
    ranks = [values.argsort().argsort().astype(float) for values in (labels, guess)]
    spearman = np.corrcoef(ranks)[0, 1]
    assert METRICS["spearman"](labels, guess) == pytest.approx(spearman)


@pytest.mark.parametrize("value", [0.0, 3.0, float("nan"), float("inf")])
def test_a_model_that_answers_always_the_same_has_no_correlation(value: float) -> None:
    """0 and neither nan nor a warning: one such trial must not end a search."""
    for name in ("pearson", "spearman"):
        assert METRICS[name](np.array([1.0, 2, 3]), np.full(3, value, np.float32)) == 0.0


@pytest.mark.parametrize("name", GLUE)
def test_each_task_has_its_own_measures(name: str) -> None:
    """Perfect answers are worth 1 in each, and the objective is their mean."""
    task = GLUE[name].task(name)
    labels = np.array([0.0, 2.5, 5.0]) if task.is_regression else np.arange(6) % task.outputs
    outputs = labels[:, None] if task.is_regression else np.eye(task.outputs)[labels]
    report = task_report(task, labels, outputs.astype(np.float32))
    expected = {"cola": ["matthews"], "mrpc": ["accuracy", "f1"], "qqp": ["accuracy", "f1"]}
    names = expected.get(name, ["pearson", "spearman"] if name == "stsb" else ["accuracy"])
    assert list(report) == ["rows", *names, "objective"]
    assert report["rows"] == len(labels)
    assert [report[x] for x in (*names, "objective")] == pytest.approx([1.0] * (len(names) + 1))


def test_the_objective_is_the_mean() -> None:
    """Three of four right, two of three ones found: accuracy 0.75, F1 0.8."""
    outputs = np.eye(2, dtype=np.float32)[[1, 1, 0, 0]]
    report = task_report(Task("x", ("a", "b"), True, ("accuracy", "f1")), np.array([1, 1, 1, 0]), outputs)
    assert report["accuracy"] == 0.75
    assert report["f1"] == pytest.approx(0.8)
    assert report["objective"] == pytest.approx(0.775)
