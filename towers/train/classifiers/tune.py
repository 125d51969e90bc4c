"""Fine-tuning AutoModelForSequenceClassification with the Trainer, for any task of texts or pairs of texts.

With `trials`, hyper-parameters are searched first (`tune_search.py`), and the best model is kept. Either way the run is
resumable: a search between trials, a training between checkpoints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.train.adversarial import AdversarialRecipe
from towers.train.classifiers.examples import Task, TaskData
from towers.train.classifiers.task_metrics import task_report
from towers.train.classifiers.tune_search import best_model, search
from towers.train.classifiers.tune_training import Setting, TuneRecipe, evaluating, make_trainer, predict
from towers.train.fit import prepare_work
from towers.train.sentiment import fit_temperature
from towers.train.trainer import after_training, newest_checkpoint

_TRAINING = "training"  # folder, in the working folder, of the checkpoints


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned classifier.

    Attributes:
        model: A transformers model of `task.outputs` outputs.
        tokenizer: Its transformers tokenizer.
        task: What it answers.
        metrics: Name of a held-out set -> measures.
        measured_on: What these sets are and what they chose beforehand, in words for people.
        temperature: Divides the logits (1 in a regression), chosen on the set that decides.
        recipe: Settings as plain values.
        parameters: What the search chose, by the Trainer's names; empty without a search.
        trials: One entry a trial: number, state, value, seconds, parameters.
    """

    model: Any
    tokenizer: Any
    task: Task
    metrics: Mapping[str, Any]
    measured_on: str
    temperature: float
    recipe: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    trials: tuple[Mapping[str, Any], ...] = ()


def tune(
    data: TaskData,
    *,
    checkpoint: str | Path | None = None,
    recipe: TuneRecipe | None = None,
    adversarial: AdversarialRecipe | None = None,
    work: Path,
    resume: bool = False,
) -> Tuned:
    """Fine-tune a classifier, after a search for good settings if the recipe has trials.

    Args:
        data: The task and its examples.
        checkpoint: As in `base.resolve_checkpoint`.
        recipe: Settings; None for the defaults.
        adversarial: Perturb the texts' embeddings in training; None does not.
        work: Folder for the study and the checkpoints. It is emptied unless `resume`.
        resume: Go on with the run in `work`; a search may be given more trials.

    Raises:
        InputError: `work` holds a run with other settings or data.
    """
    recipe = recipe or TuneRecipe()
    setting = Setting(data, checkpoint, recipe, adversarial, work)
    prepare_work(work, _fingerprint(setting), resume=resume)
    found = search(setting) if recipe.trials else None
    parameters = found.parameters if found else {}
    model, tokenizer = (found and best_model(setting, found)) or _train(setting, parameters)
    options: dict[str, Any] = {"max_tokens": recipe.max_tokens, "prefix": recipe.prefix}
    outputs = {name: predict(model, tokenizer, rows, **options) for name, rows in data.reported.items()}
    if data.test is None:
        deciding = next(iter(outputs.values()))
    else:
        deciding = predict(model, tokenizer, data.deciding, **options)
    return Tuned(
        model=model,
        tokenizer=tokenizer,
        task=data.task,
        metrics={
            name: task_report(data.task, data.reported[name].labels, found) for name, found in outputs.items()
        },
        measured_on=_measured_on(data, searched=found is not None),
        temperature=_temperature(data, deciding),
        recipe=asdict(recipe) | ({"adversarial": asdict(adversarial)} if adversarial else {}),
        parameters=parameters,
        trials=found.trials if found else (),
    )


def _train(setting: Setting, parameters: Mapping[str, Any]) -> tuple[Any, Any]:

    folder = setting.work / _TRAINING
    trainer = make_trainer(setting, folder, **parameters)
    if parameters:  # as in the trial, since measuring draws random numbers
        trainer.add_callback(evaluating(setting.recipe.evaluations)())
    last = newest_checkpoint(folder)
    trainer.train(resume_from_checkpoint=last)
    after_training(trainer.model)
    return trainer.model, trainer.processing_class


def _temperature(data: TaskData, logits: NDArray[np.float32]) -> float:
    if data.task.is_regression:
        return 1.0
    return fit_temperature(logits, data.deciding.labels - 1)


def _measured_on(data: TaskData, *, searched: bool) -> str:
    """Say what the first of the sets that figures come from has chosen."""
    name = next(iter(data.reported))
    chosen = ["the settings"] * searched + ["the temperature"] * (not data.task.is_regression)
    if data.test is not None or not chosen:
        return f"{name}, held-out examples that chose nothing"
    what = f"{name}, held-out examples that chose {' and '.join(chosen)} as well"
    return f"{what}: expect less of new ones" if searched else what


def _fingerprint(setting: Setting) -> dict[str, str]:
    """All that the trainings depend on; a search may get more trials later."""
    digest = hashlib.sha256(repr(setting.data.task).encode())
    test = [] if setting.data.test is None else [setting.data.test]
    for examples in (setting.data.train, *setting.data.dev.values(), *test):
        digest.update(json.dumps([examples.texts, examples.pairs, examples.labels.tolist()]).encode())
    settings = asdict(setting.recipe)
    is_search = settings.pop("trials") > 0
    adversarial = asdict(setting.adversarial) if setting.adversarial else None
    return {
        "data": digest.hexdigest(),
        "base": str(setting.checkpoint or "default"),
        "settings": json.dumps([settings, is_search, adversarial], sort_keys=True),
    }
