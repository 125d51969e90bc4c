"""The data of a comparison: what every row trains on, is tuned on, and is measured on; the same for all of them.

Three parts, by query for pairs: `train` trains, `dev` calibrates and tunes thresholds, `test` is for the table alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.labelled import Pairs, Texts
from towers.train.data import PairSet, Split, split_pairs, text_key
from towers.train.sentiment import split_texts

TEST_SHARE = 0.15
DEV_SHARE = 0.1
MOST_TEST = 5000  # held-out rows; with more, the differences of rows get no clearer than their seeds allow
_LEAST_TEST = 30  # fewer held-out rows than this say nothing


@dataclass(frozen=True)
class MatchData:
    """Pairs, split by query.

    Attributes:
        sets: Pairs of train and dev.
        splits: Which is which, one for each set.
        test: Pairs of each set that nothing but the table sees.
        extra: Unlabelled texts of the user's, for distillation and pretraining.
    """

    sets: list[PairSet]
    splits: list[Split]
    test: list[PairSet]
    extra: tuple[str, ...] = ()

    @cached_property
    def texts(self) -> list[str]:
        """Different queries and titles of the training side and the extra texts; none of dev or test."""
        held_out = {text_key(text) for pairs in self.test for text in (*pairs.queries, *pairs.titles)}
        found: dict[str, str] = {}
        for pairs, split in zip(self.sets, self.splits, strict=True):
            for i in np.flatnonzero(split.dev):
                held_out |= {text_key(pairs.queries[i]), text_key(pairs.titles[i])}
            for i in np.flatnonzero(split.train):
                for text in (pairs.queries[i], pairs.titles[i]):
                    found.setdefault(text_key(text), text)
        for text in self.extra:
            found.setdefault(text_key(text), text)
        return [text for key, text in found.items() if key not in held_out]

    @property
    def training_pairs(self) -> list[tuple[str, str]]:
        """Query and title of the pairs that train."""
        return [
            (pairs.queries[i], pairs.titles[i])
            for pairs, split in zip(self.sets, self.splits, strict=True)
            for i in np.flatnonzero(split.train)
        ]

    @cached_property
    def asked(self) -> list[str]:
        """Different held-out queries, for timing."""
        return list(dict.fromkeys(text for pairs in self.test for text in pairs.queries))

    @property
    def held_out(self) -> int:
        """Texts that every row encodes to be tuned and measured."""
        dev = sum(int(split.dev.sum()) for split in self.splits)
        return 2 * (dev + sum(len(pairs) for pairs in self.test))

    def facts(self) -> dict[str, Any]:
        """Return counts and a fingerprint, for the report."""
        return {
            "name": " + ".join(pairs.name for pairs in self.sets),
            "kind": self.sets[0].kind,
            "rows": sum(len(pairs) for pairs in (*self.sets, *self.test)),
            "train": sum(int(split.train.sum()) for split in self.splits),
            "dev": sum(int(split.dev.sum()) for split in self.splits),
            "test": sum(len(pairs) for pairs in self.test),
            "unlabelled": len(self.texts),
            "sha256": _sha256([[x.queries, x.titles, x.labels.tolist()] for x in (*self.sets, *self.test)]),
        }


@dataclass(frozen=True)
class TextData:
    """Texts with a sentiment.

    Attributes:
        name: Of the files they come from.
        train: Trains.
        dev: Calibrates and tunes.
        test: For the table alone.
        extra: Unlabelled texts of the user's, for pretraining and distillation; none of the labelled ones.
    """

    name: str
    train: Texts
    dev: Texts
    test: Texts
    extra: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """Texts to train on without their labels."""
        return [*self.train.texts, *self.extra]

    @property
    def asked(self) -> list[str]:
        """Held-out texts, for timing."""
        return self.test.texts

    @property
    def held_out(self) -> int:
        """Texts that every row classifies to be tuned and measured."""
        return len(self.dev.texts) + len(self.test.texts)

    def facts(self) -> dict[str, Any]:
        """Return counts and a fingerprint, for the report."""
        parts = (self.train, self.dev, self.test)
        return {
            "name": self.name,
            "rows": sum(len(part.texts) for part in parts),
            "train": len(self.train.texts),
            "dev": len(self.dev.texts),
            "test": len(self.test.texts),
            "unlabelled": len(self.extra),
            "sha256": _sha256([[part.texts, part.labels.tolist()] for part in parts]),
        }


def match_data(
    sets: Sequence[PairSet],
    *,
    seed: int,
    extra: Sequence[str] = (),
    most: int = MOST_TEST,
    most_train: int | None = None,
) -> MatchData:
    """Split sets of pairs by query into train, dev and test.

    Args:
        sets: The sets.
        seed: Of the draw.
        extra: Texts without labels.
        most: Pairs of all sets together that are held out for the table, about; and half as many for dev.
        most_train: Pairs of all sets together that are left to train on and for dev, about, drawn by query; None for
            all. What no training gets to see in the time there is need not be encoded and searched for negatives.

    Raises:
        InputError: A set is too small to be split in three.
    """
    total = sum(len(pairs) for pairs in sets)
    outer = split_pairs(sets, dev_share=min(TEST_SHARE, most / total), seed=seed)
    inner = [subset(pairs, split.train) for pairs, split in zip(sets, outer, strict=True)]
    test = [subset(pairs, split.dev) for pairs, split in zip(sets, outer, strict=True)]
    if sum(len(pairs) for pairs in test) < _LEAST_TEST:
        raise InputError(
            f"{' + '.join(x.name for x in sets)}: only {sum(len(x) for x in test)} pairs could be held out for the "
            f"table, expected {_LEAST_TEST}; give at least {int(_LEAST_TEST / TEST_SHARE)} pairs of many queries"
        )
    inner = _at_most(inner, most_train, seed=seed)
    share = min(DEV_SHARE, most / 2 / sum(len(pairs) for pairs in inner))
    return MatchData(inner, split_pairs(inner, dev_share=share, seed=seed), test, tuple(extra))


def _at_most(sets: list[PairSet], most: int | None, *, seed: int) -> list[PairSet]:
    total = sum(len(pairs) for pairs in sets)
    if most is None or total <= most:
        return sets
    drawn = split_pairs(sets, dev_share=most / total, seed=seed + 1)
    return [subset(pairs, split.dev) for pairs, split in zip(sets, drawn, strict=True)]


def text_data(
    texts: Texts, *, name: str, seed: int, extra: Sequence[str] = (), most: int = MOST_TEST
) -> TextData:
    """Split labelled texts into train, dev and test; arguments as in `match_data`.

    Raises:
        InputError: Too few texts.
    """
    inner, test = split_texts(texts, share=TEST_SHARE, seed=seed, most=most)
    train, dev = split_texts(inner, share=DEV_SHARE, seed=seed + 1, most=most // 2)
    if len(test.texts) < _LEAST_TEST or len(np.unique(train.labels)) < 2:
        raise InputError(
            f"{name}: {len(test.texts)} texts could be held out for the table, and the rest has labels "
            f"{np.unique(train.labels).tolist()}; expected {_LEAST_TEST} texts and two labels. Give more texts."
        )
    labelled = set(map(text_key, texts.texts))
    return TextData(name, train, dev, test, tuple(text for text in extra if text_key(text) not in labelled))


def subset(pairs: PairSet, chosen: NDArray[np.bool_]) -> PairSet:
    """Return the chosen pairs, (n,) bool, of a set."""
    rows = np.flatnonzero(chosen)
    return replace(
        pairs,
        queries=[pairs.queries[i] for i in rows],
        titles=[pairs.titles[i] for i in rows],
        labels=pairs.labels[rows],
        rows=len(rows),
    )


def plain(pairs: PairSet) -> Pairs:
    """Return pairs with their original labels."""
    return Pairs(pairs.queries, pairs.titles, pairs.original_labels)


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
