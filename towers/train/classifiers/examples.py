"""Labelled examples for any classifier: single texts or pairs of texts, with classes or numbers as labels.

What the labels are is found out from them: numbers with fractions make a regression, all others are classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.data import split_connected, text_key

MOST_CLASSES = 1000  # more different labels than this are no classes; guess, untested


@dataclass(frozen=True)
class Task:
    """What a classifier answers.

    Attributes:
        name: "sst2", or the name of the user's file.
        labels: Names of the classes, in the order of the model's outputs; empty for a regression.
        pair: Whether an example is two texts.
        metrics: Names from `task_metrics.METRICS`; their mean says which of two models is better.
    """

    name: str
    labels: tuple[str, ...]
    pair: bool
    metrics: tuple[str, ...]

    @property
    def is_regression(self) -> bool:
        """Whether the answer is a number."""
        return not self.labels

    @property
    def outputs(self) -> int:
        """Number of the model's outputs."""
        return len(self.labels) or 1


@dataclass(frozen=True)
class Raw:
    """Rows as read: labels are still words.

    Attributes:
        name: Where they come from.
        texts: n texts.
        pairs: n second texts; None for single texts.
        labels: n labels, numbers as a person writes them.
    """

    name: str
    texts: list[str]
    pairs: list[str] | None
    labels: list[str]


@dataclass(frozen=True)
class Examples:
    """Rows to train or measure on.

    Attributes:
        texts: n texts.
        pairs: n second texts; None for single texts.
        labels: (n,) int64 numbers of classes, or float32 values of a regression; empty for a test set without labels.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, chosen: Sequence[int]) -> Examples:
        """Some of the rows."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in chosen]
        return Examples([self.texts[i] for i in chosen], pairs, self.labels[list(chosen)])


@dataclass(frozen=True)
class TaskData:
    """A task and its examples.

    Attributes:
        task: What is asked.
        train: To train on.
        dev: Name of a set -> held-out examples. The first one decides between models.
        source: Where they come from, for the manifest.
        left_out: Rows that were passed over, as the source's format makes them unusable, or as they share a text with a
            held-out pair.
        licence: As the source states it.
        test: Held-out examples that decide nothing; None where there are no others than `dev`.
    """

    task: Task
    train: Examples
    dev: Mapping[str, Examples]
    source: str
    left_out: int = 0
    licence: str = "not given"
    test: Examples | None = None

    @property
    def deciding(self) -> Examples:
        """The held-out examples that decide between models."""
        return next(iter(self.dev.values()))

    @property
    def reported(self) -> Mapping[str, Examples]:
        """The sets that figures are measured on: the test set where there is one, else what decided as well."""
        return self.dev if self.test is None else {"test": self.test}


def infer_task(name: str, sets: Sequence[Raw], *, regression: bool | None = None) -> Task:
    """Find out what the labels of all sets are: classes, or numbers.

    Args:
        name: Of the task.
        sets: All rows that there are.
        regression: Whether labels are numbers; None: where one of them has a fraction.

    Raises:
        InputError: One label only, or one for nearly every row; or pairs beside single texts.
    """
    kinds = {raw.pairs is not None for raw in sets}
    if len(kinds) > 1:
        raise InputError(f"{name}: found single texts beside pairs of texts; give files of one kind")
    pair = kinds.pop()
    labels = sorted({label for raw in sets for label in raw.labels})
    numbers = [number for label in labels if (number := as_number(label)) is not None]
    all_numbers = len(numbers) == len(labels)
    whole = all_numbers and all(number.is_integer() for number in numbers)
    if regression or (regression is None and all_numbers and not whole):
        return Task(name, (), pair, ("pearson", "spearman"))
    if not 2 <= len(labels) <= MOST_CLASSES:
        shown = ", ".join(labels[:3])
        raise InputError(
            f"{name}: found {len(labels)} different labels ({shown} …), expected 2 to {MOST_CLASSES}"
        )
    if whole:
        labels.sort(key=float)
    return Task(name, tuple(labels), pair, ("accuracy", "macro_f1"))


def encode(task: Task, raw: Raw) -> Examples:
    """Turn labels into numbers.

    Raises:
        InputError: Names the first row whose label is none of the task's.
    """
    if task.is_regression:
        values = [as_number(label) for label in raw.labels]
        for i, value in enumerate(values):
            if value is None:
                raise InputError(f"{raw.name}, example {i + 1}: found {raw.labels[i]!r}, expected a number")
        return Examples(raw.texts, raw.pairs, np.array(values, np.float32))
    number = {label: i for i, label in enumerate(task.labels)}
    for i, label in enumerate(raw.labels):
        if label not in number:
            expected = ", ".join(task.labels[:10])
            raise InputError(f"{raw.name}, example {i + 1}: found the label {label!r}, expected {expected}")
    return Examples(raw.texts, raw.pairs, np.array([number[label] for label in raw.labels], np.int64))


def split_examples(data: Examples, *, share: float, seed: int) -> tuple[Examples, Examples]:
    """Hold out a share, so that a text is on one side only.

    The side of a single text depends on itself and the seed alone. Pairs are split as `data.split_pairs` does it:
    connected ones stay together, and training pairs that still share a text with the held-out side are on neither.
    """
    if data.pairs is not None:
        texts = list(zip(data.texts, data.pairs, strict=True))
        (split,) = split_connected([texts], dev_share=share, seed=seed)
        return data.rows(np.flatnonzero(split.train).tolist()), data.rows(np.flatnonzero(split.dev).tolist())
    train: list[int] = []
    dev: list[int] = []
    for i, text in enumerate(data.texts):
        digest = hashlib.sha256(f"{seed}\0{text_key(text)}".encode()).digest()
        (dev if int.from_bytes(digest[:8], "big") / 2**64 < share else train).append(i)
    return data.rows(train), data.rows(dev)


def check_sides(task: Task, train: Examples, dev: Examples) -> None:
    """Refuse sides that nothing can be learned or measured on.

    Raises:
        InputError: One of them is empty or of one label, or a label is held out that is never trained on.
    """
    for side, data in (("to train on", train), ("held out", dev)):
        if len(data) < 2 or len(np.unique(data.labels)) < 2:
            raise InputError(
                f"{task.name}: found {len(data)} examples {side}, with {len(np.unique(data.labels))} different labels; "
                "expected 2 or more of each. Give more examples, other --dev files, or another --dev-share or "
                "--test-share."
            )
    if not task.is_regression and (unseen := set(dev.labels.tolist()) - set(train.labels.tolist())):
        names = ", ".join(task.labels[i] for i in sorted(unseen))
        raise InputError(
            f"{task.name}: found {names} among held-out labels, expected labels that are trained on"
        )


def as_number(label: str) -> float | None:
    """The number that a label is; None for words."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
