"""Labels as classes, with or without an order, so that one rule says when two of them contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.train.data import MOST_GRADES, label_kind

_BINS = 4  # classes that similarities such as 0..5 are cut into; guess, untested


@dataclass(frozen=True)
class LabelScale:
    """The labels of n rows.

    Attributes:
        classes: (n,) int64, the number of each row's class.
        names: What each class is called, as in the data; of a class of similarities its middle.
        places: (n,) each label's place in 0..1; None where labels are names without an order.
        gap: Two labels contradict each other from this distance on.
    """

    classes: NDArray[np.int64]
    names: list[Any]
    places: NDArray[np.float64] | None
    gap: float

    def contradict(self, a: int, b: int) -> bool:
        """Whether the labels of two rows cannot both be right."""
        if self.places is None:
            return bool(self.classes[a] != self.classes[b])
        return bool(abs(self.places[a] - self.places[b]) >= self.gap)

    def far(self, row: int, of_class: int) -> bool:
        """Whether a row's label contradicts a class."""
        if self.places is None:
            return bool(self.classes[row] != of_class)
        middles = self._middles()
        return bool(abs(middles[self.classes[row]] - middles[of_class]) >= self.gap)

    def _middles(self) -> NDArray[np.float64]:
        numbers = np.array(self.names, np.float64)
        return np.asarray((numbers - numbers.min()) / max(np.ptp(numbers), 1e-12), np.float64)


def label_scale(labels: Sequence[Any], *, gap: float, ordered: bool = True) -> LabelScale:
    """Read labels as they stand in a table.

    Args:
        labels: n numbers, strings that are numbers, or names.
        gap: See `LabelScale`, as a share of the range from the lowest label to the highest.
        ordered: Numbers are grades or similarities. False: many different numbers may be names, as of intents.
    """
    numbers = _numbers(labels)
    if numbers is None or (not ordered and len(np.unique(numbers)) > MOST_GRADES):
        names = sorted({str(label) for label in labels})
        place = {name: i for i, name in enumerate(names)}
        return LabelScale(np.array([place[str(label)] for label in labels], np.int64), list(names), None, gap)
    lowest, span = float(numbers.min()), max(float(np.ptp(numbers)), 1e-12)
    places = (numbers - lowest) / span
    if label_kind(numbers) == "float":
        classes = np.minimum((places * _BINS).astype(np.int64), _BINS - 1)
        middles = [round(lowest + (i + 0.5) / _BINS * span, 6) for i in range(_BINS)]
        return LabelScale(classes, middles, places, gap)
    values, classes = np.unique(numbers, return_inverse=True)
    plain = [int(x) if x == int(x) else float(x) for x in values]
    return LabelScale(classes.astype(np.int64), plain, places, gap)


def _numbers(labels: Sequence[Any]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(label) for label in labels])
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None
