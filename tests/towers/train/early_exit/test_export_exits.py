"""Staged graphs compute what torch computes, and become a bundle that says what exits gain and lose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.conftest import TINY_EXITS
from tests.golden.make_tiny_exits import TEXTS, make
from tests.towers.train.early_exit.test_exits import RECIPE, fit
from tests.towers.train.test_sentiment import texts
from towers import InputError, open_bundle
from towers.bundle import LAYOUT
from towers.exits import ExitPlan
from towers.labelled import Texts
from towers.train.base import load_classifier
from towers.train.bodies import layer_stack
from towers.train.build import sentiment_settings
from towers.train.cli import fit_sentiment_command
from towers.train.distillation.teacher import token_ids
from towers.train.early_exit.exit_graphs import (
    StageGraph,
    check_parity,
    export_stages,
    quantize_stages,
    stage_probabilities,
)
from towers.train.early_exit.exit_model import ExitClassifier
from towers.train.early_exit.exits import ExitRecipe, ExitResult, exit_logits
from towers.train.early_exit.export_exits import with_exits, without_head
from towers.train.exporting.export import Precision
from towers.train.sentiment import softmax, split_texts
from towers.train.write import read_parts, write_bundle

TEMPERATURES = (1.5, 0.7)
DATA = [{"name": "toys", "rows": 240, "licence": "CC0-1.0"}]


@pytest.fixture(scope="module")
def sides() -> tuple[Texts, Texts]:
    return split_texts(texts(240), share=0.25, seed=1)


@pytest.fixture(scope="module")
def result(
    checkpoint: Path, sides: tuple[Texts, Texts], tmp_path_factory: pytest.TempPathFactory
) -> ExitResult:
    return fit(checkpoint, sides, tmp_path_factory.mktemp("exits"))


@pytest.fixture(scope="module")
def random_model(checkpoint: Path) -> tuple[ExitClassifier, Any]:
    """A classifier whose exits have learned nothing, and its tokenizer."""
    torch.manual_seed(4)
    classifier, tokenizer = load_classifier(checkpoint)
    return ExitClassifier(classifier, (1, 2)).eval(), tokenizer


@pytest.fixture(scope="module")
def stages(random_model: tuple[ExitClassifier, Any]) -> list[onnx.ModelProto]:
    """Its float32 stages."""
    return export_stages(random_model[0], temperatures=TEMPERATURES, max_tokens=32)


def expected(model: ExitClassifier, tokenizer: Any) -> Any:
    logits = exit_logits(model, tokenizer, TEXTS, max_tokens=32)
    return softmax(logits / np.array(TEMPERATURES, np.float32)[:, None, None])


def test_float_stages_equal_torch(
    random_model: tuple[ExitClassifier, Any], stages: list[onnx.ModelProto]
) -> None:
    """Run one after the other, the stages give the probabilities of every exit."""
    found = stage_probabilities(stages, token_ids(random_model[1], TEXTS, max_tokens=32))
    np.testing.assert_allclose(found, expected(*random_model), atol=1e-5)


def test_int8_stages_answer_alone_as_in_a_batch(
    random_model: tuple[ExitClassifier, Any], stages: list[onnx.ModelProto]
) -> None:
    """At every exit, for every text, to the bit but for a rounding; and near torch."""
    rows = token_ids(random_model[1], TEXTS, max_tokens=32)
    quantized = quantize_stages(stages, Precision(), layers=(1, 2), rows=rows)
    together = stage_probabilities(quantized, rows)
    alone = np.concatenate([stage_probabilities(quantized, [row]) for row in rows], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together - expected(*random_model)).mean() < 0.05


@pytest.mark.parametrize("layers", [(1, 3), (3,), (1, 2, 3)])
@pytest.mark.parametrize("kind", ["DistilBert", "MPNet"])
def test_relatives_of_bert_can_be_cut_into_stages(kind: str, layers: tuple[int, ...]) -> None:
    """In other architectures too, stage after stage gives what the whole model gives; the model stays whole."""
    import transformers

    sizes = {
        "DistilBert": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64},
        "MPNet": {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
    }
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50, max_position_embeddings=66, num_labels=3, **sizes[kind]
    )
    torch.manual_seed(5)
    classifier = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    model = ExitClassifier(classifier, layers).eval()
    ids, mask = torch.randint(5, 50, (3, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5])
    state = ids
    with torch.inference_mode():
        for number, logits in enumerate(model(ids, mask).exits):
            found, *hidden = StageGraph(model, number, temperature=1.0).eval()(state, mask)
            torch.testing.assert_close(found, torch.softmax(logits, dim=-1))
            state = hidden[0] if hidden else state
        assert len(layer_stack(model)) == 3


def test_a_wrong_export_is_refused() -> None:
    with pytest.raises(InputError, match=r"differ from torch's by up to 0\.5000, expected under 0\.001"):
        check_parity(np.zeros((1, 1, 3), np.float32), np.full((1, 1, 3), 0.5, np.float32))


def test_exits_become_a_bundle(
    result: ExitResult, sides: tuple[Texts, Texts], tiny_bundle_path: Path, tmp_path: Path
) -> None:
    """What is served is what was tuned: exits, accuracy and histogram of the manifest are those of the open bundle."""
    parts = with_exits(read_parts(tiny_bundle_path), result, dev=sides[1], data=DATA, precision=Precision())
    bundle = write_bundle(tmp_path / "bundle", parts)
    assert LAYOUT.sentiment not in bundle.manifest.files
    probabilities, layers = bundle.sentiment_with_exits(sides[1].texts)
    chosen = bundle.manifest.metrics["sentiment"]["exits"]["chosen"]
    assert float((probabilities.argmax(axis=1) - 1 == sides[1].labels).mean()) == pytest.approx(
        chosen["accuracy"]
    )
    assert {str(layer): int((layers == layer).sum()) for layer in (1, 2)} == chosen["histogram"]
    assert float(layers.mean()) == pytest.approx(chosen["mean_layers"])
    assert ExitPlan.read(bundle.path / LAYOUT.exits).dev["lost"] == chosen["lost"]
    assert bundle.manifest.recipe["exits"]["steps"] == RECIPE.steps
    assert bundle.manifest.training_data[-1] == {"use": "sentiment"} | DATA[0]


def test_a_bundle_with_exits_survives_reading_and_writing(tmp_path: Path) -> None:
    """Read into parts and written again, it has the same content, plan included."""
    again = write_bundle(tmp_path / "again", read_parts(TINY_EXITS))
    assert again.bundle_id == open_bundle(TINY_EXITS).bundle_id


def test_a_head_takes_the_place_of_the_one_before() -> None:
    """Nothing of a staged head is left when it goes."""
    bare = without_head(read_parts(TINY_EXITS))
    assert set(bare.graphs) == {LAYOUT.encoder, LAYOUT.scorer}
    assert not bare.extra_files


def test_another_tokenizer_is_refused(
    result: ExitResult, sides: tuple[Texts, Texts], tiny_bundle_path: Path
) -> None:
    parts = read_parts(tiny_bundle_path)
    parts.tokenizer = parts.tokenizer.replace('"shoes"', '"clogs"')
    with pytest.raises(InputError, match="another tokenizer than the bundle"):
        with_exits(parts, result, dev=sides[1], data=DATA, precision=Precision())


def test_the_golden_bundle_is_what_its_script_makes(tmp_path: Path) -> None:
    """The committed bundle and a fresh one agree: the export path that made it still does what it did."""
    make(tmp_path / "tiny")
    fresh, kept = open_bundle(tmp_path / "tiny"), open_bundle(TINY_EXITS)
    found, layers = fresh.sentiment_with_exits(list(TEXTS))
    wanted, wanted_layers = kept.sentiment_with_exits(list(TEXTS))
    np.testing.assert_allclose(found, wanted, atol=0.01)
    np.testing.assert_array_equal(layers, wanted_layers)
    assert set(fresh.manifest.files) == set(kept.manifest.files)


def test_the_command_line_trains_exits(
    checkpoint: Path, tiny_bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fit-sentiment --exits` trains the head, gives it exits, and says what they gain and lose."""
    some = texts(100)
    lines = [json.dumps({"text": t, "label": int(x)}) for t, x in zip(some.texts, some.labels, strict=True)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    fit_sentiment_command(
        [tmp_path / "texts.jsonl"],
        out=tmp_path / "out",
        bundle=tiny_bundle_path,
        base=str(checkpoint),
        epochs=0.2,
        freeze_layers=1,
        max_tokens=32,
        dev_share=0.3,
        exits=True,
        exit_steps=4,
        exit_rule="margin",
    )
    told = capsys.readouterr().out
    assert "Early exit by margin" in told
    bundle = open_bundle(tmp_path / "out")
    assert bundle.exit_layers == (1, 2)
    assert bundle.manifest.recipe["exits"]["rule"] == "margin"
    assert bundle.manifest.recipe["sentiment"]["freeze_layers"] == 1
    measured = bundle.manifest.metrics["sentiment"]
    assert measured["without_exits"]["rows"] == measured["exits"]["chosen"]["rows"]
    assert json.loads(told.splitlines()[-1])["metrics"]["exits"]["chosen"]["histogram"]


def test_a_recipe_file_can_ask_for_exits() -> None:
    """[sentiment.exits] is checked like any table; without it there are none."""
    settings = sentiment_settings({"epochs": 1.0, "exits": {"rule": "patience", "every": 2}})
    assert settings["exits"] == ExitRecipe(rule="patience", every=2)
    assert sentiment_settings({})["exits"] is None
    with pytest.raises(InputError, match=r"\[sentiment\.exits\]: unknown rules"):
        sentiment_settings({"exits": {"rules": "margin"}})
