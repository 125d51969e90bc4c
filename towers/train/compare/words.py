"""How numbers and names are written for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from towers.train.compare.compared import OPEN, UNKNOWN, Compared, Difference
from towers.train.compare.results import MATCH, SENTIMENT, Spread

TASK_TITLES = {MATCH: "Pairs", SENTIMENT: "Labelled texts"}
_METRICS = {
    "spearman": "Spearman",
    "pearson": "Pearson",
    "auc": "AUC",
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "macro_recall": "macro recall",
    "calibration_error": "calibration error",
    "mcc": "Matthews correlation",
    "matthews_correlation": "Matthews correlation",
}
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def printable(text: str) -> str:
    """Return text on one line, without characters that no page can show."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def quoted(name: str) -> str:
    """Return a row's name as it stands in a sentence."""
    return f"“{printable(name)}”"


def metric_name(metric: str) -> str:
    """Return a metric's name as people write it."""
    return _METRICS.get(metric, printable(metric).replace("ndcg@", "nDCG@"))


def number(value: float) -> str:
    """Return a quantity with three significant digits, or all digits before the point."""
    size = abs(value)
    if size == 0 or size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:#.3g}" if size >= 0.1 else f"{value:.3g}"


def amount(value: float) -> str:
    """Return a count with its unit: 22.7 M."""
    for unit, letter in _UNITS:
        if value >= unit:
            return f"{number(value / unit)} {letter}"
    return f"{value:,.0f}"


def signed(points: float) -> str:
    """Return a difference with its sign and two digits."""
    text = f"{abs(points):.2f}"
    sign = "±" if float(text) == 0 else "+" if points > 0 else "−"
    return sign + text


def factor(ratio: float) -> str:
    """Return a ratio with two digits after the point, as it is read beside others: 1.90."""
    return number(ratio) if ratio >= 10 or ratio < 0.005 else f"{ratio:.2f}"


def times(ratio: float) -> str:
    """Return a ratio for a table: 1.90×."""
    return f"{factor(ratio)}×"


def correlation(value: float) -> str:
    """Return a correlation with two digits."""
    return f"{value:.2f}".replace("-", "−")


def between(low: float, high: float) -> str:
    """Return a range of percentages or points."""
    return f"{low:.2f}–{high:.2f}"


def rounds_between(spread: Spread) -> str:
    """Return the range of a timing."""
    return f"{number(spread.lowest)}–{number(spread.highest)}"


def seconds(value: float) -> str:
    """Return a duration: 1 h 20 min, 5.2 min, 40 s."""
    if value >= 3600:
        return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"
    return f"{value / 60:.1f} min" if value >= 60 else f"{number(value)} s"


def listed(items: Iterable[str]) -> str:
    """Return a list in a sentence: a, b and c."""
    found = list(items)
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)


def counted(items: Sequence[object], one: str) -> str:
    """Return a number with its noun: 1 row, 2 rows."""
    return f"{len(items):,} {one}" + ("" if len(items) == 1 else "s")


def gain(difference: Difference) -> str:
    """Return what a row gained or lost: "+0.31 points, not established"."""
    doubt = f", {difference.verdict}" if difference.verdict in (OPEN, UNKNOWN) else ""
    return f"{signed(difference.points)} points{doubt}"


def phrase(one: Compared) -> str:
    """Return a row in a sentence, beside the task's reference: its name, what it gained and how fast it is."""
    told = [] if one.main.difference is None else [gain(one.main.difference)]
    told += [] if one.main.speed is None else [f"{factor(one.main.speed)} times as fast"]
    return f"{quoted(one.row.name)} ({', '.join(told)})" if told else quoted(one.row.name)


def entry(one: Compared) -> str:
    """Return a row in a long list, beside its own reference; the list says what the figures are.

    First points, then times as fast.
    """
    told = [] if one.own.difference is None else [gain(one.own.difference).replace(" points", "")]
    told += [] if one.own.speed is None else [times(one.own.speed)]
    return f"{quoted(one.row.name)} ({', '.join(told)})" if told else quoted(one.row.name)
