"""The arithmetic of the proof: percentiles of counted latencies, and a slope with what is not known about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

Histogram = dict[int, int]  # how often each value was seen


def percentile_of(histogram: Histogram, share: float) -> float:
    """The smallest value that at least `share` percent of the counted are not above; nan when nothing was counted."""
    if not histogram:
        return float("nan")
    values = np.array(sorted(histogram))
    seen = np.cumsum([histogram[value] for value in values.tolist()])
    # A hair less: 99.9 percent of 1,000 is 999.0000000000001 in floats.
    wanted = seen[-1] * share / 100 * (1 - 1e-12)
    return float(values[np.searchsorted(seen, wanted)])


def together(histograms: Iterable[Histogram]) -> Histogram:
    """Everything that was counted in several."""
    total: Histogram = {}
    for histogram in histograms:
        for value, count in histogram.items():
            total[value] = total.get(value, 0) + count
    return total


@dataclass(frozen=True)
class Slope:
    """A rise per unit of x, and the 95% confidence interval around it."""

    value: float
    low: float
    high: float


def slope(x: ArrayLike, y: ArrayLike, *, blocks: int) -> Slope:
    """The slope of the line of least squares through the means of `blocks` stretches of (n,) points in order of x.

    Memory that is sampled every second depends on the second before: points would pass for more evidence than they
    are, and the interval be too narrow. Means over stretches that are long against such memory are nearly independent.

    Raises:
        ValueError: There are fewer than three blocks, or fewer points than blocks.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    if blocks < 3 or len(xs) < blocks:
        raise ValueError(
            f"{len(xs)} points in {blocks} blocks: give at least three blocks, each with a point"
        )
    means_x, means_y = (np.array([part.mean() for part in np.array_split(all_, blocks)]) for all_ in (xs, ys))
    fitted = stats.linregress(means_x, means_y)
    reach = float(stats.t.ppf(0.975, blocks - 2) * fitted.stderr)
    return Slope(float(fitted.slope), float(fitted.slope) - reach, float(fitted.slope) + reach)
