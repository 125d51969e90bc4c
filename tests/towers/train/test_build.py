"""The training commands, end to end on a tiny checkpoint: what comes out is a bundle that opens and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.towers.train.test_sentiment import texts
from towers import InputError, open_bundle
from towers.bundle import LAYOUT
from towers.train.cli import build_command, fit_sentiment_command
from towers.train.exporting.export_cli import export_command

RECIPE = """
base = "{base}"
base_licence = "CC0-1.0"
licence = "Apache-2.0"
[precision]
embedding = "int8"
[fit]
freeze_towers = true
dev_share = 0.3
[fit.scorer]
epochs = 1
[sentiment]
epochs = 1.0
freeze_layers = 1
dev_share = 0.2
max_tokens = 32
[sentiment.adversarial]
method = "pgd"
steps = 2
[[pairs]]
file = "pairs.tsv"
licence = "CC0-1.0"
origin = "made by the test"
[[texts]]
file = "texts.jsonl"
licence = "MIT"
origin = "made by the test"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs and labelled texts."""
    folder = tmp_path_factory.mktemp("data")
    colors, things = (
        ["red", "blue", "black", "green"],
        ["shoes", "coat", "hat", "phone", "card", "shirt", "dress"],
    )
    rows = ["query\ttitle\tlabel"]
    for color in colors:
        for thing in things:
            rows.append(f"{color} {thing}\tnew {thing} {color}\t1")
            rows += [f"{color} {thing}\t{other} {thing} sale\t0" for other in colors if other != color]
    (folder / "pairs.tsv").write_text("\n".join(rows))
    some = texts(80)
    lines = [json.dumps({"text": t, "label": int(x)}) for t, x in zip(some.texts, some.labels, strict=True)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    return folder


def test_a_recipe_becomes_a_bundle(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything a recipe names is in the bundle: scorer, head, card, and where all of it came from."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(base=checkpoint))
    build_command(tmp_path / "bundle", data=data, recipe=recipe)

    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    bundle = open_bundle(tmp_path / "bundle")
    manifest = bundle.manifest
    assert told["bundle_id"] == bundle.bundle_id
    assert told["bytes"] == sum(path.stat().st_size for path in bundle.path.iterdir()) - len(
        manifest.to_json().encode()
    )
    assert [(entry["name"], entry["use"], entry["licence"]) for entry in manifest.training_data] == [
        ("pairs", "scorer", "CC0-1.0"),
        ("texts", "sentiment", "MIT"),
    ]
    assert manifest.recipe["precision"].items() >= {"matmul": "int8", "embedding": "int8"}.items()
    assert manifest.metrics["export"]["float32"]["least_cosine"] > 0.9999
    assert bundle.sentiment(["good"]).shape == (1, 3)
    card = (bundle.path / LAYOUT.card).read_text()
    for part in (
        "# Model card",
        "## Matching",
        "## Sentiment",
        "logistic regression",
        "| pairs | scorer |",
        "MIT",
    ):
        assert part in card
    assert not list(tmp_path.glob(".bundle.work*"))


def test_a_missing_source_is_named_before_anything_runs(checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(base=checkpoint))
    with pytest.raises(InputError, match=r"lacks pairs\.tsv, texts\.jsonl, which the recipe names"):
        build_command(tmp_path / "bundle", data=tmp_path, recipe=recipe)


def test_a_head_is_added_to_a_bundle(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    """An exported checkpoint gets a head; its vectors and its scorer stay what they were."""
    export_command(str(checkpoint), tmp_path / "plain", max_tokens=32)
    plain = open_bundle(tmp_path / "plain")
    assert not plain.has_sentiment
    assert plain.manifest.scorer == "cosine"

    fit_sentiment_command(
        [data / "texts.jsonl"],
        out=tmp_path / "with-head",
        bundle=tmp_path / "plain",
        base=str(checkpoint),
        epochs=1,
        freeze_layers=1,
        max_tokens=32,
        dev_share=0.2,
        data_licence=["MIT"],
    )
    bundle = open_bundle(tmp_path / "with-head")
    sample = ["red shoes", "取消订单"]
    np.testing.assert_array_equal(bundle.encode_titles(sample), plain.encode_titles(sample))
    np.testing.assert_allclose(bundle.sentiment(sample).sum(axis=1), 1, atol=1e-5)
    assert bundle.manifest.metrics["sentiment"]["quantized"]["rows"] > 0


def test_a_head_from_another_checkpoint_is_refused(
    data: Path, tmp_path: Path, tiny_bundle_path: Path, checkpoint: Path
) -> None:
    """A head reads the bundle's tokens: a checkpoint with another tokenizer cannot be its base."""
    other = tmp_path / "other"
    other.mkdir()
    for path in checkpoint.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tokenizer = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(tokenizer.replace('"shoes"', '"clogs"'))
    with pytest.raises(InputError, match="another tokenizer than the bundle"):
        fit_sentiment_command(
            [data / "texts.jsonl"],
            out=tmp_path / "out",
            bundle=tiny_bundle_path,
            base=str(other),
            epochs=0.1,
            freeze_layers=1,
            max_tokens=32,
            dev_share=0.2,
        )
    assert not (tmp_path / "out").exists()


def test_licences_must_fit_the_tables(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 2 × --data-licence for 1 tables of"):
        fit_sentiment_command([data / "texts.jsonl"], out=tmp_path / "out", data_licence=["MIT", "MIT"])
