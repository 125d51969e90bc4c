"""What scores pairs in the bilingual benchmark: a bag of characters, a BiLSTM, the English original, the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.character_lstm import CharacterTower
from benchmarks.original import Original
from towers import Bundle
from towers.labelled import Pairs
from towers.train.bilingual.material import is_chinese
from towers.train.data import PairSet

BAG, BILSTM, ORIGINAL = "bag", "BiLSTM", "fp32 original"
COSINE, SHORT, SCORE = "cosine", "cosine of 128", "score"
CONTENDERS = (BAG, BILSTM, ORIGINAL, COSINE, SHORT, SCORE)
SHORT_DIM = 128  # short_dim of the recipe

Scores = NDArray[np.float64]
Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]


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
