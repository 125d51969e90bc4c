"""Is the sentiment head better than a logistic regression on the towers' vectors, and how fast is it?

Both are measured on the texts that the head's training held out (its own split, drawn again from the bundle's
recipe; the head's temperature was fitted to them, which changes no label), each source by itself, and on
SST-5's dev texts, which neither saw. The regression (scikit-learn, balanced classes) gets the same training
texts as the head, as vectors of the shipped towers, and has to be beaten. Wanted: at least 0.66 macro recall
on tweets (the set of tweets is semeval2013_16).

Speed: all these texts in one call on all cores, and single texts, one at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.common import (
    Report,
    data_file,
    median,
    opened,
    option_parser,
    parse,
    percentile,
    rounds,
    run,
    seconds,
    seconds_each,
    spread,
)
from benchmarks.held_out import add_recipe_option, split_sentiment
from towers import Bundle
from towers.evaluate import sentiment_report
from towers.labelled import Texts, read_texts

OTHER = "sentiment/en/sst5_dev.jsonl.gz"
METRICS = ("macro_recall", "macro_f1", "accuracy")
SINGLE = 200  # texts that are timed one at a time


def main() -> None:
    parser = option_parser(__doc__, repetitions=5)
    add_recipe_option(parser)
    options = parse(parser)
    bundle = opened(options)
    train, held_out = split_sentiment(bundle, options)
    # The dev texts are drawn up to a number, in the order of the recipe: its last sets may have none.
    tests = {f"held out, {name}": texts for name, texts in held_out.items() if texts.texts}
    tests["SST-5 dev"] = read_texts(data_file(options, OTHER))
    if options.quick:
        train, tests = some(train, 200), {name: some(texts, 40) for name, texts in tests.items()}
    report = Report("sentiment", __doc__, options, bundle, training_texts=len(train.texts))
    report.finish(
        {
            "quality": quality(report, bundle, train, tests),
            "speed": speed(report, options, bundle, [text for x in tests.values() for text in x.texts]),
        }
    )


def some(texts: Texts, most: int) -> Texts:
    """The first few texts."""
    return Texts(texts.texts[:most], texts.labels[:most])


def quality(report: Report, bundle: Bundle, train: Texts, tests: Mapping[str, Texts]) -> dict[str, Any]:
    """The head and the regression on each set of texts."""
    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    regression.fit(bundle.encode_titles(train.texts), train.labels)
    contenders: dict[str, Callable[[list[str]], Any]] = {
        "logistic regression on vectors": lambda texts: regression.predict_proba(bundle.encode_titles(texts)),
        "dualtower head": bundle.sentiment,
    }
    measured: dict[str, Any] = {}
    rows = []
    for test, data in tests.items():
        for name, classify in contenders.items():
            found = sentiment_report(data.labels, classify(data.texts))
            measured.setdefault(test, {})[name] = {metric: found[metric] for metric in METRICS}
            values = (f"{found[metric]:.4f}" for metric in METRICS)
            rows.append((test, name, f"{len(data.texts):,}", *values))
    report.table("Quality", ("texts", "", "number", "macro recall", "macro F1", "accuracy"), rows)
    return measured


def speed(report: Report, options: argparse.Namespace, bundle: Bundle, texts: list[str]) -> dict[str, float]:
    """Texts per second in one call, and milliseconds of one text."""
    one = texts[:SINGLE]
    spent = rounds(
        {
            "all": lambda: np.array(seconds(lambda: bundle.sentiment(texts))),
            "one": lambda: seconds_each(lambda text: bundle.sentiment([text]), one),
        },
        options.repetitions,
    )
    rates = len(texts) / np.array(spent["all"])
    latencies = np.concatenate(spent["one"]) * 1000
    report.table(
        "Speed",
        ("texts", "texts/s, all at once", "min–max", "one text: median ms", "p95 ms"),
        [
            (
                f"{len(texts):,}",
                f"{median(rates):,.0f}",
                spread(rates),
                f"{median(latencies):.2f}",
                f"{percentile(latencies, 95):.2f}",
            )
        ],
    )
    return {
        "texts_per_second": median(rates),
        "one_text_median_ms": median(latencies),
        "one_text_p95_ms": percentile(latencies, 95),
    }


if __name__ == "__main__":
    run(main)
