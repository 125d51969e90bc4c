"""Curves beside the rows: learning curves, exit layers, and the loss of more pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from towers.train.compare.labels import shortened
from towers.train.compare.results import ExitCounts, LearningPoint, MaskedLoss
from towers.train.compare.svg import ACCENT, INK, SERIES
from towers.train.compare.words import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST = 46  # characters of a name above a panel or in a legend
_DASHES = ("solid", "dashed", "dotted")  # one after the other, when there are more lines than colours


def draw_learning(axes: Axes, points: Sequence[LearningPoint], *, metric: str) -> None:
    """Draw quality against the number of rows: median, band and dots of the seeds. At least one point."""
    points = sorted(points, key=lambda point: point.rows)
    rows = [point.rows for point in points]
    values = [[100 * value for value in point.values] for point in points]
    axes.fill_between(
        rows, list(map(min, values)), list(map(max, values)), color=ACCENT, alpha=0.18, linewidth=0
    )
    axes.plot(rows, list(map(median, values)), color=ACCENT, linewidth=1.8)
    for x, some in zip(rows, values, strict=True):
        axes.plot([x] * len(some), some, marker="o", markersize=3.5, color=ACCENT, linestyle="none")
    axes.set_xticks(rows, [f"{100 * point.share:.0f}%\n{point.rows:,}" for point in points])
    axes.set_xlim(0, 1.05 * max(rows))
    axes.set_xlabel("share of the training data, rows")
    axes.set_ylabel(f"{metric} × 100")


def draw_exits(panels: Sequence[Axes], exits: Sequence[ExitCounts]) -> None:
    """Draw a histogram for each row: the share of texts that leave after each layer."""
    last = max((layer for one in exits for layer in one.layers), default=1)
    for axes, one in zip(panels, exits, strict=True):
        total = sum(one.counts) or 1
        shares = [100 * count / total for count in one.counts]
        bars = axes.bar(one.layers, shares, width=0.7, color=ACCENT)
        axes.bar_label(bars, [f"{share:.0f}%" for share in shares], fontsize=8, color=INK, padding=1)
        axes.set_title(exit_title(one), fontsize=9, loc="left")
        axes.set_xticks(range(1, last + 1))
        axes.set_xlim(0.4, last + 0.6)
        axes.set_ylim(0, 1.25 * max([*shares, 1.0]))
        axes.set_ylabel("% of texts")
        axes.grid(visible=False, axis="x")
    panels[-1].set_xlabel("layer")


def exit_title(one: ExitCounts) -> str:
    """Return a row's name with the layer that its texts leave after on average."""
    texts = sum(one.counts)
    mean = sum(layer * count for layer, count in zip(one.layers, one.counts, strict=True)) / (texts or 1)
    name = shortened(printable(one.row), _LONGEST)
    return f"{name}: layer {mean:.1f} on average, {texts:,} texts"


def draw_masked(
    figure: Figure, panels: Sequence[Axes], curves: Sequence[MaskedLoss], classes: Sequence[str]
) -> None:
    """Draw a panel for each class of masked tokens, in it a line for each row that has a loss for it."""
    lines = {}
    for axes, name in zip(panels, classes, strict=True):
        for place, curve in enumerate(curves):
            if name in curve.loss:
                known = [
                    (step, loss)
                    for step, loss in zip(curve.steps, curve.loss[name], strict=True)
                    if loss is not None
                ]
                (lines[curve.row],) = axes.plot(
                    [step for step, _ in known],
                    [loss for _, loss in known],
                    color=SERIES[place % len(SERIES)],
                    linestyle=_DASHES[place // len(SERIES) % len(_DASHES)],
                    linewidth=1.6,
                    marker="o",
                    markersize=2.5,
                )
        axes.set_title(f"masked: {shortened(printable(name), _LONGEST)}", fontsize=9, loc="left")
        axes.set_ylabel("loss")
    steps = [step for curve in curves for step in curve.steps] or [0]
    for axes in panels:
        axes.set_xlim(min(steps) - 0.02 * max(steps), 1.02 * max(steps) + 1)
    panels[-1].set_xlabel("step")
    # A legend leaves out labels that begin with an underscore, so the names are put in afterwards.
    legend = figure.legend(
        list(lines.values()), ["row"] * len(lines), loc="upper left", fontsize=9, borderaxespad=0.5
    )
    for text, name in zip(legend.get_texts(), lines, strict=True):
        text.set_text(shortened(printable(name), _LONGEST))
