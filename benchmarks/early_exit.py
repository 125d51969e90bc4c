"""How much faster is a sentiment head whose texts may leave early, what does it cost, and is cutting layers as good?

One classifier is trained on tweets and film reviews, then given exits and trained on; beside it the same classifier is
cut to its first layers and trained on for as many steps, at the whole depths around the exits' mean depth. All are
int8. Thresholds are tuned on dev texts; what the tables show is measured on texts that nothing was trained or tuned on.

Timed are calls with 32 texts each, in the order of the files, as a service gets them: the contenders in turn, batch by
batch. Packed answers are held against those that each text gets alone. Wanted: at least 1.6 times as fast as the full
classifier at no more than 0.5 points of accuracy lost, and more accurate than the cut one of the same mean depth.

Training takes about an hour on 2 cores with `--bf16`; it goes on where it was when it was interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import (
    ROOT,
    Report,
    data_file,
    median,
    opened,
    option_parser,
    parse,
    run,
    seconds,
    times,
)
from towers import Bundle
from towers.bundle import LAYOUT
from towers.exits import RULES, ExitingHead, ExitPlan
from towers.graph import Graph
from towers.labelled import Texts, read_texts
from towers.sentiment import LABELS
from towers.tokens import TokenReader
from towers.train.assemble import with_sentiment
from towers.train.base import load_classifier
from towers.train.cut import cut
from towers.train.exits import ExitRecipe, fit_exits
from towers.train.export import Precision
from towers.train.export_exits import with_exits, without_head
from towers.train.sentiment import (
    SentimentRecipe,
    SentimentResult,
    fit_sentiment,
    join_texts,
    split_texts,
)
from towers.train.sources import unescape
from towers.train.write import Parts, read_parts, write_bundle

TWEETS = "sentiment/en/semeval2013_16.jsonl.gz"
REVIEWS = "sentiment/en/sst5_train.jsonl.gz"
REVIEWS_TEST = "sentiment/en/sst5_dev.jsonl.gz"
BATCH = 32
HELD_OUT = 4000  # tweets for the test, and texts for thresholds: a point of accuracy is then 40 texts
FULL, FULL_DYNAMIC = "full", "full, scales from each batch"

Probabilities = NDArray[np.float32]
Classify = Callable[[Sequence[str]], Probabilities]


@dataclass(frozen=True)
class Data:
    """What is trained, tuned and tested on; no text is on two sides."""

    train: Texts
    dev: Texts
    tests: Mapping[str, Texts]


def main() -> None:
    parser = option_parser(__doc__, repetitions=5)
    parser.add_argument("--steps", type=int, default=1500, help="of each of the trainings")
    parser.add_argument("--batch-size", type=int, default=32, help="texts per step")
    parser.add_argument(
        "--max-loss", type=float, default=ExitRecipe.max_loss, help="accuracy to give up on dev"
    )
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16 in training")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "early_exit", help="folder of the trainings"
    )
    options = parse(parser)
    if options.quick:
        options.steps, options.batch_size = min(options.steps, 4), min(options.batch_size, 8)
    data = read(options)
    base = opened(options)
    heads, plans = make_heads(options, base, data)
    report = Report(
        "early_exit", __doc__, options, base, steps=options.steps, max_loss=options.max_loss, batch=BATCH
    )
    report.finish(measure(report, options, heads, plans, data))


# Data and models.


def read(options: argparse.Namespace) -> Data:
    """Tweets and reviews; the tests are tweets that were held out and SST-5's dev texts."""
    tweets = _decoded(read_texts(data_file(options, TWEETS)))
    reviews = read_texts(data_file(options, REVIEWS))
    most = 60 if options.quick else HELD_OUT
    others, test = split_texts(tweets, share=0.1, seed=1, most=most)
    train, dev = split_texts(join_texts([reviews, others]), share=0.08, seed=2, most=most)
    last = read_texts(data_file(options, REVIEWS_TEST))
    if options.quick:
        train, last = _first(train, 200), _first(last, 60)
    return Data(train, dev, {"tweets, held out": test, "SST-5 dev": last})


def make_heads(
    options: argparse.Namespace, base: Bundle, data: Data
) -> tuple[dict[str, Bundle], dict[str, ExitPlan]]:
    """Train and export all contenders: bundles by name, and the tuned plan of each exit rule."""
    towers, work = without_head(read_parts(base.path)), options.work
    full = _trained(options, data, checkpoint=None, work=work / "full")
    start = _saved(full.model, full.tokenizer, work / "full-checkpoint")
    exiting = _with_exits(options, towers, start, data)
    plans = _plans(exiting)
    heads = {"exits": exiting}
    for name, kind in ((FULL, "int8-static"), (FULL_DYNAMIC, "int8")):
        heads[name] = _exported(work / f"bundle-{kind}", towers, full, data, kind)
    depth = exiting.manifest.metrics["sentiment"]["exits"]["chosen"]["mean_layers"]
    for layers in sorted({int(np.floor(depth)), int(np.ceil(depth))}):
        cut_to = _cut(start, layers, work / f"cut-{layers}-checkpoint")
        result = _trained(options, data, checkpoint=cut_to, work=work / f"cut-{layers}")
        heads[cut_name(layers)] = _exported(
            work / f"bundle-cut-{layers}", towers, result, data, "int8-static"
        )
    return heads, plans


def cut_name(layers: int) -> str:
    """How tables call a classifier cut to its first layers."""
    return f"cut to {layers}"


def _with_exits(options: argparse.Namespace, towers: Parts, start: Path, data: Data) -> Bundle:
    model, tokenizer = load_classifier(start)
    recipe = ExitRecipe(
        steps=options.steps, batch_size=options.batch_size, max_loss=options.max_loss, bf16=options.bf16
    )
    result = fit_exits(
        model, tokenizer, data.train, data.dev, recipe=recipe, work=options.work / "exits", resume=True
    )
    parts = with_exits(towers, result, dev=data.dev, data=[], precision=Precision())
    return write_bundle(options.work / "bundle-exits", parts, replace=True)


def _trained(
    options: argparse.Namespace, data: Data, *, checkpoint: Path | None, work: Path
) -> SentimentResult:
    recipe = SentimentRecipe(
        steps=options.steps, batch_size=options.batch_size, freeze_layers=0, bf16=options.bf16
    )
    return fit_sentiment(data.train, checkpoint=checkpoint, recipe=recipe, work=work, resume=True)


def _cut(start: Path, layers: int, folder: Path) -> Path:
    model, tokenizer = load_classifier(start)
    cut(model, tuple(range(layers)))
    return _saved(model, tokenizer, folder)


def _saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _exported(out: Path, towers: Parts, result: SentimentResult, data: Data, kind: str) -> Bundle:
    precision = Precision(matmul=kind)
    return write_bundle(
        out, with_sentiment(towers, result, dev=data.dev, data=[], precision=precision), replace=True
    )


def _plans(bundle: Bundle) -> dict[str, ExitPlan]:
    rules = bundle.manifest.metrics["sentiment"]["exits"]["rules"]
    return {rule: ExitPlan(rule, rules[rule]["threshold"], bundle.exit_layers) for rule in RULES}


def _decoded(texts: Texts) -> Texts:
    return Texts([unescape(text) for text in texts.texts], texts.labels)


def _first(texts: Texts, most: int) -> Texts:
    return Texts(texts.texts[:most], texts.labels[:most])


# Measuring.


def measure(
    report: Report,
    options: argparse.Namespace,
    bundles: Mapping[str, Bundle],
    plans: Mapping[str, ExitPlan],
    data: Data,
) -> dict[str, Any]:
    """Quality and time of all contenders on each test."""
    heads = {rule: _exit_head(bundles["exits"], plan) for rule, plan in plans.items()}
    whole = {name: bundle.sentiment for name, bundle in bundles.items() if name != "exits"}
    contenders: dict[str, Classify] = {
        **whole,
        **{f"exits, {rule}": head.probabilities for rule, head in heads.items()},
    }
    measured: dict[str, Any] = {}
    for test, texts in data.tests.items():
        found = quality(contenders, heads, texts)
        add_times(found, timed(contenders, texts.texts, options.repetitions))
        measured[test] = found | {"cut at the same depth": at_same_depth(found)}
        show(report, test, texts, found)
    return measured


def _exit_head(bundle: Bundle, plan: ExitPlan) -> ExitingHead:
    tokens = TokenReader(bundle.path / LAYOUT.tokenizer, max_tokens=bundle.manifest.sentiment_max_tokens)
    stages = [Graph(bundle.path / LAYOUT.stage(number)) for number in range(len(plan.layers))]
    return ExitingHead(tokens, stages, plan)


def batches(texts: Sequence[str]) -> list[Sequence[str]]:
    """Calls of 32 texts."""
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def quality(
    contenders: Mapping[str, Classify], heads: Mapping[str, ExitingHead], texts: Texts
) -> dict[str, dict[str, Any]]:
    """Accuracy, what is lost against the full classifier, and how many labels are the same one by one."""
    labels = {name: _labels(classify, texts.texts) for name, classify in contenders.items()}
    right = {name: found == texts.labels for name, found in labels.items()}
    result: dict[str, dict[str, Any]] = {}
    for name, classify in contenders.items():
        alone = np.concatenate([_labels(classify, [text]) for text in texts.texts])
        lost = right[FULL].astype(float) - right[name]
        result[name] = {
            "accuracy": float(right[name].mean()),
            "lost": float(lost.mean()),
            "lost_95": _interval(lost),
            "same_alone": float((alone == labels[name]).mean()),
        }
    for rule, head in heads.items():
        layers = np.concatenate([head.with_exits(batch)[1] for batch in batches(texts.texts)])
        counts = {str(layer): int((layers == layer).sum()) for layer in head.plan.layers}
        facts = {"mean_layers": float(layers.mean()), "histogram": counts, "threshold": head.plan.threshold}
        result[f"exits, {rule}"] |= facts
    return result


def _labels(classify: Classify, texts: Sequence[str]) -> NDArray[np.int64]:
    answers = np.concatenate([classify(batch) for batch in batches(texts)])
    return np.asarray(np.take(LABELS, answers.argmax(axis=1)))


def _interval(differences: NDArray[np.float64]) -> list[float]:
    """The 95% interval of a mean difference over texts, by 2,000 resamplings."""
    rng = np.random.default_rng(0)
    means = [rng.choice(differences, len(differences)).mean() for _ in range(2000)]
    return [float(np.percentile(means, share)) for share in (2.5, 97.5)]


def timed(
    contenders: Mapping[str, Classify], texts: Sequence[str], repetitions: int
) -> dict[str, list[float]]:
    """Seconds of all batches in each round after one that does not count; contenders take turns at every batch."""
    spent: dict[str, list[float]] = {name: [0.0] * (repetitions + 1) for name in contenders}
    for number in range(repetitions + 1):
        for batch in batches(texts):
            for name, classify in contenders.items():
                spent[name][number] += seconds(partial(classify, batch))
    return {name: values[1:] for name, values in spent.items()}


def add_times(found: dict[str, dict[str, Any]], spent: Mapping[str, list[float]]) -> None:
    """Note how many times as fast as the full classifiers each contender is."""
    for name, values in spent.items():
        found[name]["seconds"] = median(values)
        for other in (FULL, FULL_DYNAMIC):
            ratio, interval = times(spent[other], values)
            found[name][f"times as fast as {other}"] = ratio
            found[name][f"times as fast as {other}, rounds"] = interval


def at_same_depth(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy and speed of cut classifiers at each rule's mean depth, in a line between the whole depths."""
    depths = {
        int(name.removeprefix("cut to ")): values
        for name, values in found.items()
        if name.startswith("cut to ")
    }
    known = sorted(depths)
    result = {}
    for rule in RULES:
        depth = found[f"exits, {rule}"]["mean_layers"]
        line = {
            key: float(np.interp(depth, known, [depths[k][key] for k in known]))
            for key in ("accuracy", "seconds")
        }
        result[rule] = {"mean_layers": depth, "inside": known[0] <= depth <= known[-1], **line}
    return result


def show(report: Report, test: str, texts: Texts, found: Mapping[str, Mapping[str, Any]]) -> None:
    """One table for a test."""
    rows = []
    for name, values in found.items():
        layers = f"{values['mean_layers']:.2f}" if "mean_layers" in values else ""
        low, high = values["lost_95"]
        rows.append(
            (
                name,
                layers,
                f"{values['accuracy']:.4f}",
                f"{100 * values['lost']:+.2f}",
                f"{100 * low:+.2f} to {100 * high:+.2f}",
                f"{values[f'times as fast as {FULL}']:.2f}",
                f"{values[f'times as fast as {FULL_DYNAMIC}']:.2f}",
                f"{100 * values['same_alone']:.2f}%",
            )
        )
    columns = (
        "",
        "mean layers",
        "accuracy",
        "points lost",
        "95%",
        "times as fast",
        "as scales from each batch",
        "labels as alone",
    )
    report.table(f"{test}, {len(texts.texts):,} texts", columns, rows)


if __name__ == "__main__":
    run(main)
