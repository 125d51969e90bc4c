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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.character_lstm import PAIRS, CharacterTower, made_bilstm
from benchmarks.common import ROOT, Report, data_file, data_folder, opened, option_parser, parse, run, sample
from benchmarks.held_out import add_recipe_option, held_out_pairs, split_sentiment
from benchmarks.original import Original
from towers import Bundle, metrics
from towers.bundle import LAYOUT
from towers.evaluate import K, default_positive_from
from towers.labelled import Pairs, Texts, read_pairs, read_texts
from towers.sentiment import LABELS
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
WHOLE_TEXTS = {
    "sst2_dev": "sentiment/en/sst2_dev.jsonl.gz",
    "sst5_dev": "sentiment/en/sst5_dev.jsonl.gz",
    "smp2020_dev": "sentiment/zh/smp2020_dev.jsonl.gz",
    "douban_book_dev": "sentiment/zh/douban_book_dev.jsonl.gz",
}
PARALLEL = "text/parallel/news_en_zh.jsonl.gz"
COLUMNS = ("query", "title", "negative", "text")  # of the recipe's files that hold texts
POSITIVE_FROM = {"qbqtc": 1.0}  # 1: somewhat relevant; elsewhere the upper half of the labels is positive
DECIDED = ("lcqmc_dev", "qqp_dev")
GRADED = "qbqtc"
BAG, BILSTM, ORIGINAL = "bag", "BiLSTM", "fp32 original"
COSINE, SHORT, SCORE = "cosine", "cosine of 128", "score"
CONTENDERS = (BAG, BILSTM, ORIGINAL, COSINE, SHORT, SCORE)
SHORT_DIM = 128  # short_dim of the recipe
REGRESSION_TEXTS = 20_000
MOST_TEXTS = 2000  # of a whole set of texts
QUICK = 60  # rows of each set

Scores = NDArray[np.float64]
Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]


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


# Contenders.


@dataclass(frozen=True)
class Rivals:
    """What the bundle is compared with.

    Attributes:
        bags: TF-IDF for Chinese (True) and for other pairs (False), where there were any to fit it to.
        bilstm: Knows Chinese; None where there was nothing to learn.
        original: The fp32 original.
    """

    bags: Mapping[bool, TfidfVectorizer]
    bilstm: CharacterTower | None
    original: Original

    def scores(self, pairs: Pairs) -> dict[str, Scores]:
        """The scores (n,) of each rival that knows the pairs' language, by its name."""
        chinese = is_chinese(pairs.queries[:200])
        found: dict[str, Scores] = {}
        if chinese in self.bags:
            found[BAG] = bag_cosines(self.bags[chinese], pairs)
        if chinese and self.bilstm is not None:
            found[BILSTM] = cosines(*pair_vectors(pairs, self.bilstm.encode, self.bilstm.encode))
        return found | {ORIGINAL: cosines(*pair_vectors(pairs, self.original.encode, self.original.encode))}


def fitted_bags(training: Sequence[PairSet]) -> dict[bool, TfidfVectorizer]:
    """TF-IDF of characters and neighbouring two of them in Chinese, of words elsewhere, for languages that occur."""
    texts: dict[bool, list[str]] = {}
    for pairs in training:
        texts.setdefault(is_chinese(pairs.queries[:200]), []).extend([*pairs.queries, *pairs.titles])
    bags = {True: TfidfVectorizer(analyzer="char", ngram_range=(1, 2)), False: TfidfVectorizer()}
    return {chinese: bags[chinese].fit(of_language) for chinese, of_language in texts.items()}


def bag_cosines(bag: TfidfVectorizer, pairs: Pairs) -> Scores:
    """Cosines (n,) of TF-IDF vectors; 0 where a text has nothing that the bag knows."""
    queries, titles = bag.transform(pairs.queries), bag.transform(pairs.titles)
    return np.asarray(queries.multiply(titles).sum(axis=1), np.float64).ravel()


def bundle_scores(bundle: Bundle, pairs: Pairs) -> dict[str, Scores]:
    """Cosines, cosines of shortened vectors and the scorer's probabilities, each (n,)."""
    queries, titles = pair_vectors(pairs, bundle.encode_queries, bundle.encode_titles)
    scores = np.empty(len(queries))
    groups = np.unique(np.array(pairs.queries), return_inverse=True)[1]
    by_query = np.argsort(groups, kind="stable")
    for rows in np.split(by_query, np.flatnonzero(np.diff(groups[by_query])) + 1):
        scores[rows] = bundle.score(queries[rows[0]], titles[rows])
    return {
        COSINE: cosines(queries, titles),
        SHORT: cosines(shortened(queries), shortened(titles)),
        SCORE: scores,
    }


def pair_vectors(pairs: Pairs, of_queries: Encode, of_titles: Encode) -> tuple[Vectors, Vectors]:
    """The vectors (n, dim) of the queries and of the titles; each different text is encoded once."""
    sides = []
    for texts, encode in ((pairs.queries, of_queries), (pairs.titles, of_titles)):
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        sides.append(encode(list(places))[[places[text] for text in texts]])
    return sides[0], sides[1]


def shortened(vectors: Vectors) -> Vectors:
    """The first 128 numbers of vectors (n, dim), of length 1 again."""
    short = vectors[:, :SHORT_DIM]
    return np.asarray(short / np.linalg.norm(short, axis=1, keepdims=True), np.float32)


def cosines(queries: Vectors, titles: Vectors) -> Scores:
    """The inner products (n,) of two times n vectors, row by row."""
    return np.einsum("ij,ij->i", queries, titles).astype(np.float64)


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


def first_half(queries: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) whether a pair's query is in the first half of the different queries, drawn at random, always the same."""
    groups = np.unique(np.array(queries), return_inverse=True)[1]
    count = int(groups.max()) + 1
    return np.asarray(np.random.default_rng(0).permutation(count)[groups] < (count + 1) // 2)


def crosswise(
    labels: NDArray[np.int64],
    scores: Scores,
    half: NDArray[np.bool_],
    choose: Callable[[NDArray[np.int64], Scores], Sequence[float]],
) -> NDArray[np.int64]:
    """Labels 0, 1, … (n,) that scores give: how many thresholds they reach, each half with those of the other."""
    found = np.empty(len(labels), np.int64)
    for chosen_on, used_on in ((half, ~half), (~half, half)):
        found[used_on] = np.digitize(scores[used_on], choose(labels[chosen_on], scores[chosen_on]))
    return found


def match_cut(labels: NDArray[np.int64], scores: Scores) -> list[float]:
    """The threshold of the highest accuracy."""
    return [metrics.best_threshold(labels, scores)[0]]


def grade_cuts(grades: NDArray[np.int64], scores: Scores, *, most: int = 200) -> list[float]:
    """The two thresholds of the highest macro-F1 of the grades 0, 1 and 2, of some 200 quantiles of the scores."""
    cuts = np.unique(np.quantile(scores, np.linspace(0, 1, most + 1)))
    below = np.stack([np.searchsorted(np.sort(scores[grades == grade]), cuts) for grade in range(3)])
    sizes = np.bincount(grades, minlength=3)
    low, high = np.triu_indices(len(cuts))
    hits = np.stack([below[0, low], below[1, high] - below[1, low], sizes[2] - below[2, high]])
    all_below = below.sum(axis=0)
    given = np.stack([all_below[low], all_below[high] - all_below[low], sizes.sum() - all_below[high]])
    f1 = (2 * hits / np.maximum(sizes[:, None] + given, 1)).mean(axis=0)
    best = int(f1.argmax())
    return [float(cuts[low[best]]), float(cuts[high[best]])]


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


# Sentiment.


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
