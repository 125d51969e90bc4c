"""What all rows of one task and one seed have in common, and what a row leaves behind when it is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from towers.train.compare.results import write_whole
from towers.train.pretraining.pretrain import PretrainRecipe
from towers.train.recipe import Recipe
from towers.train.sentiment import MAX_TOKENS, SentimentRecipe

BUNDLE = "bundle"
_ROW = "row.json"
# Fewer steps than this are no training at all: warmup and schedule need some.
LEAST_STEPS = 8
# A classifier's new head starts from nothing, and all rows that go on from it would compare guesses: 64 steps of 32
# texts bring SST-5 off the ground.
LEAST_STEPS_OF_HEAD = 64
_TRAINING = {"pretrain", "distil", "tune", "exits", "cross", "scorer"}  # stages that draw from a seed
# Held-out texts that the loss of further pretraining is measured on: at full length, and at the least.
_PROBE_TEXTS, _LEAST_PROBE_TEXTS = 1000, 200

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One task, one seed.

    Attributes:
        work: Folder of the whole comparison.
        task: "match" or "sentiment".
        seed: Of all that is random in training.
        factor: Share of its recipe's steps that each training gets; the same for all rows, so that they stay fair.
        recipes: Name -> recipe of this task.
        base: Checkpoint, as in `base.resolve_checkpoint`.
        base_licence: As stated; goes into the bundles.
        bf16: Train in bfloat16.
        max_tokens: Longest text in tokens, in training and in heads; the base may take fewer than the recipes.
    """

    work: Path
    task: str
    seed: int
    factor: float
    recipes: Mapping[str, Recipe]
    base: str | None = None
    base_licence: str = "not given"
    bf16: bool = False
    max_tokens: int = MAX_TOKENS

    def folder(self, recipe: Recipe) -> Path:
        """Return the folder of a recipe's row."""
        return self.work / "rows" / self.task / recipe.name / f"seed-{self.seed}"

    @property
    def cache(self) -> Path:
        """Folder for what teachers said, which all their students share."""
        return self.work / "teachers"

    def steps(self, stage: Any, *, least: int = LEAST_STEPS) -> int:
        """Return how many steps a stage of a recipe gets."""
        return max(least, round(float(stage.steps) * self.factor))

    def scaled(self, stage: T, *, least: int = LEAST_STEPS) -> T:
        """Return a training stage's settings with this comparison's steps, at least `least`, its seed and precision."""
        known = {entry.name for entry in fields(stage)}  # type: ignore[arg-type]
        wanted = {
            "steps": self.steps(stage, least=least),
            "seed": self.seed,
            "bf16": self.bf16,
            "max_tokens": self.max_tokens,
        }
        return replace(stage, **{name: value for name, value in wanted.items() if name in known})  # type: ignore[type-var]

    def seeded(self, recipe: Recipe) -> bool:
        """Say whether a recipe, or what it goes on from, trains anything: only then does the seed play a part."""
        start = self.recipes.get(recipe.start)
        return bool(_TRAINING & set(recipe.stages)) or (start is not None and self.seeded(start))

    def tuning(self, recipe: Recipe) -> SentimentRecipe:
        """Return the settings, as they are followed, of the [tune] that a sentiment recipe ends in or goes on from."""
        if "tune" in recipe.stages:
            tune: SentimentRecipe = self._followed(recipe, "tune")
            return tune
        start = self.recipes.get(recipe.start)
        return SentimentRecipe(seed=self.seed) if start is None else self.tuning(start)

    def told(self, recipe: Recipe) -> dict[str, Any]:
        """Return what a manifest says: a recipe's settings as they were followed, and those of what it goes on from."""
        stages = {name: asdict(self._followed(recipe, name)) for name in recipe.stages}
        others = {name: self.recipes.get(getattr(recipe, name)) for name in ("start", "teacher")}
        return (
            recipe.to_dict()
            | {"stages": stages, "seed": self.seed, "share_of_steps": self.factor}
            | {name: self.told(other) for name, other in others.items() if other is not None}
        )

    def _followed(self, recipe: Recipe, name: str) -> Any:
        """The settings of a stage with the steps that it gets here."""
        stage = recipe.stages[name]
        if name not in _TRAINING:
            return stage
        if not hasattr(stage, "steps"):  # the scorer, which trains to its end
            return replace(stage, seed=self.seed)
        return self.scaled(stage, least=least_steps(recipe, stage))

    def pretraining(self, stage: PretrainRecipe, *, texts: int) -> PretrainRecipe:
        """Return further pretraining's settings; few steps are measured less often, and on fewer of its `texts`."""
        probe = max(_LEAST_PROBE_TEXTS, self.factor * _PROBE_TEXTS)
        return replace(
            self.scaled(stage),
            points=max(1, round(self.factor * stage.points)),
            dev_share=min(stage.dev_share, probe / max(1, texts)),
        )


def least_steps(recipe: Recipe, stage: Any) -> int:
    """Return the steps that a training stage of a recipe gets even where the budget has none for it."""
    new_head = recipe.task == "sentiment" and recipe.start == "base" and stage is recipe.stages.get("tune")
    return min(LEAST_STEPS_OF_HEAD, int(stage.steps)) if new_head else LEAST_STEPS


@dataclass(frozen=True)
class Made:
    """A row that is made, before it is timed.

    Attributes:
        metric: Name of the quality that rows are compared by.
        quality: Metric -> value, on the test part.
        steps: Optimiser steps of this row alone, not of what it started from.
        seconds: That they took.
        bundle: Folder name beside row.json; None where there is none.
        notes: What a reader must know.
        curves: Further figures: "exits" (layers, counts), "masked_loss" (steps, loss), "cost".
        failed: The reason, where there is no quality.
    """

    metric: str = ""
    quality: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    bundle: str | None = None
    notes: list[str] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    failed: str | None = None

    def write(self, folder: Path) -> None:
        """Write row.json, last of all that belongs to the row."""
        write_whole(folder / _ROW, json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Made | None:
        """Read it back; None if the row is not made yet, or failed: then it is tried again."""
        path = folder / _ROW
        if not path.is_file():
            return None
        made = cls(**json.loads(path.read_text(encoding="utf-8")))
        return None if made.failed else made
