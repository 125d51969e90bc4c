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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import ROOT, Report, median, opened, option_parser, parse, run, seconds, times
from benchmarks.exit_heads import EXITS, FULL, FULL_DYNAMIC, make_heads, read
from towers import Bundle
from towers.bundle import LAYOUT
from towers.exits import RULES, ExitingHead, ExitPlan
from towers.graph import Graph
from towers.labelled import Texts
from towers.sentiment import LABELS
from towers.tokens import TokenReader
from towers.train.early_exit.exits import ExitRecipe

BATCH = 32

Probabilities = NDArray[np.float32]
Classify = Callable[[Sequence[str]], Probabilities]


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
    report.finish(measure(report, options, heads, plans, data.tests))


def measure(
    report: Report,
    options: argparse.Namespace,
    bundles: Mapping[str, Bundle],
    plans: Mapping[str, ExitPlan],
    tests: Mapping[str, Texts],
) -> dict[str, Any]:
    """Quality and time of all contenders on each test."""
    heads = {rule: _exit_head(bundles[EXITS], plan) for rule, plan in plans.items()}
    whole = {name: bundle.sentiment for name, bundle in bundles.items() if name != EXITS}
    contenders: dict[str, Classify] = {
        **whole,
        **{f"exits, {rule}": head.probabilities for rule, head in heads.items()},
    }
    measured: dict[str, Any] = {}
    for test, texts in tests.items():
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
