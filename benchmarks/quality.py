"""What does int8 lose against the fp32 original, and what does the scorer gain over cosine?

The first table has all rows of three sets, and cosine alone: sentence-transformers in fp32 against the
bundle, whose towers are frozen as shipped: nothing was trained on these rows. Wanted: within 1.5% of the
original on CrowdFlower's nDCG@10 and on STS-B's Spearman.

The second table has only English pairs whose queries and titles the scorer was not trained on: the dev side of the
bundle's own split, drawn again from its recipe. The threshold and the calibration were fitted to these pairs;
AUC and nDCG@10 do not depend on them. Calibrated cosine has the same order as cosine. The 95% interval is of
the gain, over samples of the queries. Wanted: 1.5 points of AUC more than cosine on QQP, and more nDCG@10 on
CrowdFlower.

Both use the code of `dualtower evaluate match`. There is no timing here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Report, data_file, opened, option_parser, parse, run
from benchmarks.held_out import add_recipe_option, held_out_pairs
from benchmarks.original import Original
from towers import Bundle
from towers.evaluate import evaluate_match, match_report, score_pairs
from towers.labelled import Pairs, read_pairs

SETS = {
    "crowdflower": ("match/en/crowdflower.jsonl.gz", "ndcg@10"),
    "stsb_dev": ("match/en/stsb_dev.jsonl.gz", "spearman"),
    "qqp_dev": ("match/en/qqp_dev.jsonl.gz", "auc"),
}
NAMES = {"ndcg@10": "nDCG@10", "spearman": "Spearman", "auc": "AUC"}
QUICK = 120  # pairs of each set
SAMPLES = 300  # enough for the ends of an interval to a tenth of its width

Scored = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def main() -> None:
    parser = option_parser(__doc__)
    add_recipe_option(parser)
    options = parse(parser)
    bundle = opened(options)
    held_out = {name: pairs for name, pairs in held_out_pairs(bundle, options).items() if name in SETS}
    frozen = bundle.manifest.recipe["fit"]["freeze_towers"]
    report = Report("quality", __doc__, options, bundle, scorer=bundle.manifest.scorer, frozen_towers=frozen)
    original = Original(bundle)
    report.finish(
        {
            "all_rows": int8_against_fp32(report, options, original, bundle),
            "held_out": scorer_against_cosine(report, options, original, bundle, held_out),
        }
    )


def int8_against_fp32(
    report: Report, options: argparse.Namespace, original: Original, bundle: Bundle
) -> dict[str, Any]:
    """Cosine of both on all rows."""
    rows, measured = [], {}
    for name, (file, metric) in SETS.items():
        pairs = cut(read_pairs(data_file(options, file)), options)
        theirs, ours = (evaluate_match(model, pairs)["cosine"][metric] for model in (original, bundle))
        change = ours / theirs - 1
        measured[name] = {"metric": metric, "fp32": theirs, "bundle": ours, "relative_difference": change}
        rows.append(
            (
                f"{name}, {NAMES[metric]}",
                f"{len(pairs.labels):,}",
                f"{theirs:.4f}",
                f"{ours:.4f}",
                f"{change:+.2%}",
            )
        )
    columns = ("", "pairs", "fp32 original", "bundle", "difference, relative")
    report.table("Cosine of the bundle against the fp32 original, on all rows", columns, rows)
    return measured


def scorer_against_cosine(
    report: Report,
    options: argparse.Namespace,
    original: Original,
    bundle: Bundle,
    held_out: Mapping[str, Pairs],
) -> dict[str, Any]:
    """Scorer and cosine on the pairs that nothing was trained on."""
    rows, measured = [], {}
    for name, every in held_out.items():
        pairs = cut(every, options)
        scored = score_pairs(bundle, pairs)
        found = match_report(pairs.labels, *scored, bundle.threshold)
        fp32 = evaluate_match(original, pairs)["cosine"]
        measured[name] = {"pairs": found["pairs"], "queries": found["queries"]}
        for metric in telling(found):
            cosine, score = found["cosine"][metric], found["score"][metric]
            between = gain_interval(pairs, scored, metric, positive_from=found["positive_from"])
            measured[name][metric] = {"fp32_cosine": fp32[metric], "cosine": cosine, "score": score}
            measured[name][metric]["gain_interval"] = between
            counts = (f"{found['pairs']:,}", f"{found['queries']:,}")
            values = (
                f"{fp32[metric]:.4f}",
                f"{cosine:.4f}",
                f"{score:.4f}",
                f"{100 * (score - cosine):+.2f}",
            )
            rows.append((f"{name}, {NAMES[metric]}", *counts, *values, "{:+.2f} to {:+.2f}".format(*between)))
    report.table("The scorer against cosine, on held-out pairs", COLUMNS, rows)
    return measured


COLUMNS = ("", "pairs", "queries", "fp32 cosine", "cosine", "score", "gain, points", "95%")


def telling(found: Mapping[str, Any]) -> list[str]:
    """The metrics that say something about a set: classes and, where queries have several titles, ranking."""
    return ["auc", "ndcg@10"] if found["pairs"] >= 2 * found["queries"] else ["auc"]


def gain_interval(pairs: Pairs, scored: Scored, metric: str, *, positive_from: float) -> list[float]:
    """Between which points the scorer's gain lies in 95% of samples of the queries, drawn with repeats."""
    scores, cosines, groups = scored
    rng = np.random.default_rng(0)
    rows_of = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    gains = []
    for _ in range(SAMPLES):
        chosen = [rows_of[i] for i in rng.integers(0, len(rows_of), len(rows_of))]
        rows = np.concatenate(chosen)
        drawn = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
        found = match_report(
            pairs.labels[rows], scores[rows], cosines[rows], drawn, 0.5, positive_from=positive_from
        )
        gains.append(100 * (found["score"][metric] - found["cosine"][metric]))
    return [float(value) for value in np.nanpercentile(gains, (2.5, 97.5))]


def cut(pairs: Pairs, options: argparse.Namespace) -> Pairs:
    """A few pairs when only trying."""
    most = QUICK if options.quick else None
    return Pairs(pairs.queries[:most], pairs.titles[:most], pairs.labels[:most])


if __name__ == "__main__":
    run(main)
