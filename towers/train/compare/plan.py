"""How many steps and seeds a time budget allows: one share of every recipe's steps, the same for all rows.

The steps are fixed before the first row is trained and kept in plan.json, so that a run that was interrupted goes on
with the same ones, and no row is favoured because the machine had a quiet minute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from towers.errors import InputError
from towers.train.base import load_tower
from towers.train.bodies import body_of
from towers.train.compare.results import write_whole
from towers.train.compare.setting import least_steps
from towers.train.recipe import Recipe

_PLAN = "plan.json"
LAYERS = 6  # of the default base; costs are relative, so another depth changes little

# Cost of one step in forward and backward passes of the uncut model over as many texts. Counted, not measured: a pair
# with a mined negative is three texts, a masked-LM ends in the whole vocabulary, a cross-encoder reads two texts.
_PASSES = {"pretrain": 2.5, "distil": 1.0, "exits": 1.1, "cross": 2.0}
_TUNE = {"match": 3.0, "sentiment": 1.0}
# Seconds, on two cores of 2025; of a row that is not trained: writing, opening, timing. And of tracing a structure.
_ROW_S, _TRACE_S = 5.0, 9.0
# With less than this share of the recipes' steps, one seed; from here on the budget goes into more seeds. Guesses.
_SECOND_SEED, _THIRD_SEED = 0.25, 0.75
_RESERVE = 0.9  # of the budget is planned; what was estimated is never quite right


@dataclass(frozen=True)
class Plan:
    """What a comparison will do.

    Attributes:
        factor: Share of each recipe's steps.
        seeds: How many, from the first one on.
        fingerprint: Of data, recipes and base, which must be the same when it goes on.
        expected_s: Seconds that it should take in all.
        bf16: Whether it trains in bfloat16.
    """

    factor: float
    seeds: int
    fingerprint: Mapping[str, str]
    expected_s: float
    bf16: bool = False

    def write(self, work: Path) -> None:
        """Keep the plan in the working folder."""
        write_whole(work / _PLAN, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, work: Path, fingerprint: Mapping[str, str]) -> Plan | None:
        """Return the plan of the run in the working folder; None if there is none.

        Raises:
            InputError: It was made for other data, recipes or settings.
        """
        path = work / _PLAN
        if not path.is_file():
            return None
        plan = cls(**json.loads(path.read_text(encoding="utf-8")))
        odd = sorted(key for key in fingerprint if plan.fingerprint.get(key) != fingerprint[key])
        if odd:
            raise InputError(
                f"{work} holds a comparison with another {' and another '.join(odd)}. Repeat its command to go on with "
                "it, or choose another folder."
            )
        return plan


def make_plan(
    recipes: Sequence[Recipe],
    *,
    pass_s: Mapping[str, float],
    texts: Mapping[str, int],
    budget_s: float,
    fingerprint: Mapping[str, str],
    bf16: bool = False,
) -> Plan:
    """Plan a comparison.

    Args:
        recipes: All rows.
        pass_s: Task -> seconds of a forward and backward pass over 32 of its texts, see `one_pass`.
        texts: Task -> how many held-out texts each row encodes.
        budget_s: Seconds in all.
        fingerprint: As in `Plan`.
        bf16: As in `Plan`; `pass_s` was measured so.
    """
    fixed = sum(_ROW_S + texts[one.task] * pass_s[one.task] / 32 / 3 for one in recipes)
    fixed += _TRACE_S * len({(one.task, *sorted(_structure(one))) for one in recipes})

    def training(factor: float) -> float:
        return sum(training_passes(one, factor=factor) * pass_s[one.task] for one in recipes)

    alone = _factor(training, _RESERVE * budget_s - fixed)
    seeds = 1 + (alone >= _SECOND_SEED) + (alone >= _THIRD_SEED)
    factor = alone if seeds == 1 else _factor(training, _RESERVE * budget_s / seeds - fixed)
    return Plan(factor, seeds, dict(fingerprint), seeds * (fixed + training(factor)), bf16)


def _factor(training: Callable[[float], float], seconds: float) -> float:
    """The largest share of the steps, at most 1, that fits; 0 where not even the least steps do."""
    low, high = 0.0, 1.0
    if training(high) <= seconds:
        return high
    for _ in range(20):  # to a millionth: steps are whole numbers far below that
        middle = (low + high) / 2
        low, high = (middle, high) if training(middle) <= seconds else (low, middle)
    return low


def training_passes(recipe: Recipe, *, factor: float = 1.0) -> float:
    """Return the cost of a recipe's training, in passes of the uncut model over 32 texts.

    Args:
        recipe: The recipe.
        factor: Share of its steps; below the least steps it costs no less.
    """
    stages, total = recipe.stages, 0.0
    for name, settings in stages.items():
        each = _TUNE[recipe.task] if name == "tune" else _PASSES.get(name, 0.0)
        if not each:
            continue
        if name == "tune" and "adversarial" in stages:
            each *= len(stages["adversarial"].weights)  # passes in a step
        steps = max(least_steps(recipe, settings), factor * settings.steps)
        total += each * _size(stages) * steps * settings.batch_size / 32
    return total


def pass_seconds(base: str | None, texts: Sequence[str], *, bf16: bool, rounds: int = 3) -> float:
    """Measure seconds of a training step of the base's body over 32 of the texts: forward, backward, AdamW."""
    tower = load_tower(base)
    model = body_of(tower)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    chosen = list(texts[:: max(1, len(texts) // 32)][:32])
    batch = tower.tokenizer(chosen, padding=True, truncation=True, return_tensors="pt")
    spent = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(**batch).last_hidden_state.float().square().mean().backward()
        optimizer.step()
        spent.append(time.perf_counter() - start)
        model.zero_grad()
    return median(spent[1:])


def in_order(recipes: Sequence[Recipe], known: Mapping[tuple[str, str], Recipe]) -> list[Recipe]:
    """Return the recipes, and all that they go on from or are compared with, each after what it needs.

    Raises:
        InputError: A recipe names another that does not exist, or two need each other.
    """
    done: dict[tuple[str, str], Recipe] = {}

    def add(recipe: Recipe, path: tuple[str, ...]) -> None:
        if recipe.name in path:
            raise InputError(f"recipes need each other: {' -> '.join((*path, recipe.name))}")
        if (recipe.task, recipe.name) in done:
            return
        for name in _needs(recipe):
            if (recipe.task, name) not in known:
                raise InputError(
                    f"recipe {recipe.name} names {name!r}, and no recipe of {recipe.task} has that name"
                )
            add(known[recipe.task, name], (*path, recipe.name))
        _check_start(recipe, known)
        done[recipe.task, recipe.name] = recipe

    for recipe in recipes:
        add(recipe, ())
    return list(done.values())


def _check_start(recipe: Recipe, known: Mapping[tuple[str, str], Recipe]) -> None:
    """Refuse to go on from what leaves nothing behind to go on from, or what a stage would spoil."""
    start = known.get((recipe.task, recipe.start))
    if start is None:
        return
    odd = [f"[{name}]" for name in ("exits", "cross") if name in start.stages]
    if start.engine != "onnx":
        odd.append(f"the engine {start.engine}")
    if odd:
        raise InputError(
            f"recipe {recipe.name} starts from {start.name}, which has {' and '.join(odd)}; expected one that leaves "
            "towers or a classifier without exits"
        )
    if start.query_cut and "tune" in recipe.stages:
        raise InputError(
            f"recipe {recipe.name}: [tune] would move the queries of {start.name} away from titles that keep their "
            "vectors; remove it, or start from another recipe"
        )


def _needs(recipe: Recipe) -> list[str]:
    needed = (recipe.start, recipe.teacher, recipe.against)
    return [name for name in dict.fromkeys(needed) if name not in ("", "base", recipe.name)]


def _structure(recipe: Recipe) -> set[str]:
    return {name for name in recipe.stages if name in ("cut", "narrow", "albert", "lstm", "head", "exits")}


def _size(stages: Mapping[str, Any]) -> float:
    """Size of the model that a recipe trains, as a share of the uncut one."""
    if "cut" in stages:
        return len(stages["cut"].chosen(LAYERS)) / LAYERS
    return 0.5 if "narrow" in stages else 1.0
