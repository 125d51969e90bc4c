"""What is the shipped bilingual bundle worth in Chinese and in English, beside simple things and the English original?

Matching: pairs that the bundle's own split held out, drawn again from its recipe, and whole sets that nothing was
trained on, without the pairs of which a text occurs in any file of the recipe. Held-out pairs of a translated set are
left out: their texts were taught through the translations. The scorer's threshold and calibration were fitted to the
held-out pairs; none of the metrics depends on them. CrowdFlower's last row has all its pairs, on which the scorer was
trained: there cosine alone counts.

Contenders: the cosine of TF-IDF vectors (characters and neighbouring two of them in Chinese, words in English), fitted
to the texts of the training pairs of the language; a BiLSTM over characters as wide as the towers, trained from nothing
on the Chinese training pairs with the towers' lessons of labels (contrast and order) and without their teacher; the
fp32 original, which knows no Chinese; the bundle's cosine, the cosine of the first 128 numbers alone, and its scorer.

Decisions: the thresholds that are best on one half of the queries decide the pairs of the other half, both ways; grades
of relevance are told apart by two of them.

Languages together: sentences of news and their translations, which nothing was trained on. How often is the
translation of a sentence the nearest of all?

Sentiment: the texts that the head's training held out, and whole sets that nothing was trained on, without the texts
that occur in a file of the recipe. The rival is a logistic regression on the bundle's vectors, as in sentiment.py, of
a sample of the training texts. Where a set has no neutral texts, the last column asks only which of positive and
negative is the likelier; accuracy counts an answer of neutral as wrong.

The BiLSTM takes minutes to train and is kept in the folder given with --work. There is no timing here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.character_lstm import PAIRS, made_bilstm
from benchmarks.common import ROOT, Report, data_file, data_folder, opened, option_parser, parse, run
from benchmarks.contenders import (
    CONTENDERS,
    COSINE,
    ORIGINAL,
    SCORE,
    SHORT,
    Rivals,
    Scores,
    Vectors,
    bundle_scores,
    fitted_bags,
    shortened,
)
from benchmarks.decisions import crosswise, first_half, grade_cuts, match_cut
from benchmarks.held_out import add_recipe_option, held_out_pairs, split_sentiment
from benchmarks.original import Original
from benchmarks.sentiment_sets import QUICK, sentiment
from towers import Bundle, metrics
from towers.bundle import LAYOUT
from towers.evaluate import K, default_positive_from
from towers.labelled import Pairs, read_pairs
from towers.tables import read_rows
from towers.train.bilingual.labelled import labelled_lessons, shared_out
from towers.train.bilingual.material import is_chinese, read_texts_of, read_triples
from towers.train.bilingual.recipe import BilingualRecipe
from towers.train.data import PairSet, read_pair_set, split_pairs, text_key
from towers.train.sources import BundleRecipe, read_recipe

CROWDFLOWER = "match/en/crowdflower.jsonl.gz"
WHOLE_PAIRS = {
    "stsb_mt_dev, all": "match/zh/stsb_mt_dev.jsonl.gz",
    "stsb_dev of CSTS, all": "match/zh/stsb_dev.jsonl.gz",  # for academic use: measured on, never trained on
    "stsb_dev, all": "match/en/stsb_dev.jsonl.gz",
}
PARALLEL = "text/parallel/news_en_zh.jsonl.gz"
COLUMNS = ("query", "title", "negative", "text")  # of the recipe's files that hold texts
POSITIVE_FROM = {"qbqtc": 1.0}  # 1: somewhat relevant; elsewhere the upper half of the labels is positive
DECIDED = ("lcqmc_dev", "qqp_dev")
GRADED = "qbqtc"


def main() -> None:
    parser = option_parser(__doc__)
    add_recipe_option(parser)
    parser.add_argument("--bilstm-steps", type=int, default=2000, help=f"of {PAIRS} pairs each")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "bilingual-benchmark", help="folder of the BiLSTM"
    )
    options = parse(parser)
    if options.quick:
        options.bilstm_steps = min(options.bilstm_steps, 4)
    bundle, recipe = opened(options), read_recipe(options.recipe)
    held_out = held_out_pairs(bundle, options)
    texts = split_sentiment(bundle, options)
    known = known_texts(recipe, options)
    training = training_pairs(bundle, recipe, options)
    lessons = labelled_lessons(training, unseen_triples(recipe, held_out, options))
    lessons = shared_out(lessons, settings_of(bundle).shares)
    original = Original(bundle)
    report = Report("bilingual", __doc__, options, bundle, bilstm_steps=options.bilstm_steps)
    bilstm = made_bilstm(lessons, options, width=bundle.dim, seed=settings_of(bundle).seed)
    rivals = Rivals(fitted_bags(training), bilstm, original)
    tests = tests_of(held_out, recipe, known, options)
    scored = [(test, rivals.scores(test.pairs) | bundle_scores(bundle, test.pairs)) for test in tests]
    report.finish(
        {
            "matching": matching(report, scored),
            "decisions": decisions(report, scored),
            "languages_together": languages_together(report, options, bundle, original),
            "sentiment": sentiment(report, options, bundle, texts, known),
            "bytes": size(report, bundle),
        }
    )


def cut(pairs: Pairs, options: argparse.Namespace) -> Pairs:
    """A few pairs when only trying."""
    most = QUICK if options.quick else None
    return Pairs(pairs.queries[:most], pairs.titles[:most], pairs.labels[:most])


def rows_of(pairs: Pairs, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Pairs:
    """Some of the pairs."""
    return Pairs([pairs.queries[i] for i in rows], [pairs.titles[i] for i in rows], pairs.labels[rows])


# What was trained on.


def settings_of(bundle: Bundle) -> BilingualRecipe:
    """How the towers learned Chinese; the defaults where they did not."""
    return BilingualRecipe(**bundle.manifest.recipe.get("bilingual", {}))


def known_texts(recipe: BundleRecipe, options: argparse.Namespace) -> set[str]:
    """The keys of all texts in the recipe's files; none when only trying, as that takes a while."""
    if options.quick:
        return set()
    return set(map(text_key, read_texts_of(recipe.sources, data_folder(options), columns=COLUMNS)))


def training_pairs(bundle: Bundle, recipe: BundleRecipe, options: argparse.Namespace) -> list[PairSet]:
    """The training side of each set, as the bundle's split draws it; `held_out_pairs` has checked the split."""
    sets = [read_pair_set(data_file(options, source.file), licence=source.licence) for source in recipe.pairs]
    settings = bundle.manifest.recipe["fit"]
    splits = split_pairs(sets, dev_share=settings["dev_share"], seed=settings["seed"])
    training = [pairs.take(split.train) for pairs, split in zip(sets, splits, strict=True)]
    return [pairs.take(np.arange(len(pairs)) < QUICK) for pairs in training] if options.quick else training


def unseen_triples(
    recipe: BundleRecipe, held_out: Mapping[str, Pairs], options: argparse.Namespace
) -> list[tuple[str, ...]]:
    """The recipe's triples without those that have a text of a held-out pair."""
    keys = {text_key(text) for pairs in held_out.values() for text in (*pairs.queries, *pairs.titles)}
    triples = read_triples(recipe.triples, data_folder(options))[: QUICK if options.quick else None]
    return [triple for triple in triples if not keys & set(map(text_key, triple))]


# What is measured on.


@dataclass(frozen=True)
class Test:
    """Pairs to measure contenders on.

    Attributes:
        name: Of the set.
        pairs: Of one language.
        metrics: Some of "auc", "spearman" and "ndcg@10".
        unseen: Whether the scorer was not trained on them.
    """

    name: str
    pairs: Pairs
    metrics: tuple[str, ...]
    unseen: bool = True

    @property
    def chinese(self) -> bool:
        """Whether the pairs are Chinese."""
        return is_chinese(self.pairs.queries[:200])

    @property
    def positive_from(self) -> float:
        """The label from which a pair counts as a match."""
        return POSITIVE_FROM.get(self.name, default_positive_from(self.pairs.labels))

    def value(self, metric: str, scores: Scores) -> float:
        """A metric of scores (n,)."""
        labels = self.pairs.labels
        if metric == "spearman":
            return metrics.spearman(labels, scores)
        if metric == "auc":
            return metrics.auc(labels >= self.positive_from, scores)
        return metrics.ndcg(np.array(self.pairs.queries), labels - labels.min(), scores, K)


def tests_of(
    held_out: Mapping[str, Pairs], recipe: BundleRecipe, known: set[str], options: argparse.Namespace
) -> list[Test]:
    """Held-out pairs, whole sets, and all of CrowdFlower."""
    taught = {source.name for source in recipe.translated}
    tests = [
        Test(name, cut(pairs, options), ("auc", "ndcg@10") if name == "crowdflower" else ("auc",))
        for name, pairs in held_out.items()
        if name not in taught
    ]
    for name, file in WHOLE_PAIRS.items():
        pairs = without_known(read_pairs(data_file(options, file)), known)
        tests.append(Test(name, cut(pairs, options), ("spearman",)))
    every = cut(read_pairs(data_file(options, CROWDFLOWER)), options)
    return [*tests, Test("crowdflower, all", every, ("ndcg@10",), unseen=False)]


def without_known(pairs: Pairs, known: set[str]) -> Pairs:
    """The pairs of which neither text is known."""
    sides = zip(pairs.queries, pairs.titles, strict=True)
    rows = [i for i, texts in enumerate(sides) if not known & set(map(text_key, texts))]
    return rows_of(pairs, rows)


# Tables of pairs.


def matching(report: Report, scored: Sequence[tuple[Test, Mapping[str, Scores]]]) -> dict[str, Any]:
    """AUC, Spearman and nDCG@10 of all contenders, a table for each language."""
    measured: dict[str, Any] = {}
    rows: dict[bool, list[tuple[str, ...]]] = {True: [], False: []}
    for test, scores in scored:
        shown = {name: x for name, x in scores.items() if test.unseen or name != SCORE}
        for metric in test.metrics:
            values = {name: test.value(metric, x) for name, x in shown.items()}
            facts = {"chinese": test.chinese, "pairs": len(test.pairs.labels)}
            measured.setdefault(test.name, facts)[metric] = values
            count = f"{len(test.pairs.labels):,}"
            rows[test.chinese].append((f"{test.name}, {NAMES[metric]}", count, *cells(values)))
    for language, title in ((True, "Matching in Chinese"), (False, "Matching in English")):
        if rows[language]:
            report.table(title, ("", "pairs", *CONTENDERS), rows[language])
    return measured


NAMES = {"auc": "AUC", "spearman": "Spearman", "ndcg@10": "nDCG@10"}


def cells(values: Mapping[str, float]) -> list[str]:
    """A cell for each contender, empty where there is no value."""
    return [f"{values[name]:.4f}" if name in values else "" for name in CONTENDERS]


def decisions(report: Report, scored: Sequence[tuple[Test, Mapping[str, Scores]]]) -> dict[str, Any]:
    """Accuracy of match or none, and macro-F1 of grades, with thresholds from the other half of the queries."""
    measured: dict[str, Any] = {}
    rows = []
    for test, scores in scored:
        if test.name not in (*DECIDED, GRADED):
            continue
        metric, values = decided(test, scores)
        measured[test.name] = {"pairs": len(test.pairs.labels), metric: values}
        count = f"{len(test.pairs.labels):,}"
        rows.append((f"{test.name}, {metric.replace('_', ' ')}", count, *cells(values)))
    if rows:
        report.table("Decisions, on held-out pairs", ("", "pairs", *CONTENDERS), rows)
    return measured


def decided(test: Test, scores: Mapping[str, Scores]) -> tuple[str, dict[str, float]]:
    """The name of the metric of a test's decisions, and its value for each contender."""
    half = first_half(test.pairs.queries)
    if test.name == GRADED:
        grades = np.rint(test.pairs.labels).astype(np.int64)  # repeated pairs have the mean of their labels
        found = {name: crosswise(grades, x, half, grade_cuts) for name, x in scores.items()}
        return "macro_F1", {name: metrics.macro_f1(grades, x) for name, x in found.items()}
    match = (test.pairs.labels >= test.positive_from).astype(np.int64)
    found = {name: crosswise(match, x, half, match_cut) for name, x in scores.items()}
    return "accuracy", {name: metrics.accuracy(match, x) for name, x in found.items()}


# Languages together.


def languages_together(
    report: Report, options: argparse.Namespace, bundle: Bundle, original: Original
) -> dict[str, Any]:
    """How often a translation is the nearest of all, both ways."""
    lines = [row for _, row in read_rows(data_file(options, PARALLEL))][: QUICK if options.quick else None]
    english, chinese = [str(row["en"]) for row in lines], [str(row["zh"]) for row in lines]
    ours = bundle.encode_titles(english), bundle.encode_titles(chinese)
    vectors = {
        ORIGINAL: (original.encode(english), original.encode(chinese)),
        COSINE: ours,
        SHORT: (shortened(ours[0]), shortened(ours[1])),
    }
    measured = {
        name: {"en_to_zh": nearest_is_own(en, zh), "zh_to_en": nearest_is_own(zh, en)}
        for name, (en, zh) in vectors.items()
    }
    report.table(
        f"The translation is the nearest of {len(lines)} sentences",
        ("", "English to Chinese", "Chinese to English"),
        [(name, *(f"{share:.1%}" for share in shares.values())) for name, shares in measured.items()],
    )
    return {"sentences": len(lines), **measured}


def nearest_is_own(queries: Vectors, titles: Vectors) -> float:
    """The share of n queries (n, dim) whose nearest of n titles (n, dim) is the one of the same row."""
    return float(((queries @ titles.T).argmax(axis=1) == np.arange(len(queries))).mean())


# Size.


def size(report: Report, bundle: Bundle) -> dict[str, int]:
    """The bytes of each file of the bundle."""
    names = sorted([*bundle.manifest.files, LAYOUT.manifest])
    found = {name: (bundle.path / name).stat().st_size for name in names}
    found["together"] = sum(found.values())
    report.table("Size", ("", "bytes"), [(name, f"{count:,}") for name, count in found.items()])
    return found


if __name__ == "__main__":
    run(main)
