"""Fine-tuning classifiers on GLUE's tasks: the search and its resumption, the bundle, the commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.towers.train.glue_folder import write_glue
from towers import BundleError, InputError, open_bundle
from towers.bundle import LAYOUT
from towers.classify_cli import classify_command
from towers.train.adversarial import AdversarialRecipe
from towers.train.assemble import with_scorer
from towers.train.classifier_parts import ClassifierGraph, as_sentiment, token_types, with_classifier
from towers.train.examples import Examples, Task, TaskData
from towers.train.export import Precision
from towers.train.fit import FitResult
from towers.train.glue import GLUE, load_glue
from towers.train.scorer import ResidualScorer
from towers.train.tune import Tuned, tune
from towers.train.tune_cli import tune_command
from towers.train.tune_training import Setting, TuneRecipe, make_trainer, predict
from towers.train.write import Parts, read_parts, write_bundle

QUICK = TuneRecipe(steps=6, batch_size=8, max_tokens=24, save_steps=3, evaluations=2)
FLOAT32 = Precision(matmul="float32", embedding="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"), rows=40)


@pytest.fixture(scope="module")
def parts(tiny_bundle_path: Path) -> Parts:
    """The parts of the tiny bundle, whose tokenizer the checkpoint has."""
    return read_parts(tiny_bundle_path)


@pytest.fixture(scope="module")
def with_types(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint with a tokenizer that tells first and second text apart, as BERT's do."""
    folder = tmp_path_factory.mktemp("types") / "checkpoint"
    shutil.copytree(checkpoint, folder)
    path = folder / "tokenizer_config.json"
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | names))
    return folder


def outputs_of(tuned: Tuned, data: Examples) -> np.ndarray:
    logits = predict(tuned.model, tuned.tokenizer, data, max_tokens=24)
    return (
        logits if tuned.task.is_regression else torch.tensor(logits / tuned.temperature).softmax(-1).numpy()
    )


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


@pytest.mark.parametrize("name", ["mnli", "stsb"])
def test_a_task_ends_in_a_bundle(
    folder: Path, with_types: Path, parts: Parts, tmp_path: Path, name: str
) -> None:
    """Classes and numbers of pairs: the bundle answers as torch does and says what it was made of."""
    data = load_glue(name, folder)
    tuned = tune(data, checkpoint=with_types, recipe=replace(QUICK, steps=2), work=tmp_path / "work")
    made = write_bundle(tmp_path / "bundle", with_classifier(parts, tuned, data, precision=FLOAT32))
    facts = made.classifier_facts
    assert (facts.task, facts.labels, facts.pair) == (name, data.task.labels, data.task.pair)
    few = data.deciding.rows(range(8))
    answers = made.classify(few.texts, few.pairs)
    np.testing.assert_allclose(answers, outputs_of(tuned, few), atol=1e-4)
    if facts.labels:
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    manifest = made.manifest
    assert manifest.metrics["classifier"]["as_written"]["rows"] == len(data.deciding)
    assert manifest.metrics["classifier"]["rows_left_out"] == data.left_out
    assert manifest.training_data[-1]["use"] == "classifier"
    assert LAYOUT.classifier_facts in manifest.files


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


def without_seconds(tuned: Tuned) -> list[dict[str, Any]]:
    """The trials, less what no two runs have in common. Numbers differ where a trial was cut off."""
    return [
        {name: x for name, x in trial.items() if name not in ("seconds", "number")} for trial in tuned.trials
    ]


KILLED = """
import sys
from pathlib import Path
from dataclasses import replace
from tests.towers.train.test_tune import QUICK
from towers.train.glue import load_glue
from towers.train.tune import tune
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


def test_types_of_tokens_are_the_tokenizers(with_types: Path) -> None:
    """What the graph makes of ids is what the tokenizer says, padding and cut texts included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(with_types)
    firsts, seconds = ["new coat", "tea " * 30, "", "hat"], ["coat for sale", "x", "tea", "phone " * 30]
    encoded = tokenizer(firsts, seconds, padding=True, truncation=True, max_length=24, return_tensors="pt")
    found = token_types(encoded["input_ids"], encoded["attention_mask"], tokenizer.sep_token_id)
    assert torch.equal(found, encoded["token_type_ids"])
    single = tokenizer(firsts, padding=True, return_tensors="pt")
    assert not token_types(single["input_ids"], single["attention_mask"], tokenizer.sep_token_id).any()


def test_sentiment_data_becomes_the_head(
    folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    tiny_bundle_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SST-2's two classes become -1 and 1 of the sentiment head; pairs and other labels are refused."""
    tune_command(
        ["sst2"],
        out=tmp_path / "bundle",
        data=folder,
        bundle=tiny_bundle_path,
        base=str(checkpoint),
        steps=2,
        max_tokens=24,
        sentiment=True,
    )
    made = open_bundle(tmp_path / "bundle")
    assert made.sentiment(["good"]).shape == (1, 3)
    assert not made.has_classifier
    assert made.manifest.recipe["sentiment_task"]["steps"] == 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bundle_id"] == made.bundle_id
    moved = as_sentiment(load_glue("sst2", folder))
    assert set(moved.train.labels.tolist()) == {0, 2}
    for name in ("rte", "stsb"):
        with pytest.raises(
            InputError, match="expected single texts with -1, 0, 1 or 0, 1 for a sentiment head"
        ):
            as_sentiment(load_glue(name, folder))


def test_the_commands_from_files_to_answers(
    folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    tiny_bundle_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`tune` on a task with a search and answers to its tests; `classify` asks the bundle."""
    options: dict[str, Any] = {
        "data": folder,
        "base": str(checkpoint),
        "steps": 3,
        "max_tokens": 24,
        "trials": 2,
    }
    tune_command(
        ["rte"], out=tmp_path / "bundle", submission_to=tmp_path / "answers", adversarial="fgm", **options
    )
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(told["trials"]) == 2
    made = open_bundle(tmp_path / "bundle")
    assert told["bundle_id"] == made.bundle_id
    assert made.manifest.recipe["classifier"]["adversarial"]["method"] == "fgm"
    lines = (tmp_path / "answers" / "RTE.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert {line.split("\t")[1] for line in lines[1:]} <= {"entailment", "not_entailment"}
    assert len(lines) == 6
    assert "## Classifier" in (made.path / LAYOUT.card).read_text()

    classify_command(["new coat", "coat for sale"], bundle=made.path, as_json=True)
    answer = json.loads(capsys.readouterr().out)["answers"][0]
    assert answer["label"] in answer["probabilities"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    classify_command(["new coat", "coat for sale"], bundle=made.path)
    assert answer["label"] in capsys.readouterr().out
    with pytest.raises(InputError, match="found 1 texts for a classifier of pairs, expected an even number"):
        classify_command(["new coat"], bundle=made.path)


def test_own_files_of_numbers(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of texts with fractions trains a regression, whose answers are numbers."""
    table = tmp_path / "stars.csv"
    table.write_text("text,label\n" + "\n".join(f"the coat {i},{(i % 7) / 2}" for i in range(60)))
    tune_command(
        [str(table)], out=tmp_path / "bundle", base=str(checkpoint), steps=2, max_tokens=24, dev_share=0.3
    )
    made = open_bundle(tmp_path / "bundle")
    assert made.classify(["the coat", "x"]).shape == (2, 1)
    assert made.classifier_facts.labels == ()
    capsys.readouterr()
    classify_command(["the coat"], bundle=made.path, as_json=True)
    assert isinstance(json.loads(capsys.readouterr().out)["answers"][0]["value"], float)


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        (["sst2"], {}, "no place to load it from; give --data"),
        (["sst2", "cola"], {"data": Path()}, "expected one task of GLUE"),
        (
            ["sst2"],
            {"data": Path(), "sentiment": True, "prefix": "query: "},
            "found --prefix with --sentiment",
        ),
        (["rows.csv"], {"submission_to": Path("x")}, "--submission needs GLUE's official files"),
    ],
)
def test_uses_that_contradict_themselves_are_refused(
    folder: Path, tmp_path: Path, sources: list[str], options: dict[str, Any], message: str
) -> None:
    if "data" in options:
        options = options | {"data": folder}
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(f"text {i},{i % 2}" for i in range(40)))
    files = [str(tmp_path / source) if source.endswith(".csv") else source for source in sources]
    with pytest.raises(InputError, match=message):
        tune_command(files, out=tmp_path / "out", **options)


def test_answers_do_not_depend_on_company(
    folder: Path, checkpoint: Path, parts: Parts, tmp_path: Path
) -> None:
    """A pair's answer is the same alone and in a batch of other lengths."""
    data = load_glue("qnli", folder)
    tuned = tune(data, checkpoint=checkpoint, recipe=replace(QUICK, steps=1), work=tmp_path / "work")
    made = write_bundle(tmp_path / "bundle", with_classifier(parts, tuned, data, precision=FLOAT32))
    texts, pairs = [*data.train.texts, "x", "tea " * 50], [*(data.train.pairs or ()), "coat " * 50, ""]
    together = made.classify(texts, pairs)
    alone = np.concatenate([made.classify([a], [b]) for a, b in zip(texts, pairs, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    with pytest.raises(InputError, match="qnli takes pairs of texts, found single ones"):
        made.classify(texts)
    with pytest.raises(InputError, match="found 1 texts and 2 second texts"):
        made.classify(["a"], ["b", "c"])
    again = write_bundle(
        tmp_path / "again", read_parts(made.path)
    )  # read back and written, it answers the same
    np.testing.assert_array_equal(again.classify(texts, pairs), together)


def test_a_new_scorer_leaves_the_classifier_where_it_is(parts: Parts) -> None:
    """Whatever else is exchanged in a bundle, what belongs to its classifier stays."""
    with_one = replace(parts, extra_files={LAYOUT.classifier_facts: "{}"})
    result = FitResult(
        tower=cast(Any, None),
        scorer=ResidualScorer(16, hidden=0),
        scorer_kind="cosine",
        threshold=0.5,
        metrics={},
        recipe={},
        training_data=[],
    )
    assert with_scorer(with_one, result).extra_files == with_one.extra_files


def test_a_bundle_without_a_classifier_says_so(tiny_bundle_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no classifier\. Add one with: dualtower tune"):
        open_bundle(tiny_bundle_path).classify(["x"])


def test_a_graph_without_types_takes_single_texts(checkpoint: Path) -> None:
    """A regression's graph gives the model's outputs as they are."""
    from towers.train.base import load_classifier

    model, tokenizer = load_classifier(checkpoint, num_labels=1)
    model.eval()
    encoded = tokenizer(["new coat"], return_tensors="pt")
    with torch.no_grad():
        found = ClassifierGraph(model, temperature=None)(encoded["input_ids"], encoded["attention_mask"])
        torch.testing.assert_close(found, model(**encoded).logits)


@pytest.mark.parametrize("settings", [{"trials": -1}, {"evaluations": 0}, {"max_tokens": 3}, {"steps": -1}])
def test_recipes_refuse_nonsense(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        TuneRecipe(**settings)


def test_other_tokenizers_are_refused(folder: Path, checkpoint: Path, tmp_path: Path, parts: Parts) -> None:
    data = TaskData(Task("x", ("a", "b"), False, ("accuracy",)), *two_sides(folder), source="x")
    tuned = tune(data, checkpoint=checkpoint, recipe=replace(QUICK, steps=1), work=tmp_path)
    other = replace(parts, tokenizer=parts.tokenizer.replace('"shoes"', '"clogs"'))
    with pytest.raises(InputError, match="another tokenizer than the bundle"):
        with_classifier(other, tuned, data, precision=FLOAT32)


def two_sides(folder: Path) -> tuple[Examples, dict[str, Examples]]:
    data = load_glue("sst2", folder)
    return data.train, {"dev": data.deciding}
