"""Places for labels beside points, so that they lie neither on each other nor on points, as far as there is room.

Widths are estimated from the characters, not asked of a font: the page's own font draws them, and a font that lacks
Chinese would know no width either.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# From a point's middle to the nearest edge of its label, in points (1/72 inch).
_DISTANCES = (4.0, 12.0, 22.0, 34.0, 48.0)
_DIRECTIONS = 16
# What a place costs besides its distance: a square point on a marker 1, on another label or outside the plot more.
_ON_LABEL, _OUTSIDE = 10.0, 50.0
_NEARER = (
    30.0  # for each other point that is nearer to the label than its own: it would be taken for that one's
)


@dataclass(frozen=True)
class Box:
    """A rectangle, in points; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        """Square points."""
        return (self.right - self.left) * (self.top - self.bottom)

    def shared(self, other: Box) -> float:
        """Return the area that two boxes have in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def gap(self, point: tuple[float, float]) -> float:
        """Return how far a point is from the box; 0 inside it."""
        aside = max(self.left - point[0], 0.0, point[0] - self.right)
        return math.hypot(aside, max(self.bottom - point[1], 0.0, point[1] - self.top))


def text_width(text: str, size: float) -> float:
    """Return about how wide a sans-serif font of a size sets a text: wide characters are squares, others 0.56 of it."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return size * (wide + 0.56 * (len(text) - wide))


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, the last one an ellipsis where some were left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    *,
    inside: Box,
    avoid: Sequence[Box],
) -> list[Box]:
    """Find a box for the label of each point, one after the other: the first ones get the best places.

    Each tries places around its point and takes the one that costs least: near to it, covering nothing, and not nearer
    to another point.

    Args:
        points: Middle of each point.
        sizes: Width and height of each label.
        inside: The plot.
        avoid: What labels should not cover, as markers and lines.

    Returns:
        One box for each point.
    """
    placed: list[Box] = []
    for point, size in zip(points, sizes, strict=True):
        others = [other for other in points if other != point]
        costs = [
            (away + _cost(box, inside, avoid, placed) + _NEARER * _taken_for(box, point, others), box)
            for away, box in _around(point, size)
        ]
        placed.append(min(costs, key=lambda candidate: candidate[0])[1])
    return placed


def _around(point: tuple[float, float], size: tuple[float, float]) -> list[tuple[float, Box]]:
    """Boxes in all directions, beginning at the right, each with its distance from the point."""
    found = []
    for distance in _DISTANCES:
        for step in range(_DIRECTIONS):
            angle = 2 * math.pi * step / _DIRECTIONS
            x = point[0] + math.cos(angle) * (distance + size[0] / 2)
            y = point[1] + math.sin(angle) * (distance + size[1] / 2)
            box = Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
            found.append((distance, box))
    return found


def _taken_for(box: Box, point: tuple[float, float], others: Sequence[tuple[float, float]]) -> int:
    """How many other points a label would be taken for."""
    own = box.gap(point)
    return sum(box.gap(other) < own for other in others)


def _cost(box: Box, inside: Box, avoid: Sequence[Box], placed: Sequence[Box]) -> float:
    outside = box.area - box.shared(inside)
    on_labels = sum(box.shared(other) for other in placed)
    return _OUTSIDE * outside + _ON_LABEL * on_labels + sum(box.shared(other) for other in avoid)
