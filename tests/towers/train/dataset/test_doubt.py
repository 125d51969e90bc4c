from __future__ import annotations

import numpy as np

from tests.towers.train.made_up_data import sentences, word_vectors
from towers import Bundle
from towers.train.dataset.doubt import Signals, bundle_signals, doubts, pair_features, text_features

SIGNALS = Signals(word_vectors)


def wrong_rows(texts: list[str], classes: np.ndarray, *, ratio: float = 0.25) -> set[int]:
    features = text_features(texts, SIGNALS)
    found = doubts(features, [(text,) for text in texts], classes, ratio=ratio, folds=5, seed=1)
    return set(np.flatnonzero(found.wrong).tolist())


def test_no_model_judges_a_text_it_has_seen() -> None:
    """A text that stands twice, under both labels, gets the same probabilities twice."""
    texts, labels = sentences()
    classes = np.array([*[(x + 1) // 2 for x in labels[:120]], (1 - labels[0]) // 2])
    rows = [*texts[:120], texts[0]]
    found = doubts(text_features(rows, SIGNALS), [(x,) for x in rows], classes, ratio=1, folds=4, seed=0)
    assert np.allclose(found.probabilities[0], found.probabilities[120])
    assert np.isfinite(found.probabilities).all()


def test_a_rare_label_is_not_wrong_for_being_rare() -> None:
    """Of 15 right rows of a rare label among 320 few are doubted, though every one is unlikely before it is read."""
    texts, labels = sentences()
    rare = [i for i, label in enumerate(labels) if label < 0][:15]
    rows = [*rare, *(i for i, label in enumerate(labels) if label > 0)]
    classes = np.array([0] * 15 + [1] * (len(rows) - 15))
    assert len(wrong_rows([texts[i] for i in rows], classes) & set(range(15))) <= 3


def test_a_larger_ratio_doubts_more() -> None:
    """What a strict ratio finds, a mild one finds too."""
    texts, labels = sentences()
    classes = np.array([(x + 1) // 2 for x in labels])
    classes[::10] = 1 - classes[::10]
    strict, mild, all_named = (wrong_rows(texts, classes, ratio=ratio) for ratio in (0.05, 0.3, 1.0))
    assert strict < mild <= all_named


def test_a_bundle_says_all_it_can(tiny_bundle: Bundle) -> None:
    """Vectors, the scorer's logit of each pair and the head's of each text are among the features."""
    signals = bundle_signals(tiny_bundle)
    queries, titles = ["red shoe", "usb cable", "red shoe"], ["shoe", "garden hose", "hat"]
    with_all = pair_features(queries, titles, signals=signals)
    without = pair_features(queries, titles, signals=Signals(tiny_bundle.encode_titles))
    assert with_all.shape == (3, without.shape[1] + 1)
    assert np.isfinite(with_all).all()
    u, v = tiny_bundle.encode_titles(queries), tiny_bundle.encode_titles(titles)
    assert signals.score is not None
    assert np.allclose(signals.score(u, v), [tiny_bundle.score(u[i], v[i : i + 1])[0] for i in range(3)])
    head = 3 if tiny_bundle.has_sentiment else 0
    plain = text_features(queries, Signals(tiny_bundle.encode_titles))
    assert text_features(queries, signals).shape[1] == plain.shape[1] + head


def test_texts_without_a_word_do_no_harm() -> None:
    """Signs only: there is nothing to share, and no warning."""
    assert np.isfinite(pair_features(["!?", "…"], ["☺", "??"], signals=SIGNALS)).all()
