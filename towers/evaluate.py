"""What a bundle is worth on labelled data: scorer and plain cosine side by side, search, and sentiment.

The `…_report` functions are pure: arrays in, a dictionary of numbers out, nan where a metric is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from towers import metrics
from towers.exact import nearest
from towers.labelled import Pairs, Searches, Texts
from towers.sentiment import LABELS

K = 10  # nDCG and MRR count this many ranks, as most published results do
CANDIDATES = 100  # titles that the scorer re-ranks for a query
_CHUNK = 256  # texts encoded between two steps of a progress bar

Progress = Callable[[int], None]
"""Told the number of texts newly done."""


class Encoder(Protocol):
    """The part of a bundle that is measured on pairs and searches."""

    @property
    def threshold(self) -> float:
        """The score from which a pair is a match."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (n, dim) of length 1."""

    def encode_titles(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Vectors (n, dim) of length 1."""

    def score(
        self, query_vector: NDArray[np.float32], title_vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities (n,) that a title matches."""


class SentimentClassifier(Protocol):
    """The part of a bundle that is measured on texts."""

    def sentiment(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities (n, 3) of -1, 0 and 1."""


def no_progress(done: int) -> None:
    """For callers that show none."""


# Pairs.


def evaluate_match(
    bundle: Encoder, pairs: Pairs, *, positive_from: float | None = None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Score labelled pairs and report on them as `match_report` does; each different text is encoded once."""
    scores, cosines, groups = score_pairs(bundle, pairs, progress=progress)
    return match_report(pairs.labels, scores, cosines, groups, bundle.threshold, positive_from=positive_from)


def score_pairs(
    bundle: Encoder, pairs: Pairs, *, progress: Progress = no_progress
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Score n pairs.

    Returns:
        Scores (n,) in 0..1, cosines (n,) in -1..1 and the number of each pair's query, int64 (n,).
    """
    queries, query_of = _distinct(pairs.queries)
    titles, title_of = _distinct(pairs.titles)
    query_vectors = _in_chunks(bundle.encode_queries, queries, progress)
    title_vectors = bundle.encode_titles(titles, progress=progress)
    scores = np.empty(len(query_of), dtype=np.float32)
    cosines = np.empty_like(scores)
    by_query = np.argsort(query_of, kind="stable")
    for rows in np.split(by_query, np.flatnonzero(np.diff(query_of[by_query])) + 1):
        query, its_titles = query_vectors[query_of[rows[0]]], title_vectors[title_of[rows]]
        scores[rows] = bundle.score(query, its_titles)
        cosines[rows] = its_titles @ query
    return scores, cosines, query_of


def match_report(
    labels: ArrayLike,
    scores: ArrayLike,
    cosines: ArrayLike,
    groups: ArrayLike,
    threshold: float,
    *,
    positive_from: float | None = None,
) -> dict[str, Any]:
    """Compare the scorer with plain cosine on the same pairs.

    A pair is positive when its label reaches `positive_from`; nDCG takes the label minus the lowest label
    as relevance; Spearman takes the labels as they are. The scorer's accuracy is at the given threshold.
    Cosine has no threshold of its own: it gets the best one for these very pairs, which flatters it, and the
    report says so. In the calibration error of cosine, values below 0 count as probability 0.

    Args:
        labels: (n,) 1 or 0, grades, or similarities.
        scores: (n,) the scorer's probabilities.
        cosines: (n,) in -1..1.
        groups: (n,) query ids.
        threshold: The bundle's decision threshold on the score.
        positive_from: Default: the lowest label above the middle of the label range.

    Returns:
        Counts, and under "score" and "cosine" the same metrics for both. nDCG is nan when no query has two
        titles, as nothing is ranked then.
    """
    labels = np.asarray(labels, dtype=np.float64)
    lowest, highest = label_range(labels)
    if positive_from is None:
        positive_from = default_positive_from(labels)
    positive = labels >= positive_from
    sizes = np.unique(np.asarray(groups), return_counts=True)[1]

    def quality(values: ArrayLike, at: float) -> dict[str, Any]:
        ranked = metrics.ndcg(groups, labels - lowest, values, K) if sizes.max() > 1 else float("nan")
        return {
            "auc": metrics.auc(positive, values),
            "threshold": at,
            "accuracy": metrics.accuracy_at(positive, values, at),
            "spearman": metrics.spearman(labels, values),
            f"ndcg@{K}": ranked,
            "calibration_error": metrics.calibration_error(positive, values),
        }

    return {
        "pairs": len(labels),
        "queries": len(sizes),
        "labels": [lowest, highest],
        "positive_from": positive_from,
        "positives": int(positive.sum()),
        "score": {**quality(scores, threshold), "threshold_from": "bundle"},
        "cosine": {
            **quality(cosines, metrics.best_threshold(positive, cosines)[0]),
            "threshold_from": "these pairs",
        },
    }


def label_range(labels: NDArray[np.float64]) -> tuple[float, float]:
    """The lowest and the highest label; (0, 1) for labels of 0 and 1 even when one of them does not occur."""
    if np.isin(labels, (0, 1)).all():
        return 0.0, 1.0
    return float(labels.min()), float(labels.max())


def default_positive_from(labels: NDArray[np.float64]) -> float:
    """The lowest label above the middle of the label range, the highest label if there is none."""
    lowest, highest = label_range(labels)
    above = labels[labels > (lowest + highest) / 2]
    return float(above.min()) if len(above) and not np.isin(labels, (0, 1)).all() else highest


# Searches.


def evaluate_search(
    bundle: Encoder,
    searches: Searches,
    *,
    ks: Sequence[int] = (1, 10, 100),
    candidates: int = CANDIDATES,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Search every query among all titles, exactly, and report on the order by cosine and by score.

    Args:
        bundle: Encodes and scores.
        searches: Titles, queries and judgements.
        ks: Ranks at which recall is reported.
        candidates: Titles with the highest cosine that the scorer re-ranks; raised to the largest k.
        progress: Told the number of texts newly encoded.
    """
    title_vectors = bundle.encode_titles(searches.titles, progress=progress)
    query_vectors = _in_chunks(bundle.encode_queries, searches.queries, progress)
    row_of = {title_id: row for row, title_id in enumerate(searches.title_ids)}
    count = min(max(candidates, K, *ks), len(searches.titles))
    hidden = [_own_row(searches, query, row_of) for query in range(len(searches.queries))]
    cosines, rows = nearest(query_vectors, title_vectors, count, hidden=hidden)
    scores = np.stack(
        [bundle.score(query, title_vectors[found]) for query, found in zip(query_vectors, rows, strict=True)]
    )
    scores = np.where(np.isneginf(cosines), -np.inf, scores)
    return {
        "titles": len(searches.titles),
        "queries": len(searches.queries),
        "unknown_queries": searches.unknown_queries,
        "unknown_titles": sum(title not in row_of for judged in searches.relevances for title in judged),
        "candidates": count,
        **search_report(searches, rows, cosines, scores, ks=ks),
    }


def _own_row(searches: Searches, query: int, row_of: dict[str, int]) -> int | None:
    own = searches.query_ids[query]
    return row_of.get(own) if searches.skip_own and own not in searches.relevances[query] else None


def search_report(
    searches: Searches, rows: NDArray[np.int64], cosines: ArrayLike, scores: ArrayLike, *, ks: Sequence[int]
) -> dict[str, Any]:
    """Compare two orders of the candidates of each query.

    Args:
        searches: Judgements, by title id.
        rows: int (q, c) the candidates of each query, as rows of the titles.
        cosines: (q, c) one order.
        scores: (q, c) the other order.
        ks: Ranks at which recall is reported.

    Returns:
        Under "score" and "cosine": nDCG@10, MRR@10 and recall at each k, means over the queries that have a
        relevant title.
    """
    ids = np.array(searches.title_ids, dtype=object)
    groups: list[int] = []
    relevances: list[float] = []
    place: list[int] = []  # where the pair stands in the flattened candidates; -1: it was not found
    for query, (found, judged) in enumerate(zip(ids[rows], searches.relevances, strict=True)):
        missed = [judged[title] for title in judged.keys() - set(found)]
        relevances += [judged.get(title, 0.0) for title in found] + missed
        place += [*range(query * len(found), (query + 1) * len(found)), *[-1] * len(missed)]
        groups += [query] * (len(found) + len(missed))

    def quality(values: ArrayLike) -> dict[str, float]:
        by_place = np.append(np.ravel(values), -np.inf)[place]
        return {
            f"ndcg@{K}": metrics.ndcg(groups, relevances, by_place, K),
            f"mrr@{K}": metrics.mrr(groups, relevances, by_place, K),
            **{f"recall@{k}": metrics.recall_at(groups, relevances, by_place, k) for k in ks},
        }

    return {"score": quality(scores), "cosine": quality(cosines)}


# Sentiment.


def evaluate_sentiment(
    bundle: SentimentClassifier, texts: Texts, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Classify texts and report on them as `sentiment_report` does."""
    return sentiment_report(texts.labels, _in_chunks(bundle.sentiment, texts.texts, progress))


def sentiment_report(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Any]:
    """Report on classified texts.

    Args:
        labels: int (n,) in -1, 0, 1.
        probabilities: (n, 3) of -1, 0 and 1; the largest is the prediction.

    Returns:
        Accuracy, macro recall, macro F1, the recall of each class (nan for one that does not occur) and the
        confusion matrix, its rows the labels and its columns the predictions.
    """
    classes = np.array(LABELS)
    labels = np.asarray(labels)
    predictions = classes[np.argmax(probabilities, axis=1)]
    matrix = metrics.confusion(labels, predictions, classes.tolist())
    return {
        "texts": len(labels),
        "accuracy": metrics.accuracy(labels, predictions),
        "macro_recall": metrics.macro_recall(labels, predictions),
        "macro_f1": metrics.macro_f1(labels, predictions),
        "classes": classes.tolist(),
        "recall": [float(row[i] / row.sum()) if row.any() else float("nan") for i, row in enumerate(matrix)],
        "confusion": matrix.tolist(),
    }


def _distinct(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts in the order of their first occurrence, and each text's place among them."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return list(places), np.array([places[text] for text in texts])


def _in_chunks(
    encode: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str], progress: Progress
) -> NDArray[np.float32]:
    """Encode chunk by chunk, texts of like length together, so that progress shows and little is padded."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = []
    for start in range(0, len(order), _CHUNK):
        parts.append(encode([texts[i] for i in order[start : start + _CHUNK]]))
        progress(len(parts[-1]))
    encoded = np.concatenate(parts)
    result = np.empty_like(encoded)
    result[order] = encoded
    return result
