"""A classifier in a bundle: what it answers, the commands that put it there and ask it, and what is refused."""

from __future__ import annotations

import json
import shutil
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
from towers.train.classifiers.classifier_parts import (
    ClassifierGraph,
    as_sentiment,
    token_types,
    with_classifier,
)
from towers.train.classifiers.example_files import load_examples
from towers.train.classifiers.examples import Examples, Task, TaskData
from towers.train.classifiers.glue import load_glue
from towers.train.classifiers.tune import Tuned, tune
from towers.train.classifiers.tune_cli import tune_command
from towers.train.classifiers.tune_training import TuneRecipe, predict
from towers.train.exporting.assemble import with_scorer
from towers.train.exporting.export import Precision
from towers.train.fit import FitResult
from towers.train.scorer import ResidualScorer
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


@pytest.mark.parametrize("sentiment", [False, True])
@pytest.mark.parametrize("test_share", [0.0, 0.3])
def test_the_bundle_says_what_it_was_measured_on(
    checkpoint: Path,
    tiny_bundle_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sentiment: bool,
    test_share: float,
) -> None:
    """Own tables: the figures, those of the written graph too, are the test part's; without one that is said."""
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n" + "\n".join(f"the coat {i},{i % 2}" for i in range(80)))
    shares = {"dev_share": 0.2, "test_share": test_share}
    tune_command(
        [str(table)],
        out=tmp_path / "bundle",
        bundle=tiny_bundle_path,
        base=str(checkpoint),
        steps=2,
        max_tokens=24,
        sentiment=sentiment,
        **shares,
    )
    data = load_examples([table], **shares)
    ((name, rows),) = data.reported.items()
    words = "chose nothing" if test_share else "chose the temperature as well"
    printed = capsys.readouterr().out
    told = json.loads(printed.splitlines()[-1])
    assert told["measured_on"] == f"{name}, held-out examples that {words}"
    assert f"Measured on {told['measured_on']}." in printed
    assert told["metrics"][name]["rows"] == len(rows)
    found = open_bundle(tmp_path / "bundle").manifest.metrics["sentiment" if sentiment else "classifier"]
    assert found["measured_on"] == told["measured_on"]
    assert found["quantized" if sentiment else "as_written"]["rows"] == len(rows)


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


def test_other_tokenizers_are_refused(folder: Path, checkpoint: Path, tmp_path: Path, parts: Parts) -> None:
    data = TaskData(Task("x", ("a", "b"), False, ("accuracy",)), *two_sides(folder), source="x")
    tuned = tune(data, checkpoint=checkpoint, recipe=replace(QUICK, steps=1), work=tmp_path)
    other = replace(parts, tokenizer=parts.tokenizer.replace('"shoes"', '"clogs"'))
    with pytest.raises(InputError, match="another tokenizer than the bundle"):
        with_classifier(other, tuned, data, precision=FLOAT32)


def two_sides(folder: Path) -> tuple[Examples, dict[str, Examples]]:
    data = load_glue("sst2", folder)
    return data.train, {"dev": data.deciding}
