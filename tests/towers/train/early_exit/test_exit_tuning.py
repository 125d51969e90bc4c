"""Thresholds are chosen where every more cautious one keeps the quality too; figures as worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.exits import RULES, ExitPlan, exits_of
from towers.train.early_exit.exit_tuning import Judged, compare_rules, curve, describe, plan_exits


def judged(seed: int = 0, *, measure: str = "accuracy", exits: int = 4, rows: int = 300) -> Judged:
    """Exits that are the better the later, and sure where they are right more often than where they are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 2, rows)
    noise = rng.normal(size=(exits, rows, 3))
    logits = noise + np.linspace(0.5, 2, exits)[:, None, None] * np.eye(3)[labels + 1]
    raised = np.exp(2 * logits)
    probabilities = (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)
    return Judged(tuple(range(1, exits + 1)), probabilities, labels, measure)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("measure", ["accuracy", "macro_recall"])
def test_no_more_is_lost_than_is_allowed(rule: str, measure: str) -> None:
    """The chosen threshold keeps the quality; what is allowed to lose more goes no deeper."""
    texts = judged(measure=measure)
    full = texts.quality(texts.last)
    depths = []
    for loss in (0.0, 0.01, 0.05, 0.3):
        plan = plan_exits(texts, rule=rule, least=full - loss)
        exits = exits_of(plan, texts.probabilities)
        assert texts.quality(exits) >= full - loss
        depths.append(texts.depth(exits))
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] < 4


@given(seed=st.integers(0, 500), rule=st.sampled_from(RULES), loss=st.floats(0, 0.2))
def test_more_cautious_thresholds_keep_the_quality_too(seed: int, rule: str, loss: float) -> None:
    """A lucky dip behind a bad threshold is not taken."""
    texts = judged(seed, rows=60)
    least = texts.quality(texts.last) - loss
    depth = texts.depth(exits_of(plan_exits(texts, rule=rule, least=least), texts.probabilities))
    for point in curve(texts, rule):
        if point["mean_layers"] > depth:
            assert point["accuracy"] >= least


@pytest.mark.parametrize("rule", RULES)
def test_nobody_leaves_where_nothing_may_be_lost_and_much_was(rule: str) -> None:
    """A quality that even the last exit does not reach: all go to the end."""
    texts = judged()
    assert (exits_of(plan_exits(texts, rule=rule, least=2.0), texts.probabilities) == 3).all()


def test_a_description_by_hand() -> None:
    """Three texts, two exits after layers 2 and 4: the first text leaves early with another, wrong answer."""
    early = [[0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.3, 0.4, 0.3]]
    late = [[0.0, 0.1, 0.9], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]
    texts = Judged((2, 4), np.array([early, late], np.float32), np.array([1, -1, 0]), "accuracy")
    found = describe(ExitPlan("margin", 0.5, (2, 4)), texts)
    assert found["histogram"] == {"2": 1, "4": 2}
    assert found["mean_layers"] == pytest.approx(10 / 3)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["lost"] == pytest.approx(1 / 3)
    assert found["same_label_as_last"] == pytest.approx(2 / 3)


def test_curves_go_from_all_layers_to_few() -> None:
    for rule in RULES:
        points = curve(judged(), rule)
        depths = [point["mean_layers"] for point in points]
        assert depths[0] == 4
        assert depths == sorted(depths, reverse=True)
        assert len(points) <= 20


def test_one_exit_is_no_choice() -> None:
    """A model with one layer has one exit; every rule copes."""
    texts = judged(exits=1)
    for report in compare_rules(texts, least=0.0).values():
        assert report["mean_layers"] == 1
        assert report["lost"] == 0
