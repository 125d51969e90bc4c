"""The head and a logistic regression on sets of texts in two languages; a part of the bilingual benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.common import Report, data_file, sample
from towers import Bundle, metrics
from towers.labelled import Texts, read_texts
from towers.sentiment import LABELS
from towers.train.data import text_key

WHOLE_TEXTS = {
    "sst2_dev": "sentiment/en/sst2_dev.jsonl.gz",
    "sst5_dev": "sentiment/en/sst5_dev.jsonl.gz",
    "smp2020_dev": "sentiment/zh/smp2020_dev.jsonl.gz",
    "douban_book_dev": "sentiment/zh/douban_book_dev.jsonl.gz",
}
REGRESSION_TEXTS = 20_000
MOST_TEXTS = 2000  # of a whole set of texts
QUICK = 60  # rows of each set


def sentiment(
    report: Report,
    options: argparse.Namespace,
    bundle: Bundle,
    split: tuple[Texts, dict[str, Texts]],
    known: set[str],
) -> dict[str, Any]:
    """The head and a logistic regression on each set of texts; `split` is from `split_sentiment`."""
    train, held_out = split
    tests = {f"{name}, held out": texts for name, texts in held_out.items() if texts.texts}
    tests |= {f"{name}, all": whole_texts(options, file, known) for name, file in WHOLE_TEXTS.items()}
    if options.quick:
        tests = {name: drawn(texts, QUICK) for name, texts in tests.items()}
    learned = drawn(train, 5 * QUICK if options.quick else REGRESSION_TEXTS)
    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    regression.fit(bundle.encode_titles(learned.texts), learned.labels)
    contenders: dict[str, Callable[[list[str]], Any]] = {
        "logistic regression on vectors": lambda texts: regression.predict_proba(bundle.encode_titles(texts)),
        "dualtower head": bundle.sentiment,
    }
    measured: dict[str, Any] = {"regression_texts": len(learned.texts)}
    rows = []
    for test, data in tests.items():
        for name, classify in contenders.items():
            found = sentiment_values(data.labels, np.asarray(classify(data.texts)))
            measured.setdefault(test, {"texts": len(data.texts)})[name] = found
            values = (f"{found[key]:.4f}" if key in found else "" for key in SENTIMENT_METRICS)
            rows.append((test, name, f"{len(data.texts):,}", *values))
    report.table("Sentiment", ("texts", "", "number", *SENTIMENT_METRICS.values()), rows)
    return measured


SENTIMENT_METRICS = {
    "accuracy": "accuracy",
    "macro_recall": "macro recall",
    "two_way_accuracy": "positive or negative",
}


def whole_texts(options: argparse.Namespace, file: str, known: set[str]) -> Texts:
    """A set of texts without the known ones, or a sample of it."""
    data = read_texts(data_file(options, file))
    rows = [i for i, text in enumerate(data.texts) if text_key(text) not in known]
    return drawn(Texts([data.texts[i] for i in rows], data.labels[rows]), MOST_TEXTS)


def drawn(texts: Texts, most: int) -> Texts:
    """A sample of texts, the same one every time; all of them, in another order, when there are fewer."""
    rows = sample(range(len(texts.texts)), most)
    return Texts([texts.texts[i] for i in rows], texts.labels[rows])


def sentiment_values(labels: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Accuracy, and macro recall of three classes or, without neutral texts, accuracy of positive against negative.

    Args:
        labels: (n,) of -1, 0, 1.
        probabilities: (n, 3) of -1, 0, 1.
    """
    predictions = np.take(LABELS, probabilities.argmax(axis=1))
    found = {"accuracy": metrics.accuracy(labels, predictions)}
    if (labels == 0).any():
        return found | {"macro_recall": metrics.macro_recall(labels, predictions)}
    signs = np.where(probabilities[:, 2] > probabilities[:, 0], 1, -1)
    return found | {"two_way_accuracy": metrics.accuracy(labels, signs)}
