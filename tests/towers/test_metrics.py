"""Metrics against worked examples, sklearn and scipy, and the laws that they must obey."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    ndcg_score,
    recall_score,
    roc_auc_score,
)

from towers import metrics
from towers.errors import InputError

law = settings(deadline=None)  # other work may slow this machine down: no law depends on a clock

# Few distinct values, so that ties are the rule and not the exception.
coarse = st.integers(-4, 4).map(lambda i: i / 4)
binary_pairs = st.lists(st.tuples(st.integers(0, 1), coarse), min_size=1, max_size=40)
ranked_pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), coarse), min_size=1, max_size=40)


def columns(rows: list[tuple[float, ...]]) -> list[np.ndarray]:
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_auc_by_hand() -> None:
    """Positives 0.9 and 0.4 against negatives 0.4 and 0.1: 1 + 1 + ½ + 1 of 4 comparisons."""
    assert metrics.auc([1, 1, 0, 0], [0.9, 0.4, 0.4, 0.1]) == 3.5 / 4


@law
@given(binary_pairs)
def test_auc_agrees_with_sklearn(rows: list[tuple[int, float]]) -> None:
    """Also with ties; where only one class occurs it is nan."""
    labels, scores = columns(rows)
    if len(set(labels)) == 1:
        assert math.isnan(metrics.auc(labels, scores))
    else:
        assert metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


@law
@given(binary_pairs)
def test_auc_sees_only_the_order(rows: list[tuple[int, float]]) -> None:
    """A strictly rising function of the scores changes nothing; turning them round mirrors the value at ½."""
    labels, scores = columns(rows)
    value = metrics.auc(labels, scores)
    assert metrics.auc(labels, np.exp(3 * scores) - 7) == pytest.approx(value, nan_ok=True)
    assert metrics.auc(labels, -scores) == pytest.approx(1 - value, nan_ok=True)


def test_the_best_threshold_lies_between_the_scores() -> None:
    """0.2 | 0.6 0.8 is cut at 0.4; a score equal to the threshold is a match."""
    assert metrics.best_threshold([0, 1, 1], [0.2, 0.6, 0.8]) == (pytest.approx(0.4), 1.0)
    assert metrics.accuracy_at([0, 1, 1], [0.2, 0.6, 0.8], 0.6) == 1.0
    assert metrics.best_threshold([1, 1], [0.2, 0.6]) == (0.2, 1.0)
    threshold, accuracy = metrics.best_threshold([0, 0], [0.2, 0.6])
    assert threshold > 0.6
    assert accuracy == 1.0


def test_neighbouring_floats_are_still_told_apart() -> None:
    """Two scores with no float between them have a threshold too."""
    low = 1.0
    high = float(np.nextafter(low, 2))
    assert metrics.best_threshold([0, 1], [low, high]) == (high, 1.0)


@law
@given(binary_pairs)
def test_no_threshold_beats_the_best(rows: list[tuple[int, float]]) -> None:
    """The stupid twin: trying every score, and one above, finds no better accuracy than the stated one."""
    labels, scores = columns(rows)
    threshold, accuracy = metrics.best_threshold(labels, scores)
    assert metrics.accuracy_at(labels, scores, threshold) == pytest.approx(accuracy)
    assert accuracy == pytest.approx(
        max(metrics.accuracy_at(labels, scores, t) for t in [*scores, scores.max() + 1])
    )


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.2 announced and ½ true in one, 0.9 announced and 1 true in the other, two pairs each."""
    labels, probabilities = [0, 1, 1, 1], [0.2, 0.2, 0.9, 0.9]
    assert metrics.calibration_error(labels, probabilities, bins=2) == pytest.approx((0.3 + 0.1) / 2)
    assert metrics.calibration_error([1, 0], [1.0, 0.0]) == 0
    assert metrics.calibration_error([1, 0], [1.7, -0.3]) == 0


@law
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 20))
def test_calibration_error_agrees_with_its_definition(rows: list[tuple[int, float]], bins: int) -> None:
    """The stupid twin: bin by bin, the gap between mean label and mean probability, weighted."""
    labels, probabilities = columns(rows)
    where = np.minimum((probabilities * bins).astype(int), bins - 1)
    expected = sum(
        (where == b).mean() * abs(labels[where == b].mean() - probabilities[where == b].mean())
        for b in set(where)
    )
    assert metrics.calibration_error(labels, probabilities, bins=bins) == pytest.approx(expected)


@law
@given(st.lists(st.tuples(coarse, coarse), min_size=2, max_size=40))
def test_spearman_agrees_with_scipy(rows: list[tuple[float, float]]) -> None:
    """Also with ties; nan where one side is constant."""
    a, b = columns(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of constants
        expected = spearmanr(a, b).statistic
    assert metrics.spearman(a, b) == pytest.approx(expected, nan_ok=True)


def test_ndcg_by_hand() -> None:
    """Query a ranks relevances 1, 0, 2: gains 1, 0, 3, ideal 3, 1, 0. Query b has nothing relevant."""
    found = 1 / math.log2(2) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 1 / math.log2(3)
    groups, relevances, scores = ["a", "b", "a", "a"], [0, 0, 2, 1], [0.5, 0.9, 0.1, 0.7]
    assert metrics.ndcg(groups, relevances, scores) == pytest.approx(found / ideal)
    assert metrics.ndcg(groups, relevances, scores, k=1) == pytest.approx(1 / 3)
    assert math.isnan(metrics.ndcg(["a"], [0], [1.0]))


@law
@given(ranked_pairs, st.integers(1, 6))
def test_ndcg_agrees_with_sklearn(rows: list[tuple[int, int, float]], k: int) -> None:
    """With gains given as relevances sklearn computes the same, ties averaged, one query at a time."""
    groups, relevances, scores = columns(rows)
    gains = 2.0**relevances - 1
    of_query = [groups == group for group in set(groups) if gains[groups == group].any()]
    expected = [
        # sklearn refuses a query of one title, whose value is 1.
        1.0 if rows.sum() == 1 else ndcg_score([gains[rows]], [scores[rows]], k=k)
        for rows in of_query
    ]
    mean = np.mean(expected) if expected else math.nan
    assert metrics.ndcg(groups, relevances, scores, k=k) == pytest.approx(mean, nan_ok=True)


@law
@given(ranked_pairs, st.integers(1, 6))
def test_the_ideal_order_has_an_ndcg_of_one(rows: list[tuple[int, int, float]], k: int) -> None:
    """Scores that rise with relevance are perfect, and no scores are better than perfect."""
    groups, relevances, scores = columns(rows)
    if relevances.any():
        assert metrics.ndcg(groups, relevances, relevances * 2 - 5, k=k) == pytest.approx(1)
        assert metrics.ndcg(groups, relevances, scores, k=k) <= 1 + 1e-12


@law
@given(ranked_pairs, st.integers(0, 99))
def test_rankings_do_not_depend_on_the_order_of_the_rows(
    rows: list[tuple[int, int, float]], seed: int
) -> None:
    """Shuffled rows give the same values, equal scores included."""
    order = np.random.default_rng(seed).permutation(len(rows))
    groups, relevances, scores = columns(rows)
    for metric in (metrics.ndcg, metrics.recall_at, metrics.mrr):
        before = metric(groups, relevances, scores, 3)
        after = metric(groups[order], relevances[order], scores[order], 3)
        assert after == pytest.approx(before, nan_ok=True)


def test_recall_and_mrr_by_hand() -> None:
    """Query a finds its two relevant titles at ranks 2 and 3, query b its one at rank 1, query c has none."""
    groups = ["a", "a", "a", "b", "b", "c"]
    relevances = [0, 1, 2, 1, 0, 0]
    scores = [0.9, 0.8, 0.7, 0.5, 0.4, 0.3]
    assert metrics.recall_at(groups, relevances, scores, 1) == pytest.approx((0 + 1) / 2)
    assert metrics.recall_at(groups, relevances, scores, 2) == pytest.approx((1 / 2 + 1) / 2)
    assert metrics.mrr(groups, relevances, scores) == pytest.approx((1 / 2 + 1) / 2)
    assert metrics.mrr(groups, relevances, scores, k=1) == pytest.approx(1 / 2)


def test_ties_are_averaged_in_recall_and_at_their_worst_in_mrr() -> None:
    """Of two titles with one score the relevant one is first half the time; mrr counts it second."""
    assert metrics.recall_at(["q", "q"], [1, 0], [0.5, 0.5], 1) == pytest.approx(1 / 2)
    assert metrics.mrr(["q", "q"], [1, 0], [0.5, 0.5]) == pytest.approx(1 / 2)


def test_a_relevant_title_that_was_not_found_counts_as_missed() -> None:
    """A score of -inf keeps the title in the ideal and out of the first k, however large k is."""
    groups, relevances, scores = ["q"] * 3, [0, 1, 1], [0.9, 0.8, -math.inf]
    ideal = 1 + 1 / math.log2(3)
    for k in (2, 100):
        assert metrics.recall_at(groups, relevances, scores, k) == pytest.approx(1 / 2)
        assert metrics.ndcg(groups, relevances, scores, k) == pytest.approx(1 / math.log2(3) / ideal)
    assert metrics.mrr(["q"], [1], [-math.inf]) == 0


@law
@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=1, max_size=40))
def test_class_metrics_agree_with_sklearn(rows: list[tuple[int, int]]) -> None:
    """Accuracy, macro recall, macro F1 and the confusion matrix, also when a class is missing."""
    labels, predictions = columns(rows)
    assert metrics.accuracy(labels, predictions) == pytest.approx(accuracy_score(labels, predictions))
    recall = recall_score(labels, predictions, average="macro", labels=np.unique(labels), zero_division=0)
    assert metrics.macro_recall(labels, predictions) == pytest.approx(recall)
    f1 = f1_score(labels, predictions, average="macro", zero_division=0)
    assert metrics.macro_f1(labels, predictions) == pytest.approx(f1)
    matrix = confusion_matrix(labels, predictions, labels=[-1, 0, 1])
    assert (metrics.confusion(labels, predictions, [-1, 0, 1]) == matrix).all()


def test_lists_of_different_length_or_none_are_refused() -> None:
    """Both shapes are named."""
    with pytest.raises(InputError, match=r"\(2,\) and \(1,\)"):
        metrics.auc([0, 1], [0.5])
    with pytest.raises(InputError, match="not empty"):
        metrics.spearman([], [])
    with pytest.raises(InputError, match="1 query ids for 2 scores"):
        metrics.ndcg(["q"], [0, 1], [0.1, 0.2])
    with pytest.raises(InputError, match="relevance -1"):
        metrics.ndcg(["q", "q"], [-1, 1], [0.1, 0.2])
