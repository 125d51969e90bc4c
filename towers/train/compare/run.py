"""A whole comparison: plan, make every row, time them side by side, put the results together.

Everything that took time is kept in the working folder. A run that was killed goes on with the first row that is not
made yet, and inside it with what its stages have kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from towers.bundle import LAYOUT, Bundle
from towers.errors import InputError
from towers.train.base import base_key, load_tower
from towers.train.card import model_card
from towers.train.compare.classify import SentimentRows
from towers.train.compare.data import MatchData, TextData
from towers.train.compare.learning import FULL, learning_points
from towers.train.compare.match import MatchRows
from towers.train.compare.measure import Contestant, Timing, match_calls, sentiment_calls, time_rows
from towers.train.compare.plan import Plan, in_order, make_plan, pass_seconds
from towers.train.compare.results import Results
from towers.train.compare.setting import BUNDLE, Made, Setting
from towers.train.compare.ship import copied
from towers.train.compare.tell import counts_of, curves_of, data_facts, machine_facts, row_of, versions
from towers.train.cross.cross_encoder import CROSS_FACTS, save_cross
from towers.train.exporting.assemble import tower_parts
from towers.train.recipe import Recipe, shipped_recipes
from towers.train.sentiment import MAX_TOKENS
from towers.train.whole import check_replaceable
from towers.train.write import write_bundle

FIRST_SEED = 13
_TOWERS = "towers"  # folder of the bundle that sentiment heads are put into
log = logging.getLogger(__name__)

Say = Callable[[str], None]
Key = tuple[str, str]  # task and name of a row


@dataclass(frozen=True)
class Options:
    """What a comparison is asked for.

    Attributes:
        match: Pairs; None leaves the task out.
        sentiment: Texts; None leaves the task out.
        recipes: The rows; what they are compared with or go on from is added.
        budget_s: Seconds in all, about.
        base: Checkpoint, as in `base.resolve_checkpoint`.
        base_licence: As stated.
        bf16: Train in bfloat16; None: where a step is measured to be faster so.
        command: The command line, for the report.
    """

    match: MatchData | None
    sentiment: TextData | None
    recipes: Sequence[Recipe]
    budget_s: float
    base: str | None = None
    base_licence: str = "not given"
    bf16: bool | None = None
    command: str = ""

    @property
    def data(self) -> dict[str, MatchData | TextData]:
        """Task -> its data, of the tasks that there are."""
        found: dict[str, MatchData | TextData | None] = {"match": self.match, "sentiment": self.sentiment}
        return {task: data for task, data in found.items() if data is not None}

    @property
    def known(self) -> dict[Key, Recipe]:
        """All recipes that a row may name."""
        return {(recipe.task, recipe.name): recipe for recipe in (*shipped_recipes(), *self.recipes)}


def compare(options: Options, *, work: Path, say: Say = print) -> Results:
    """Make and measure all rows; go on with the run in `work`, if there is one.

    Args:
        options: What is compared.
        work: Folder for everything that is made.
        say: Takes a line of progress.

    Raises:
        InputError: No data, or `work` holds another comparison.
    """
    recipes = in_order([one for one in options.recipes if one.task in options.data], options.known)
    if not recipes:
        raise InputError(
            "found no recipe for the data given: pairs need recipes of match, texts those of sentiment"
        )
    plan = _plan(options, recipes, work, say)
    options = replace(options, bf16=plan.bf16)
    seeds = list(range(FIRST_SEED, FIRST_SEED + plan.seeds))
    runs = [_Run(options, work=work, seed=seed, factor=plan.factor) for seed in seeds]
    made = _make_all(runs, recipes, say)
    say("Timing all rows, in turns.")
    timings = _timings(runs[0], recipes, made)
    say("Drawing the learning curves.")
    learning = [
        point
        for task, data in options.data.items()
        if (task, FULL) in made and not made[task, FULL][0].failed
        for point in learning_points(data, [run.settings[task] for run in runs])
    ]
    rows = []
    for recipe in recipes:
        key = (recipe.task, recipe.name)
        counts = counts_of(recipe, runs[0].settings[recipe.task])
        seeded = runs[0].settings[recipe.task].seeded(recipe)
        rows.append(row_of(recipe, made[key], seeds, seeded=seeded, timing=timings.get(key), counts=counts))
    return Results(
        machine=machine_facts(),
        versions=versions(),
        command=options.command,
        budget_s=options.budget_s,
        data={task: data_facts(data.facts()) for task, data in options.data.items()},
        rows=rows,
        curves=curves_of(made, learning),
    )


def make_alone(
    options: Options, *, seed: int, factor: float, work: Path, out: Path, replace: bool = False
) -> tuple[Made, Bundle]:
    """Make the bundle of one recipe, and what it goes on from, with a share of the recipes' own steps.

    Raises:
        InputError: The recipe makes no bundle, or `work` holds a run with other data or settings.
    """
    run, wanted = _alone(options, seed=seed, factor=factor, work=work)
    if wanted.engine != "onnx" or "cross" in wanted.stages:
        raise InputError(
            f"recipe {wanted.name} makes no bundle; it is there to be compared with. Choose another one."
        )
    made = run.maker(wanted.task).make(wanted)
    return made, copied(run.settings[wanted.task].folder(wanted) / BUNDLE, out, replace=replace)


def cross_alone(
    options: Options, *, seed: int, factor: float, work: Path, out: Path, replace: bool = False
) -> Made:
    """Train the cross-encoder of one recipe, save it as a checkpoint, and measure it on held-out pairs.

    Raises:
        InputError: `work` holds a run with other data or settings, or `out` may not be replaced.
    """
    check_replaceable(out, what="cross-encoder that was trained here", marker=CROSS_FACTS, replace=replace)
    run, wanted = _alone(options, seed=seed, factor=factor, work=work)
    maker = run.maker(wanted.task)
    assert isinstance(maker, MatchRows)
    made = maker.make(wanted)
    save_cross(maker.cross(wanted), out, run.settings[wanted.task].scaled(wanted.stages["cross"]))
    return made


def _alone(options: Options, *, seed: int, factor: float, work: Path) -> tuple[_Run, Recipe]:
    """The run of one recipe, and the recipe; what `work` holds already must be the same run."""
    recipes = in_order(options.recipes, options.known)
    fingerprint = _fingerprint(options, recipes) | {"share of steps": str(factor), "seed": str(seed)}
    plan = Plan.read(work, fingerprint)
    if plan is None:
        plan = Plan(factor, 1, fingerprint, 0.0, _precision(options)[0])
        plan.write(work)
    options = replace(options, bf16=plan.bf16)
    return _Run(options, work=work, seed=seed, factor=factor), options.recipes[0]


class _Run:
    """One seed: the settings of each task, and the makers of rows, opened when the first row is to be made."""

    def __init__(self, options: Options, *, work: Path, seed: int, factor: float) -> None:
        self._options = options
        self._makers: dict[str, MatchRows | SentimentRows] = {}
        most = min(MAX_TOKENS, int(load_tower(options.base).max_seq_length or MAX_TOKENS))
        self.settings = {
            task: Setting(
                work=work,
                task=task,
                seed=seed,
                factor=factor,
                recipes={name: recipe for (of, name), recipe in options.known.items() if of == task},
                base=options.base,
                base_licence=options.base_licence,
                bf16=bool(options.bf16),
                max_tokens=most,
            )
            for task in options.data
        }

    def maker(self, task: str) -> MatchRows | SentimentRows:
        """Return what makes the rows of a task."""
        if task not in self._makers:
            data, setting = self._options.data[task], self.settings[task]
            self._makers[task] = (
                MatchRows(data, setting)
                if isinstance(data, MatchData)
                else SentimentRows(data, setting, towers=_towers(setting))
            )
        return self._makers[task]

    def asked(self, task: str) -> list[str]:
        """Return the held-out texts that rows are timed on."""
        return self._options.data[task].asked

    def contestant(self, recipe: Recipe, made: Made) -> Contestant | None:
        """Return what is timed of a row; None where nothing can be."""
        key = (recipe.task, recipe.name)
        if recipe.engine == "torch":
            return Contestant(key, partial(self.maker(recipe.task).torch_calls, recipe))
        if made.bundle is None:
            return None
        opened = match_calls if recipe.task == "match" else sentiment_calls
        return Contestant(key, partial(opened, self.settings[recipe.task].folder(recipe) / made.bundle))


def _plan(options: Options, recipes: Sequence[Recipe], work: Path, say: Say) -> Plan:
    fingerprint = _fingerprint(options, recipes)
    plan = Plan.read(work, fingerprint)
    if plan is not None:
        say(f"Going on with the comparison in {work}.")
        return plan
    bf16, pass_s = _precision(options)
    plan = make_plan(
        recipes,
        pass_s=pass_s,
        texts={task: data.held_out for task, data in options.data.items()},
        budget_s=options.budget_s,
        fingerprint=fingerprint,
        bf16=bf16,
    )
    plan.write(work)
    say(
        f"{len(recipes)} rows, {plan.seeds} seed{'s' * (plan.seeds > 1)}, {100 * plan.factor:.3g}% of the recipes' "
        f"steps: about {plan.expected_s / 60:.0f} minutes."
    )
    if plan.expected_s > options.budget_s:
        say(
            f"That is more than the {options.budget_s / 60:.0f} minutes of the budget; fewer steps train nothing. "
            "Fewer --recipes take less."
        )
    return plan


def _precision(options: Options) -> tuple[bool, dict[str, float]]:
    """Say whether to train in bfloat16, and the seconds of a pass over each task's texts so.

    Where it is not asked for it is measured: some processors name bfloat16 among their flags and are slower in it.
    """
    passes = {
        bf16: {task: pass_seconds(options.base, x.texts, bf16=bf16) for task, x in options.data.items()}
        for bf16 in ([False, True] if options.bf16 is None else [options.bf16])
    }
    bf16 = min(passes, key=lambda one: sum(passes[one].values()))
    return bf16, passes[bf16]


def _make_all(runs: Sequence[_Run], recipes: Sequence[Recipe], say: Say) -> dict[Key, list[Made]]:
    """Make all rows of the first seed, then of the next; rows that are made already are read."""
    made: dict[Key, list[Made]] = {(one.task, one.name): [] for one in recipes}
    total, place, started = len(runs) * len(recipes), 0, time.monotonic()
    for run in runs:
        for recipe in recipes:
            place += 1
            row = Made.read(run.settings[recipe.task].folder(recipe))
            if row is None:
                row = _make(run, recipe)
                say(f"[{place}/{total}] {(time.monotonic() - started) / 60:4.1f} min  {_line(recipe, row)}")
            made[recipe.task, recipe.name].append(row)
    return made


def _make(run: _Run, recipe: Recipe) -> Made:
    """Make a row; of one that fails the reason is told, and the others go on."""
    setting = run.settings[recipe.task]
    try:
        row = run.maker(recipe.task).make(recipe)
    except Exception as exc:  # of any library that it went through; the other rows do not depend on it
        log.exception("row %s of %s failed", recipe.name, recipe.task)
        row = Made(failed=f"{type(exc).__name__}: {exc}")
    row.write(setting.folder(recipe))
    needed = any(recipe.name in (one.start, one.teacher) for one in setting.recipes.values())
    if not row.failed and not needed:
        shutil.rmtree(setting.folder(recipe) / "work", ignore_errors=True)
    return row


def _timings(run: _Run, recipes: Sequence[Recipe], made: Mapping[Key, Sequence[Made]]) -> dict[Key, Timing]:
    timings: dict[Key, Timing] = {}
    for task in run.settings:
        contestants = [
            contestant
            for recipe in recipes
            if recipe.task == task
            and not made[task, recipe.name][0].failed
            and (contestant := run.contestant(recipe, made[task, recipe.name][0])) is not None
        ]
        timings |= time_rows(contestants, run.asked(task), reference=(task, FULL))
    return timings


def _towers(setting: Setting) -> Path:
    """The bundle that heads are put into: the base's towers in int8 with plain cosine; made once."""
    path = setting.work / _TOWERS
    if not (path / LAYOUT.manifest).is_file():
        licences: dict[str, Any] = dict.fromkeys(("base_licence", "licence"), setting.base_licence)
        parts = tower_parts(load_tower(setting.base), base=setting.base, **licences)
        parts.extra_files[LAYOUT.card] = model_card(parts.facts)
        write_bundle(path, parts, replace=True)
    return path


def _line(recipe: Recipe, row: Made) -> str:
    what = f"failed: {row.failed}" if row.failed else f"{row.metric} {row.quality[row.metric]:.4f}"
    steps = f", {row.steps} steps" if row.steps else ""
    return f"{recipe.task} {recipe.name}: {what}{steps}"


def _fingerprint(options: Options, recipes: Sequence[Recipe]) -> dict[str, str]:
    facts: dict[str, Any] = {
        "set of data": {task: data.facts() for task, data in options.data.items()},
        "list of recipes": [recipe.to_dict() for recipe in recipes],
        "base": base_key(options.base),
        "budget": options.budget_s,
        "precision of training": options.bf16,
    }
    return {
        name: hashlib.sha256(json.dumps(fact, sort_keys=True, default=str).encode()).hexdigest()
        for name, fact in facts.items()
    }
