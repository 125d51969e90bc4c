"""When a text may leave: thresholds chosen on dev texts, and what each rule gains and loses.

Everything here starts from what all exits say of all texts, so that a threshold costs no further run of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.exits import RULES, ExitPlan, entropy, exits_of, margin
from towers.metrics import accuracy, macro_recall
from towers.sentiment import LABELS
from towers.train.sentiment import sentiment_report

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
MEASURES = {"accuracy": accuracy, "macro_recall": macro_recall}
_STEPS = 100  # thresholds that are tried
_SHOWN = 20  # points of a curve that a report keeps
# Beyond all that an entropy or a margin can be: nobody leaves.
_NOBODY = {"entropy": -1.0, "margin": 2.0}


@dataclass(frozen=True)
class Judged:
    """What all exits say of labelled texts.

    Attributes:
        layers: Layers computed up to each exit.
        probabilities: (exits, n, classes).
        labels: (n,) in -1, 0, 1.
        measure: A key of MEASURES.
    """

    layers: tuple[int, ...]
    probabilities: Floats
    labels: Labels
    measure: str

    def quality(self, exits: Labels) -> float:
        """Return the measure when text i leaves at exit exits[i]."""
        best = self.answers(exits).argmax(axis=1)
        return float(MEASURES[self.measure](self.labels, np.asarray(LABELS)[best]))

    def answers(self, exits: Labels) -> Floats:
        """Return the probabilities, (n, classes), when text i leaves at exit exits[i]."""
        return self.probabilities[exits, np.arange(len(exits))]

    def depth(self, exits: Labels) -> float:
        """Return the mean number of layers computed."""
        return float(np.asarray(self.layers)[exits].mean())

    @property
    def last(self) -> Labels:
        """Everybody leaves at the last exit, (n,)."""
        return np.full(len(self.labels), len(self.layers) - 1)


def plan_exits(judged: Judged, *, rule: str, least: float) -> ExitPlan:
    """Return the boldest plan whose quality, and that of every more cautious one, is at least `least`.

    More cautious ones too, because a single good value among many worse ones is luck. Where even the most cautious
    threshold loses more, nobody leaves early.
    """
    chosen = ExitPlan(rule, _thresholds(judged, rule)[0], judged.layers)
    for threshold in _thresholds(judged, rule):
        plan = ExitPlan(rule, threshold, judged.layers)
        if judged.quality(exits_of(plan, judged.probabilities)) < least:
            break
        chosen = plan
    return chosen


def compare_rules(judged: Judged, *, least: float) -> dict[str, Any]:
    """Report for each rule its tuned plan, and its curve of quality against mean depth."""
    report = {}
    for rule in RULES:
        plan = plan_exits(judged, rule=rule, least=least)
        report[rule] = describe(plan, judged) | {"curve": curve(judged, rule)}
    return report


def describe(plan: ExitPlan, judged: Judged) -> dict[str, Any]:
    """Report on a plan: quality, what is lost against the last exit, mean depth, and how many leave at each layer."""
    exits = exits_of(plan, judged.probabilities)
    counts = np.bincount(exits, minlength=len(plan.layers))
    said, at_last = judged.answers(exits), judged.answers(judged.last)
    return {
        **sentiment_report(judged.labels, said),
        "threshold": plan.threshold,
        "mean_layers": judged.depth(exits),
        "lost": judged.quality(judged.last) - judged.quality(exits),
        "same_label_as_last": float((said.argmax(axis=1) == at_last.argmax(axis=1)).mean()),
        "histogram": {str(layer): int(n) for layer, n in zip(plan.layers, counts, strict=True)},
    }


def curve(judged: Judged, rule: str) -> list[dict[str, float]]:
    """Return quality and mean depth for thresholds from the most cautious to the boldest."""
    thresholds = _thresholds(judged, rule)
    chosen = np.unique(np.linspace(0, len(thresholds) - 1, min(_SHOWN, len(thresholds))).round().astype(int))
    points = []
    for i in chosen:
        exits = exits_of(ExitPlan(rule, thresholds[i], judged.layers), judged.probabilities)
        points.append(
            {
                "threshold": thresholds[i],
                "mean_layers": judged.depth(exits),
                judged.measure: judged.quality(exits),
            }
        )
    return points


def by_layer(judged: Judged) -> list[dict[str, Any]]:
    """Report on each exit as if everybody left there."""
    everybody = np.ones(len(judged.labels), np.int64)
    return [
        {"layer": layer, **sentiment_report(judged.labels, judged.answers(number * everybody))}
        for number, layer in enumerate(judged.layers)
    ]


def _thresholds(judged: Judged, rule: str) -> Sequence[float]:
    """Thresholds to try, from the most cautious to the boldest, spread as the texts' own values are."""
    if rule == "patience":
        return [float(exits) for exits in range(len(judged.layers), 0, -1)]
    early = judged.probabilities[:-1]
    values = entropy(early) if rule == "entropy" else -margin(early)
    if not values.size:
        return [_NOBODY[rule]]
    tried = np.unique(np.quantile(values, np.linspace(0, 1, _STEPS)).round(6))
    return [_NOBODY[rule], *(abs(float(value)) for value in tried)]
