"""What the numbers do not say: doubts that follow from seeds, steps, the size of the dev side and noisy timings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from towers.train.compare.compared import OPEN, Compared, TaskView
from towers.train.compare.results import TECHNIQUES
from towers.train.compare.words import TASK_TITLES, listed, metric_name, quoted, signed

SHORT = 500  # steps; below that a linear schedule has hardly warmed up and cooled down. Guess, untested
_NOISY = 1.5  # slowest round of a timing divided by its fastest


def caveats(views: Sequence[TaskView]) -> list[str]:
    """Return all doubts, each as a sentence or two that name the rows."""
    found = [f"{TASK_TITLES[view.task]}: {doubt}" for view in views for doubt in _of_task(view)]
    told = {one.row.technique for view in views for one in view.rows}
    missing = [f"{name} ({number})" for number, name in TECHNIQUES.items() if number and number not in told]
    if missing:
        found.append(f"Not in this comparison: {listed(missing)}.")
    return found


def seed_noise(view: TaskView) -> float:
    """Return the largest range over seeds of any trained row, in points; 0.0 where no row has two seeds."""
    measures = [one.row.quality for one in _trained(view) if one.row.quality is not None]
    return max((100 * (max(one.values) - min(one.values)) for one in measures), default=0.0)


def sample_error(metric: str, quality: float, rows: int) -> float:
    """Return two standard errors, in points, of a metric on so many dev rows; nan for metrics without a formula.

    Accuracy is a share of the rows (binomial), macro recall the same where classes are of one size and less certain
    where they are not; Spearman's correlation by Bonett and Wright 2000, section 3: the
    variance of its Fisher transform is (1 + r^2 / 2) / (n - 3). AUC by Hanley and McNeil 1982, as if half of the rows
    were positive, which is the best case.

    Args:
        metric: Its name.
        quality: The value, times 100.
        rows: Number of dev rows.
    """
    value = quality / 100
    if metric in ("accuracy", "macro_recall") and rows > 0 and 0 <= value <= 1:
        return 200 * math.sqrt(value * (1 - value) / rows)
    if metric == "auc" and rows > 1 and 0 <= value <= 1:
        half, above, below = rows / 2, value / (2 - value), 2 * value**2 / (1 + value)
        variance = value * (1 - value) + (half - 1) * (above + below - 2 * value**2)
        return 200 * math.sqrt(variance) / half
    if metric == "spearman" and rows > 3:
        return 200 * (1 - value**2) * math.sqrt((1 + value**2 / 2) / (rows - 3))
    return math.nan


def _of_task(view: TaskView) -> list[str]:
    doubts = (_one_seed, _short_training, _open, _sample, _lonely, _noisy)
    return [sentence for doubt in doubts if (sentence := doubt(view))]


def _trained(view: TaskView) -> list[Compared]:
    return [one for one in view.working if one.row.seeded]


def _one_seed(view: TaskView) -> str:
    trained = _trained(view)
    found = [one for one in trained if len(one.row.seeds) == 1]
    if found and len(found) == len(trained):
        return "one seed only, no spread known: no difference of a trained row is established."
    return f"no spread known, one seed only: {_names(found)}." if found else ""


def _short_training(view: TaskView) -> str:
    found = [one for one in view.working if 0 < one.row.steps < SHORT]
    noise = seed_noise(view)
    known = (
        f"differences below {noise:.2f} points are noise"
        if noise
        else "one seed cannot say how large the noise is"
    )
    steps = listed(f"{quoted(one.row.name)} ({one.row.steps} steps)" for one in found)
    return f"short training, {known}: {steps}." if found else ""


def _open(view: TaskView) -> str:
    found = [one for one in view.working if one.own.difference and one.own.difference.verdict == OPEN]
    rows = listed(
        f"{quoted(one.row.name)} ({signed(one.own.difference.points)})" for one in found if one.own.difference
    )
    return f"not established, as the seeds' values overlap those of the reference: {rows}." if found else ""


def _sample(view: TaskView) -> str:
    if view.reference is None or view.data is None:
        return ""
    error = sample_error(view.metric, view.reference.quality, view.data.dev)
    if math.isnan(error):
        return ""
    return (
        f"{view.data.dev:,} held-out rows tell {metric_name(view.metric)} to within {error:.2f} points at best (two "
        "standard errors). All rows are measured on the same ones, so that differences between them are known "
        "somewhat better than that."
    )


def _lonely(view: TaskView) -> str:
    found = [one for one in view.working if one.reference is not None and one.own.difference is None]
    names = f"{_names(found)}: what {'it is' if len(found) == 1 else 'they are'} compared with"
    return f"no difference for {names} has no figure of that metric." if found else ""


def _noisy(view: TaskView) -> str:
    timed = [(one, one.row.latency_ms) for one in view.working if one.row.latency_ms is not None]
    found = [one for one, spread in timed if spread.highest > _NOISY * spread.lowest]
    return (
        f"the slowest round took more than {_NOISY} times the fastest, so the machine was busy: {_names(found)}."
        if found
        else ""
    )


def _names(rows: Sequence[Compared]) -> str:
    return listed(quoted(one.row.name) for one in rows)
