"""The plots of the report, each an SVG with a title and a caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from towers.train.compare.compared import Compared, TaskView
from towers.train.compare.curve_plots import draw_exits, draw_learning, draw_masked
from towers.train.compare.results import TASKS, Results
from towers.train.compare.scatter import draw_scatter, draw_work, points_of
from towers.train.compare.svg import STYLE, as_svg
from towers.train.compare.words import TASK_TITLES, metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches. So narrow that 10 point letters are still readable on a phone, which shows it at three quarters of its size.
_WIDTH = 4.7
_LEFT, _RIGHT = 0.62, 0.14  # margins
_FOOT = 0.5  # room for the figures and the words of an axis

_SCATTER_CAPTION = (
    "Up is better, left is cheaper. The line joins the rows that no other one beats in both; they and the reference "
    "(diamond) have their names, all others their numbers in the table. Thin lines: all seeds. A triangle at the "
    "lower edge stands for a row far below it."
)


CLAIMS, CURVES = "claims", "curves"


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Attributes:
        name: File name without its ending; unique.
        title: What it shows.
        caption: How to read it.
        svg: An <svg> element.
        place: The part of the report where it stands: a task, CLAIMS or CURVES.
    """

    name: str
    title: str
    caption: str
    svg: str
    place: str


def plots_of(results: Results, views: Sequence[TaskView]) -> list[Plot]:
    """Return every plot that there are figures for."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        plots = [plot for view in views for plot in _task_plots(view)]
        plots += _learning_plots(results, views)
        if results.curves.exits:
            plots.append(_exits_plot(results))
        if any(curve.loss for curve in results.curves.masked_loss):
            plots.append(_masked_plot(results))
    return plots


def _task_plots(view: TaskView) -> list[Plot]:
    found = [
        _scatter(view, "latency", "ms for one text", lambda one: one.latency),
        _scatter(view, "size", "size in MB", lambda one: one.row.bytes / 1e6 if one.row.bytes else None),
        _work(view),
    ]
    return [plot for plot in found if plot is not None]


def _scatter(view: TaskView, what: str, axis: str, cost: Callable[[Compared], float | None]) -> Plot | None:
    points = points_of(view, cost)
    if not points:
        return None
    figure, axes = _figure(1, 3.7)
    axes[0].set_xlabel(f"{axis} (log scale)")
    axes[0].set_ylabel(f"{metric_name(view.metric)} × 100")
    name = f"{view.task}-{what}"
    tips = draw_scatter(axes[0], points, ids=name)
    title = f"{TASK_TITLES[view.task]}: quality against {what}"
    return Plot(name, title, _SCATTER_CAPTION, as_svg(figure, name=name, label=title, tips=tips), view.task)


def _work(view: TaskView) -> Plot | None:
    """Latency against parameters and against multiply-adds, one above the other."""
    needed = [(one.latency, one.row.parameters, one.row.multiply_adds) for one in view.working]
    if sum(all(entry) for entry in needed) < 2:
        return None
    figure, axes = _figure(2, 1.5, foot=0.5)
    name = f"{view.task}-work"
    tips = draw_work(axes, view, ids=name)
    title = f"{TASK_TITLES[view.task]}: what buys speed"
    caption = "Every row is a point, the diamond the reference. What lines them up is what latency goes with."
    return Plot(name, title, caption, as_svg(figure, name=name, label=title, tips=tips), CLAIMS)


def _learning_plots(results: Results, views: Sequence[TaskView]) -> list[Plot]:
    metrics = {view.task: metric_name(view.metric) for view in views}
    plots = []
    for task in TASKS:
        points = [point for point in results.curves.learning if point.task == task]
        if points:
            figure, axes = _figure(1, 2.6, foot=0.66)
            draw_learning(axes[0], points, metric=metrics.get(task) or "quality")
            name, title = f"learning-{task}", f"{TASK_TITLES[task]}: learning curve"
            caption = "Quality after training on a part of the data: median, and a dot for each seed."
            plots.append(Plot(name, title, caption, as_svg(figure, name=name, label=title, tips={}), CURVES))
    return plots


def _exits_plot(results: Results) -> Plot:
    exits = results.curves.exits
    figure, axes = _figure(len(exits), 0.95, head=0.3)
    draw_exits(axes, exits)
    title, caption = "Early exit: where texts leave", "Share of the texts that leave after each layer."
    return Plot("exits", title, caption, as_svg(figure, name="exits", label=title, tips={}), CURVES)


def _masked_plot(results: Results) -> Plot:
    curves = results.curves.masked_loss
    classes = list(dict.fromkeys(name for curve in curves for name in curve.loss))
    figure, axes = _figure(len(classes), 1.15, head=0.3, above=0.2 * len(curves))
    draw_masked(figure, axes, curves, classes)
    title = "More pretraining: loss on masked tokens"
    caption = (
        "Cross-entropy in nats, a panel for each class of masked tokens, a line for each way of masking."
    )
    return Plot(
        "masked-loss", title, caption, as_svg(figure, name="masked-loss", label=title, tips={}), CURVES
    )


def _figure(
    panels: int, body: float, *, head: float = 0.12, foot: float = 0.28, above: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels one above the other; margins are fixed, as labels are placed before it is drawn.

    Args:
        panels: How many.
        body: Height of each, in inches.
        head: Of what stands above it.
        foot: Of what stands below it; the last one has room for the words of its axis.
        above: Height of a legend above all.
    """
    from matplotlib.figure import Figure

    each = head + body + foot
    total = above + panels * each + max(_FOOT - foot, 0)
    figure = Figure(figsize=(_WIDTH, total))
    axes = []
    for panel in range(panels):
        bottom = total - above - panel * each - head - body
        box = (_LEFT / _WIDTH, bottom / total, 1 - (_LEFT + _RIGHT) / _WIDTH, body / total)
        axes.append(figure.add_axes(box))
    return figure, axes
