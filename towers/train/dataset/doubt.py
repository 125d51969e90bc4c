"""Labels that are likely wrong: confident learning on out-of-fold probabilities (Northcutt, Jiang and Chuang 2021).

A logistic regression is trained on vectors and simple lexical features, five times, and each row is judged by the one
that has seen none of its texts. cleanlab estimates from these probabilities how many labels of each class are wrong and
names the likeliest ones. With a weak model most of those are rows that the model cannot tell (measured: a tower of
English gives Chinese reviews 0.70 accuracy, and 13% of what cleanlab names is wrong), so a row must also be one whose
label is far less likely than another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.bundle import LAYOUT, Bundle
from towers.train.dataset.folds import Rows, text_folds

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Floats]

# n-grams beside vectors: C of 4 for them. They are what a tower of another language has (ChnSentiCorp 0.70 to 0.85).
_NGRAM_WEIGHT = 2.0
_MOST_NGRAMS = 50_000  # keeps a fit on 60,000 rows within memory; guess, untested
_STRENGTHS = (
    1.0,
    4.0,
    16.0,
)  # inverse penalties that are tried; ten times more or less was worse on six sets
_STEPS = 300  # of the solver; what has not converged by then ranks rows as well


@dataclass(frozen=True)
class Signals:
    """What texts are judged by.

    Attributes:
        encode: Texts -> vectors, float32 (n, dim).
        encode_queries: The same for queries; None where one tower serves both.
        score: Query vectors (n, dim), title vectors (n, dim) -> probabilities (n,) of a match; None without a scorer.
        sentiment: Texts -> probabilities (n, classes); None without a head.
    """

    encode: Encode
    encode_queries: Encode | None = None
    score: Callable[[Floats, Floats], Floats] | None = None
    sentiment: Encode | None = None


def bundle_signals(bundle: Bundle) -> Signals:
    """Return everything that a bundle can say of texts and pairs."""

    def score(queries: Floats, titles: Floats) -> Floats:
        return np.array(
            [bundle.score(a, b[None])[0] for a, b in zip(queries, titles, strict=True)], np.float32
        )

    # One query at a time, as the service encodes them, takes several times as long.
    shared = LAYOUT.encoder in bundle.manifest.files and not bundle.manifest.query_prefix
    return Signals(
        encode=bundle.encode_titles,
        encode_queries=None if shared else bundle.encode_queries,
        score=score,
        sentiment=bundle.sentiment if bundle.has_sentiment else None,
    )


@dataclass(frozen=True)
class Doubts:
    """What is known of n rows' labels.

    Attributes:
        probabilities: float64 (n, classes), out of fold; rows that could not be judged are nan.
        wrong: (n,) bool, the likely errors.
        notes: What a reader must know.
    """

    probabilities: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    notes: list[str]


def text_features(texts: Sequence[str], signals: Signals) -> Any:
    """Return a sparse float32 matrix (n, features): vectors, the sentiment head's logits, character n-grams."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    blocks = [_unit(_each_once(signals.encode, texts))]
    if signals.sentiment is not None:
        blocks.append(_unit(_logs(_each_once(signals.sentiment, texts))))
    grams = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(1, 4),
        min_df=min(2, len(texts)),
        sublinear_tf=True,
        max_features=_MOST_NGRAMS,
        dtype=np.float32,
    )
    return hstack([*map(csr_matrix, blocks), _NGRAM_WEIGHT * grams.fit_transform(texts)]).tocsr()


def pair_features(queries: Sequence[str], titles: Sequence[str], *, signals: Signals) -> Floats:
    """Return float32 (n, 3 x dim and a little): cosine, |u-v|, u*v, the scorer's logit, shared words and n-grams."""
    u = _each_once(signals.encode_queries or signals.encode, queries)
    v = _each_once(signals.encode, titles)
    cosine = (u * v).sum(axis=1, keepdims=True)
    blocks = [_unit(cosine), _unit(np.abs(u - v)), _unit(u * v), _shared(queries, titles)]
    if signals.score is not None:
        p = np.clip(signals.score(u, v).astype(np.float64), 1e-5, 1 - 1e-5)[:, None]
        blocks.append(_unit((np.log(p) - np.log1p(-p)).astype(np.float32)))
    return np.concatenate(blocks, axis=1).astype(np.float32)


def doubts(
    features: Any,
    texts: Sequence[tuple[str, ...]],
    classes: Rows,
    *,
    ratio: float,
    folds: int,
    seed: int,
) -> Doubts:
    """Find labels that are likely wrong.

    Args:
        features: (n, f), dense or sparse.
        texts: Keys of each row's texts, for the folds.
        classes: (n,) int64, the labels as numbers from 0.
        ratio: A label is doubted if it is at most this share as likely as the likeliest; 1 leaves it to cleanlab.
        folds: Models trained, each for its share of the rows.
        seed: Of the folds.
    """
    notes: list[str] = []
    probabilities = np.full((len(classes), int(classes.max()) + 1), np.nan)
    rows, known = _judged(classes, folds)
    if len(known) < 2:
        notes.append(f"likely label errors were not looked for: no two labels have {folds} rows each")
        return Doubts(probabilities, np.zeros(len(classes), bool), notes)
    if len(known) <= classes.max():
        notes.append(
            f"{len(classes) - len(rows):,} rows of labels with fewer than {folds} rows were not judged"
        )
    drawn = text_folds([texts[i] for i in rows], classes[rows], count=folds, seed=seed)
    usable = [(rows[train], rows[fold]) for train, fold in drawn if set(classes[rows[train]]) == set(known)]
    if usable:
        probabilities[:, known] = _out_of_fold(features, classes, usable, known)
    judged = np.flatnonzero(np.isfinite(probabilities[:, known[0]]))
    if len(judged) < len(rows):
        notes.append(
            f"{len(rows) - len(judged):,} rows were not judged: what they share texts with has all of a label"
        )
    wrong = np.zeros(len(classes), bool)
    if len(judged):
        wrong[judged] = _issues(
            np.searchsorted(known, classes[judged]), probabilities[np.ix_(judged, known)], ratio
        )
    return Doubts(probabilities, wrong, notes)


def _judged(classes: Rows, folds: int) -> tuple[Rows, Rows]:
    """Return the rows whose label is frequent enough to be learned in every fold, and those labels."""
    values, counts = np.unique(classes, return_counts=True)
    known = values[counts >= folds]
    return np.flatnonzero(np.isin(classes, known)), known.astype(np.int64)


def _out_of_fold(
    features: Any, classes: Rows, folds: Sequence[tuple[Rows, Rows]], known: Rows
) -> NDArray[np.float64]:
    """Return (n, known classes), nan outside the folds, of the penalty that gave the first fold the least log loss.

    A penalty that is too strong gives probabilities so timid that no label looks wrong, one too weak doubts good rows.
    """
    train, fold = folds[0]
    own = np.searchsorted(known, classes[fold])

    def loss(strength: float) -> float:
        found = _predicted(features, classes, train, fold, strength)
        return float(-np.log(found[np.arange(len(fold)), own] + 1e-12).mean())

    best = min(_STRENGTHS, key=loss)
    probabilities = np.full((len(classes), len(known)), np.nan)
    for train, fold in folds:
        probabilities[fold] = _predicted(features, classes, train, fold, best)
    return probabilities


def _predicted(features: Any, classes: Rows, train: Rows, fold: Rows, strength: float) -> NDArray[np.float64]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=_STEPS).fit(features[train], classes[train])
    return np.asarray(model.predict_proba(features[fold]), np.float64)


def _issues(labels: Rows, probabilities: NDArray[np.float64], ratio: float) -> NDArray[np.bool_]:
    """What cleanlab names and what is doubted by the ratio as well.

    The ratio has to hold with the classes as frequent as they are and as if they were equally frequent. Without the
    second, half of a rare class is doubted for being rare (93 of the 173 opinions among 1,200 bank comments).
    """
    from cleanlab.filter import find_label_issues

    counts = np.bincount(labels, minlength=probabilities.shape[1])
    if (counts > 0).sum() < 2:
        return np.zeros(len(labels), bool)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    named = find_label_issues(labels, probabilities, filter_by="prune_by_noise_rate", n_jobs=1)
    doubted = [
        p[np.arange(len(labels)), labels] <= ratio * p.max(axis=1)
        for p in (probabilities, probabilities / np.maximum(counts, 1))
    ]
    return np.asarray(named & doubted[0] & doubted[1], bool)


def _shared(queries: Sequence[str], titles: Sequence[str]) -> Floats:
    """Return (n, 12): of characters, 2-grams, 3-grams and words, the cosine and each side's share that is in both."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    columns = []
    for analyzer, size in (("char", 1), ("char", 2), ("char", 3), ("word", 1)):
        grams = TfidfVectorizer(
            analyzer=analyzer,
            ngram_range=(size, size),
            token_pattern=r"(?u)\b\w+\b" if analyzer == "word" else None,
            dtype=np.float32,
        )
        try:
            grams.fit([*queries, *titles])
        except ValueError:  # no text has a gram of this kind
            continue
        a, b = grams.transform(queries), grams.transform(titles)
        both = (a > 0).multiply(b > 0).sum(axis=1)
        columns.append(a.multiply(b).sum(axis=1))
        columns.extend(both / np.maximum(1, (x > 0).sum(axis=1)) for x in (a, b))
    if not columns:
        return np.zeros((len(queries), 0), np.float32)
    return np.stack([np.asarray(column).ravel() for column in columns], axis=1).astype(np.float32)


def _each_once(encode: Encode, texts: Sequence[str]) -> Floats:
    place: dict[str, int] = {}
    of_text = [place.setdefault(text, len(place)) for text in texts]
    return np.asarray(encode(list(place)), np.float32)[of_text]


def _logs(probabilities: Floats) -> Floats:
    return np.log(np.clip(probabilities, 1e-5, None)).astype(np.float32)


def _unit(block: Floats) -> Floats:
    """Scale a block of features so that its rows have length 1 in the mean: the penalty then treats blocks alike."""
    return np.asarray(block / max(float(np.sqrt((block**2).sum(axis=1).mean())), 1e-12), np.float32)
