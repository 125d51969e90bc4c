from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from towers.errors import InputError
from towers.train.compare.plan import Plan, in_order, make_plan, training_passes
from towers.train.compare.setting import LEAST_STEPS, Setting
from towers.train.recipe import Recipe, shipped_recipes

KNOWN = {(recipe.task, recipe.name): recipe for recipe in shipped_recipes()}


def planned(budget_s: float) -> Plan:
    pass_s = {"match": 0.2, "sentiment": 0.4}
    texts = {"match": 2000, "sentiment": 1000}
    return make_plan(
        shipped_recipes(), pass_s=pass_s, texts=texts, budget_s=budget_s, fingerprint={"data": "a"}
    )


def test_more_time_is_more_steps_and_then_more_seeds() -> None:
    """The share of the recipes' steps grows with the budget up to 1; a long budget buys seeds."""
    plans = [planned(hours * 3600) for hours in (0.5, 1, 4, 24, 100)]
    assert [plan.seeds for plan in plans] == sorted(plan.seeds for plan in plans)
    assert (plans[0].seeds, plans[-1].seeds, plans[-1].factor) == (1, 3, 1.0)
    assert 0 < plans[0].factor < plans[1].factor
    for plan, hours in zip(plans[1:4], (1, 4, 24), strict=True):
        assert plan.expected_s <= hours * 3600


def test_an_impossible_budget_still_trains_a_little() -> None:
    """No row is left out: each gets the least number of steps, and the plan says how long that takes."""
    plan = planned(60)
    assert plan.factor == 0
    assert plan.expected_s > 60
    setting = Setting(work=Path(), task="match", seed=1, factor=plan.factor, recipes={})
    assert setting.scaled(KNOWN["match", "tuned"].stages["tune"]).steps == LEAST_STEPS


def test_adversarial_steps_cost_what_they_make() -> None:
    """FGM is two passes a step, PGD one for each inner step and the plain one, FreeLB one for each inner step."""
    plain = training_passes(KNOWN["match", "tuned"])
    costs = [training_passes(KNOWN["match", name]) / plain for name in ("fgm", "pgd", "freelb")]
    assert costs == [2, 4, 3]
    cut = training_passes(KNOWN["match", "cut-distil"])
    assert cut == training_passes(KNOWN["match", "albert"]) / 2


def test_rows_come_after_what_they_need() -> None:
    """Whoever asks for one row also gets what it starts from and is compared with, before it."""
    names = [recipe.name for recipe in in_order([KNOWN["sentiment", "cut-distil-exits-int8"]], KNOWN)]
    assert names == ["full", "cut-distil", "cut-distil-exits-int8"]


def test_recipes_that_need_each_other_are_refused() -> None:
    """A circle, or a name that is not there, is told before anything is trained."""
    one = replace(KNOWN["match", "int8"], name="one", start="two")
    two = replace(one, name="two", start="one")
    known: dict[tuple[str, str], Recipe] = {**KNOWN, ("match", "one"): one, ("match", "two"): two}
    with pytest.raises(InputError, match="one -> two -> one"):
        in_order([one], known)
    with pytest.raises(InputError, match="names 'three'"):
        in_order([replace(one, start="three")], known)


def test_a_plan_is_kept_and_belongs_to_its_data(tmp_path: Path) -> None:
    """A run that goes on takes the same steps; with other data it is refused, and says what differs."""
    plan = planned(3600)
    assert Plan.read(tmp_path, {"data": "a"}) is None
    plan.write(tmp_path)
    assert Plan.read(tmp_path, {"data": "a"}) == plan
    with pytest.raises(InputError, match="another data"):
        Plan.read(tmp_path, {"data": "b"})
