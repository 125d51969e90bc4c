"""Fine-tuning classifiers on GLUE's tasks: training, the search, and how both go on after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.towers.train.glue_folder import write_glue
from towers import InputError
from towers.train.adversarial import AdversarialRecipe
from towers.train.classifiers.glue import GLUE, load_glue
from towers.train.classifiers.tune import Tuned, tune
from towers.train.classifiers.tune_training import Setting, TuneRecipe, make_trainer

QUICK = TuneRecipe(steps=6, batch_size=8, max_tokens=24, save_steps=3, evaluations=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"), rows=40)


@pytest.mark.parametrize("name", GLUE)
def test_every_task_is_trained_and_measured(
    folder: Path, checkpoint: Path, tmp_path: Path, name: str
) -> None:
    """Each of the nine is trained from its official files and measured by its own metrics on its dev sets."""
    data = load_glue(name, folder)
    tuned = tune(data, checkpoint=checkpoint, recipe=replace(QUICK, steps=1), work=tmp_path)
    assert list(tuned.metrics) == list(data.dev)
    for dev, found in tuned.metrics.items():
        assert list(found) == ["rows", *data.task.metrics, "objective"]
        assert found["rows"] == len(data.dev[dev])
    assert tuned.model.config.num_labels == data.task.outputs


def test_it_learns_what_is_plain(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    """A tiny BERT with random weights learns good from bad."""
    recipe = replace(QUICK, steps=60, learning_rate=1e-2, save_steps=100)
    tuned = tune(load_glue("sst2", folder), checkpoint=checkpoint, recipe=recipe, work=tmp_path)
    assert tuned.metrics["validation"]["accuracy"] > 0.9
    assert tuned.model.config.id2label == {0: "negative", 1: "positive"}


def test_a_search_that_is_continued_ends_as_one_that_was_not(
    folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Two trials and then one more try what three in one go try, and the best model is the same, bit for bit."""
    data = load_glue("rte", folder)

    def searched(trials: int, work: str, *, resume: bool = False) -> Tuned:
        recipe = replace(QUICK, steps=3, trials=trials, learning_rate=1e-3)
        return tune(data, checkpoint=checkpoint, recipe=recipe, work=tmp_path / work, resume=resume)

    whole = searched(3, "whole")
    two = searched(2, "parts")
    assert without_seconds(two) == without_seconds(whole)[:2]
    parts = searched(3, "parts", resume=True)
    assert without_seconds(parts) == without_seconds(whole)
    assert (parts.parameters, parts.metrics) == (whole.parameters, whole.metrics)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)
    first = whole.trials[0]
    recipe_values = {name: getattr(QUICK, name) for name in ("batch_size", "warmup", "weight_decay")}
    assert {name: first[name] for name in recipe_values} == recipe_values
    assert first["learning_rate"] == pytest.approx(1e-3)
    again = searched(2, "parts", resume=True)
    assert len(again.trials) == 3


def test_the_best_trial_is_the_model_that_is_kept(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Its measures on the held-out examples are the value that the search chose it by; lost, it is trained again."""
    data = load_glue("sst2", folder)
    recipe = replace(QUICK, trials=2, learning_rate=5e-3)
    tuned = tune(data, checkpoint=checkpoint, recipe=recipe, work=tmp_path)
    complete = [trial["value"] for trial in tuned.trials if trial["state"] == "complete"]
    assert tuned.metrics["validation"]["objective"] == pytest.approx(max(complete))
    (tmp_path / "best" / "trial.json").unlink()
    again = tune(data, checkpoint=checkpoint, recipe=recipe, work=tmp_path, resume=True)
    for one, other in zip(tuned.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_figures_come_from_examples_that_chose_nothing(
    folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """With a test set only it is reported; settings and temperature are the same as without it."""
    data = load_glue("sst2", folder)
    test = data.train.rows(range(10))
    recipe = replace(QUICK, trials=2, learning_rate=5e-3)
    plain = tune(data, checkpoint=checkpoint, recipe=recipe, work=tmp_path / "plain")
    tuned = tune(replace(data, test=test), checkpoint=checkpoint, recipe=recipe, work=tmp_path / "test")
    assert {name: found["rows"] for name, found in tuned.metrics.items()} == {"test": 10}
    assert tuned.measured_on == "test, held-out examples that chose nothing"
    assert (tuned.parameters, tuned.temperature) == (plain.parameters, plain.temperature)
    assert list(plain.metrics) == ["validation"]
    assert plain.measured_on.startswith(
        "validation, held-out examples that chose the settings and the temper"
    )
    with pytest.raises(InputError, match="holds a run with other data"):
        tune(data, checkpoint=checkpoint, recipe=recipe, work=tmp_path / "test", resume=True)


@pytest.mark.parametrize(
    ("name", "trials", "words"),
    [
        ("sst2", 0, "validation, held-out examples that chose the temperature as well"),
        ("stsb", 0, "validation, held-out examples that chose nothing"),
        ("stsb", 1, "validation, held-out examples that chose the settings as well: expect less of new ones"),
    ],
)
def test_what_examples_chose_is_said(
    folder: Path, checkpoint: Path, tmp_path: Path, name: str, trials: int, words: str
) -> None:
    """Without a test set, the deciding examples are measured on: a search chose settings, classes a temperature."""
    recipe = replace(QUICK, steps=1, trials=trials)
    tuned = tune(load_glue(name, folder), checkpoint=checkpoint, recipe=recipe, work=tmp_path)
    assert tuned.measured_on == words


def without_seconds(tuned: Tuned) -> list[dict[str, Any]]:
    """The trials, less what no two runs have in common. Numbers differ where a trial was cut off."""
    return [
        {name: x for name, x in trial.items() if name not in ("seconds", "number")} for trial in tuned.trials
    ]


KILLED = """
import sys
from pathlib import Path
from dataclasses import replace
from tests.towers.train.classifiers.test_tune import QUICK
from towers.train.classifiers.glue import load_glue
from towers.train.classifiers.tune import tune
folder, checkpoint, work = map(Path, sys.argv[1:])
recipe = replace(QUICK, trials=2, steps=60, learning_rate=1e-3)
tune(load_glue("wnli", folder), checkpoint=checkpoint, recipe=recipe, work=work)
"""


def test_a_killed_search_goes_on(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    """A process killed inside its second trial leaves a study that goes on: the trial is made again."""
    import optuna

    work = tmp_path / "work"
    command = [sys.executable, "-c", KILLED, *map(str, (folder, checkpoint, work))]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_second_trial(work, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    storage = f"sqlite:///{work / 'study.db'}"
    before = optuna.load_study(study_name="tune", storage=storage).trials
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"]
    recipe = replace(QUICK, trials=2, steps=60, learning_rate=1e-3)
    tuned = tune(load_glue("wnli", folder), checkpoint=checkpoint, recipe=recipe, work=work, resume=True)
    after = optuna.load_study(study_name="tune", storage=storage).trials
    assert [trial.state.name for trial in after][:2] == ["COMPLETE", "FAIL"]
    assert [trial["number"] for trial in tuned.trials] == [0, 2]
    assert after[1].params == after[2].params


def wait_for_second_trial(work: Path, process: subprocess.Popen[bytes]) -> None:
    import optuna

    storage = f"sqlite:///{work / 'study.db'}"
    for _ in range(600):
        assert process.poll() is None, "the search ended before it could be killed"
        try:
            trials = optuna.load_study(study_name="tune", storage=storage).trials
        except Exception:  # the file is not there yet, or half made
            trials = []
        if len(trials) == 2 and len(trials[1].params) == 4:
            return
        time.sleep(0.1)
    raise AssertionError("no second trial within a minute")


def test_bad_trials_are_pruned(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    """After three trials one whose measures lie below the others' median at the same step is given up."""
    recipe = replace(QUICK, trials=6, steps=8, evaluations=4, learning_rate=2e-3)
    tuned = tune(load_glue("cola", folder), checkpoint=checkpoint, recipe=recipe, work=tmp_path)
    states = [trial["state"] for trial in tuned.trials]
    assert len(states) == 6
    assert set(states) == {"complete", "pruned"}
    assert states[:3] == ["complete"] * 3


def test_other_data_or_settings_are_not_resumed(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    data = load_glue("sst2", folder)
    tune(data, checkpoint=checkpoint, recipe=replace(QUICK, steps=1), work=tmp_path)
    with pytest.raises(InputError, match="holds a run with other settings"):
        tune(data, checkpoint=checkpoint, recipe=replace(QUICK, steps=2), work=tmp_path, resume=True)
    other = load_glue("cola", folder)
    with pytest.raises(InputError, match="holds a run with other data"):
        tune(other, checkpoint=checkpoint, recipe=replace(QUICK, steps=1), work=tmp_path, resume=True)


@pytest.mark.parametrize("adversarial", [None, AdversarialRecipe()])
@pytest.mark.parametrize("name", ["mnli", "stsb"])
def test_a_step_is_the_same_however_it_is_cut(
    folder: Path, checkpoint: Path, tmp_path: Path, name: str, adversarial: AdversarialRecipe | None
) -> None:
    """Three batches of 4 accumulated make the gradients of one batch of 12."""
    data = load_glue(name, folder)
    data = replace(data, train=data.train.rows(range(12)))
    moments = []
    for size, accumulation in ((4, 3), (12, 1)):
        recipe = replace(QUICK, steps=1, batch_size=size, accumulation=accumulation, warmup=0.0)
        trainer = make_trainer(Setting(data, checkpoint, recipe, adversarial, tmp_path), tmp_path / str(size))
        without_dropout(trainer)
        trainer.train()
        moments.append(
            torch.cat([x["exp_avg"].flatten() for x in trainer.optimizer.optimizer.state.values()])
        )
    torch.testing.assert_close(moments[0], moments[1], rtol=1e-3, atol=1e-6)


def without_dropout(trainer: Any) -> None:
    made = trainer.model_init

    def model_init() -> Any:
        model = made()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model

    trainer.model_init = model_init


@pytest.mark.parametrize("settings", [{"trials": -1}, {"evaluations": 0}, {"max_tokens": 3}, {"steps": -1}])
def test_recipes_refuse_nonsense(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        TuneRecipe(**settings)
