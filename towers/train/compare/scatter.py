"""Rows as points: a cost on a logarithmic axis, quality upwards, the Pareto line through those that nothing beats."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from towers.train.compare.compared import Compared, TaskView, front_of
from towers.train.compare.labels import Box, place, shortened, text_width
from towers.train.compare.svg import ACCENT, INK, MUTED, SURFACE
from towers.train.compare.words import amount, number, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARK = 4.0  # points: half the side of the square that a marker takes
_LINE = 18  # characters, from which a label is broken into two lines
_LONGEST = 34  # characters of a name in a plot; the table and the pointer show all of it
_APART = 8.0  # points between a marker and its label, from which a line joins them
_NUMBER_SIZE, _NAME_SIZE = 8.0, 9.0  # font sizes
_WORST = 3.0  # a row that lies further below the middle one than so many times the best lies above goes to the edge


@dataclass(frozen=True)
class Point:
    """One row in the plot.

    Attributes:
        one: The row.
        x: Its cost, above 0.
        y: Its quality times 100, or the lower edge of the plot where that is higher.
        front: Whether it is on the Pareto line.
        reference: Whether it is the reference.
    """

    one: Compared
    x: float
    y: float
    front: bool
    reference: bool

    @property
    def named(self) -> bool:
        """Whether its label is its name; its number else, as there is no room for thirty names."""
        return self.front or self.reference

    @property
    def low(self) -> bool:
        """Whether its quality is below the plot."""
        return self.one.quality < self.y

    @property
    def label(self) -> str:
        """What stands beside the point, in one line or two."""
        text = shortened(printable(self.one.row.name), _LONGEST) if self.named else str(self.one.number)
        text = f"{text} ({self.one.quality:.1f})" if self.low else text
        return (
            "\n".join(textwrap.wrap(text, max(_LINE, math.ceil(0.6 * len(text))), break_on_hyphens=False))
            or text
        )

    @property
    def size(self) -> float:
        """Font size of the label."""
        return _NAME_SIZE if self.named else _NUMBER_SIZE

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the label."""
        lines = self.label.split("\n")
        return max(text_width(line, self.size) for line in lines), 1.15 * self.size * len(lines)


def points_of(view: TaskView, cost: Callable[[Compared], float | None]) -> list[Point]:
    """Return the points of all rows that have the cost, the ones with names first."""
    front = {one.number for one in front_of(view.working, cost)}
    with_cost = [(one, value) for one in view.working if (value := cost(one)) is not None]
    floor = lowest_shown([one.quality for one, _ in with_cost]) if with_cost else 0.0
    points = [
        Point(one, value, max(one.quality, floor), one.number in front, one is view.reference)
        for one, value in with_cost
    ]
    return sorted(points, key=lambda point: not point.named)


def lowest_shown(qualities: Sequence[float]) -> float:
    """Return the quality below which rows stand at the lower edge, so that one failure does not flatten all others."""
    ordered = sorted(qualities)
    best, middle = ordered[-1], ordered[len(ordered) // 2]
    return best - max((1 + _WORST) * (best - middle), 2.0)


def draw_scatter(axes: Axes, points: Sequence[Point], *, ids: str) -> dict[str, str]:
    """Draw points; return what the pointer shows over each, by id. At least one point."""
    _limits(axes, points)
    front = sorted((point.x, point.y) for point in points if point.front)
    # A staircase: so much cost buys the quality of the last point before it.
    xs, ys = [x for x, _ in front] + [axes.get_xlim()[1]], [y for _, y in front] + [front[-1][1]]
    axes.plot(xs, ys, color=ACCENT, linewidth=1.5, alpha=0.6, drawstyle="steps-post", zorder=2)
    for point in points:
        _draw_point(axes, point, gid=f"{ids}-{point.one.number}")
    _draw_labels(axes, points)
    return {f"{ids}-{point.one.number}": _tip(point) for point in points}


def draw_work(axes: Sequence[Axes], view: TaskView, *, ids: str) -> dict[str, str]:
    """Draw latency against parameters and against multiply-adds; return what the pointer shows, by id."""
    tips: dict[str, str] = {}
    costs: dict[str, Callable[[Compared], int | None]] = {
        "parameters": lambda one: one.row.parameters,
        "multiply-adds": lambda one: one.row.multiply_adds,
    }
    for panel, (what, cost) in zip(axes, costs.items(), strict=True):
        points = [(one, x, one.latency) for one in view.working if (x := cost(one)) and one.latency]
        for one, x, y in points:
            gid = f"{ids}-{what}-{one.number}"
            known = one is view.reference
            panel.plot(
                [x],
                [y],
                marker="D" if known else "o",
                markersize=5.5,
                color=INK if known else ACCENT,
                alpha=0.75,
                linestyle="none",
                zorder=4 if known else 3,
                gid=gid,
            )
            tips[gid] = f"{one.number} {printable(one.row.name)}: {amount(x)}, {number(y)} ms"
        panel.set_xlabel(f"{what} (log scale)")
        panel.set_ylabel("ms, one text")
        _log_axis(panel, "x", [x for _, x, _ in points])
        _log_axis(panel, "y", [y for _, _, y in points])
    return tips


def log_ticks(low: float, high: float) -> list[float]:
    """Return up to eight round numbers between two costs, for an axis of several decades or of a tenth of one."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(1 + step / 10 for step in range(90))):
        every = sorted({float(f"{step * 10.0**decade:.6g}") for decade in decades for step in steps})
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / 8))]


def _limits(axes: Axes, points: Sequence[Point]) -> None:
    """Leave a margin for labels all around, most of it on the left: the fastest row has its name there."""
    heights = [point.y for point in points]
    above = max(0.1 * (max(heights) - min(heights)), 0.25)
    axes.set_ylim(min(heights) - above, max(heights) + above)
    _log_axis(axes, "x", [point.x for point in points], left=2)


def _log_axis(axes: Axes, side: str, values: Sequence[float], *, left: float = 1.0) -> None:
    """Make an axis logarithmic, with a margin, so many times as wide on the left, and a few plain numbers."""
    from matplotlib.ticker import NullLocator

    logs = [math.log10(value) for value in values]
    margin = max(0.1 * (max(logs) - min(logs)), 0.06)
    low, high = 10 ** (min(logs) - left * margin), 10 ** (max(logs) + margin)
    ticks = log_ticks(low, high)
    axes.set(**{f"{side}scale": "log", f"{side}lim": (low, high)})
    axes.set(
        **{
            f"{side}ticks": ticks,
            f"{side}ticklabels": [_tick(tick) for tick in ticks],
        }
    )
    (axes.xaxis if side == "x" else axes.yaxis).set_minor_locator(NullLocator())


def _tick(value: float) -> str:
    """Return a round number without zeros that say nothing: 5 M."""
    text, _, unit = (amount(value) if value >= 1e4 else number(value)).partition(" ")
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}".strip()


def _draw_point(axes: Axes, point: Point, *, gid: str) -> None:
    """Draw a marker, and behind it a thin line over the values of all seeds."""
    quality = point.one.row.quality
    if quality is not None and not point.low:
        ends = [100 * min(quality.values), 100 * max(quality.values)]
        axes.plot([point.x] * 2, ends, color=MUTED, linewidth=0.8, zorder=1)
    colour = ACCENT if point.front else MUTED
    axes.plot(
        [point.x],
        [point.y],
        marker="v" if point.low else "D" if point.reference else "o",
        markersize=7 if point.named else 5.5,
        color=colour if point.front or not point.reference else INK,
        markeredgecolor=SURFACE,
        markeredgewidth=0.8,
        linestyle="none",
        zorder=4 if point.named else 3,
        gid=gid,
    )


def _tip(point: Point) -> str:
    return f"{point.one.number} {printable(point.one.row.name)}: {point.one.quality:.2f} at {number(point.x)}"


def _draw_labels(axes: Axes, points: Sequence[Point]) -> None:
    """Write names and numbers where they cover least, with a line to the point where they stand apart from it."""
    scale = 72 / cast("Figure", axes.figure).dpi
    middles = [
        (float(x) * scale, float(y) * scale)
        for x, y in axes.transData.transform([(p.x, p.y) for p in points])
    ]
    marks = [Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in middles]
    front = sorted(middle for middle, point in zip(middles, points, strict=True) if point.front)
    window = axes.get_window_extent()
    inside = Box(window.x0 * scale, window.y0 * scale, window.x1 * scale, window.y1 * scale)
    corners = [*front, (inside.right, front[-1][1])] if front else []
    marks += [box for here, there in pairwise(corners) for box in _stair(here, there)]
    boxes = place(middles, [point.extent for point in points], inside=inside, avoid=marks)
    for point, middle, box in zip(points, middles, boxes, strict=True):
        _write(axes, point, middle, box)


def _stair(here: tuple[float, float], there: tuple[float, float]) -> list[Box]:
    """The two lines from one point of the staircase to the next one, so wide that a name keeps clear of them."""
    return [
        Box(here[0], here[1] - 1.5, there[0], here[1] + 1.5),
        Box(there[0] - 1.5, here[1], there[0] + 1.5, there[1]),
    ]


def _write(axes: Axes, point: Point, middle: tuple[float, float], box: Box) -> None:
    """Write a label into its box, whose place is relative to the point's middle."""
    axes.annotate(
        point.label,
        (point.x, point.y),
        xytext=((box.left + box.right) / 2 - middle[0], (box.bottom + box.top) / 2 - middle[1]),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=point.size,
        linespacing=1.1,
        color=INK if point.named else MUTED,
        arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5}
        if box.gap(middle) > _APART
        else None,
        zorder=5,
    )
