"""The search for good settings: Trainer.hyperparameter_search with optuna, one trial at a time.

Trials lie in a SQLite file, which survives a killed process. What a trial tries depends on the seed, its turn and the
trials before it alone, so that a search that was interrupted ends as one that was not: a trial that a kill cut off is
marked as failed, and made again.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towers.train.base import load_classifier
from towers.train.classifiers.tune_training import Setting, TuneRecipe, evaluating, make_trainer
from towers.train.whole import whole_directory

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_STUDY = "study.db"
_NAME = "tune"
_BEST = "best"  # folder of the best trial's model, named with the trial's number inside
_NUMBER = "trial.json"
# Trials before the first one may be pruned, and steps of a trial before it may: guess, untested.
_STARTUP = 3


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        number: The best trial's.
        parameters: Its settings, by the Trainer's names.
        trials: One entry a trial that ended, in order: number, state, value, seconds, parameters.
    """

    number: int
    parameters: Mapping[str, Any]
    trials: tuple[Mapping[str, Any], ...]


def search(setting: Setting) -> Found:
    """Make the trials that are still missing, and return the best of all."""
    with _quiet():
        study = _open(setting)
        _fail_cut_off(study)
        _begin_with_the_recipe(study, setting.recipe)
        while (done := len(_ended(study))) < setting.recipe.trials:
            _one_trial(setting, study, turn=done)
        best = study.best_trial
        return Found(best.number, _arguments(best.params), tuple(_entry(x) for x in _ended(study)))


def best_model(setting: Setting, found: Found) -> tuple[Any, Any] | None:
    """Return the best trial's model and tokenizer; None where a kill came between its end and its saving."""
    folder = setting.work / _BEST
    noted = folder / _NUMBER
    if not noted.is_file() or json.loads(noted.read_text(encoding="utf-8")) != found.number:
        return None
    model, tokenizer = load_classifier(folder, num_labels=setting.data.task.outputs)
    return model, tokenizer


def space(trial: Trial, recipe: TuneRecipe) -> dict[str, Any]:
    """What a trial tries, by the Trainer's names.

    The rate is searched within a factor of 5 of the recipe's: around 5e-5 that covers those of Devlin et al. 2019, A.3
    (2e-5 to 5e-5) and the higher ones that small models want. Warm-up and decay go from none to twice and ten times
    theirs; guess, untested.
    """
    sizes = sorted({max(1, recipe.batch_size // 2), recipe.batch_size})
    rate = recipe.learning_rate
    return {
        "learning_rate": trial.suggest_float("learning_rate", rate / 5, rate * 5, log=True),
        "per_device_train_batch_size": trial.suggest_categorical("batch_size", sizes),
        "warmup_steps": trial.suggest_float("warmup", 0.0, max(0.2, recipe.warmup)),
        "weight_decay": trial.suggest_float("weight_decay", 0.0, max(0.1, recipe.weight_decay)),
    }


def _begin_with_the_recipe(study: Study, recipe: TuneRecipe) -> None:
    """Let the first trial try the recipe's own settings, so that a search never does worse than none."""
    from optuna.trial import TrialState

    if not _ended(study) and not study.get_trials(states=(TrialState.WAITING,)):
        names = ("learning_rate", "batch_size", "warmup", "weight_decay")
        study.enqueue_trial({name: getattr(recipe, name) for name in names})


def _one_trial(setting: Setting, study: Study, *, turn: int) -> None:
    import optuna

    folder = setting.work / "trials"
    trainer = make_trainer(setting, folder, save_strategy="no")
    keeper = _keeper(setting.recipe.evaluations)
    trainer.add_callback(keeper)
    trainer.hyperparameter_search(
        backend="optuna",
        direction="maximize",
        n_trials=1,
        hp_space=lambda trial: space(trial, setting.recipe),
        compute_objective=lambda metrics: float(metrics["eval_objective"]),
        study_name=_NAME,
        storage=_storage(setting.work),
        load_if_exists=True,
        sampler=_sampler(setting.recipe.seed + turn),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
    )
    last = _ended(study)[-1]
    if last.number == study.best_trial.number:
        _save(setting.work / _BEST, keeper.model, trainer.processing_class, last.number)
    shutil.rmtree(folder, ignore_errors=True)


def _keeper(evaluations: int) -> Any:
    """A callback that holds a trial's model at its end: the Trainer lets go of it before it says how good it was."""

    class Keeper(evaluating(evaluations)):  # type: ignore[misc]
        model: Any = None

        def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.model = rest["model"]

    return Keeper()


def _save(folder: Path, model: Any, tokenizer: Any, number: int) -> None:
    """Save a trial's model in the place of an earlier one, whole or not at all."""
    with whole_directory(folder) as made:
        model.cpu().save_pretrained(made)
        tokenizer.save_pretrained(made)
        (made / _NUMBER).write_text(json.dumps(number), encoding="utf-8")


def _open(setting: Setting) -> Study:
    import optuna

    return optuna.create_study(
        study_name=_NAME, storage=_storage(setting.work), direction="maximize", load_if_exists=True
    )


def _storage(work: Path) -> str:
    return f"sqlite:///{work.resolve() / _STUDY}"


def _sampler(seed: int) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed)


def _fail_cut_off(study: Study) -> None:
    """Mark the trial that an earlier process was in when it ended."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _ended(study: Study) -> list[FrozenTrial]:
    """The trials that came to a value."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _entry(trial: FrozenTrial) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value,
        "seconds": round(seconds, 1),
        **trial.params,
    }


def _arguments(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters by the Trainer's names."""
    names = {"batch_size": "per_device_train_batch_size", "warmup": "warmup_steps"}
    return {names.get(name, name): value for name, value in parameters.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back optuna's line for each trial: the table at the end says the same."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
