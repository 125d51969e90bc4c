"""Bundles whose queries and titles have towers or precisions of their own, and what their manifests say was lost."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towers import InputError, open_bundle
from towers.bundle import LAYOUT
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.export import Precision
from towers.train.exporting.export_cli import export_command
from towers.train.structures.cut import cut
from towers.train.write import Parts, write_bundle

TEXTS = ["red running shoes", "a", "手机订单", "warm milk and coffee", "lost bank card", "usb cable"]
LICENCES: dict[str, Any] = {"base": None, "base_licence": "Apache-2.0", "licence": "Apache-2.0"}
FLOAT = Precision("float32", "float32")


@pytest.fixture(scope="module")
def plain(tower: Any) -> Parts:
    return tower_parts(tower, texts=TEXTS, precision=FLOAT, query_precision=FLOAT, **LICENCES)


def test_fast_queries_over_exact_titles(tower: Any, plain: Parts, tmp_path: Path) -> None:
    """int8 queries over float32 titles: titles are the plain bundle's, bit for bit; both losses are in the manifest."""
    mixed = tower_parts(tower, texts=TEXTS, precision=FLOAT, query_precision=Precision(), **LICENCES)
    assert mixed.graphs[LAYOUT.title] == plain.graphs[LAYOUT.encoder]

    bundle = write_bundle(tmp_path / "mixed", mixed)
    expected = tower.encode(TEXTS, batch_size=1, show_progress_bar=False)
    np.testing.assert_allclose(bundle.encode_titles(TEXTS), expected, atol=1e-5)
    cosines = (bundle.encode_queries(TEXTS) * expected).sum(axis=1)
    assert 0.95 < cosines.min() < 0.99999
    metrics, recipe = bundle.manifest.metrics, bundle.manifest.recipe
    assert metrics["export"]["quantized"]["least_cosine"] == pytest.approx(1.0)
    assert metrics["query_tower"]["to_replaced"]["mean_cosine"] == pytest.approx(
        float(cosines.mean()), abs=1e-3
    )
    assert (recipe["precision"]["matmul"], recipe["query_tower"]["precision"]["matmul"]) == (
        "float32",
        "int8",
    )


def test_the_same_tower_and_precision_are_one_graph(plain: Parts) -> None:
    assert sorted(plain.graphs) == [LAYOUT.encoder, LAYOUT.scorer]


def test_what_a_technique_lost_is_in_the_manifest(tower: Any) -> None:
    """Fixed scales: on how many texts, and that company changes nothing; a spared layer: which, and by what numbers."""
    wanted = Precision("int8-static", "int8", spare=1)
    parts = tower_parts(tower, texts=TEXTS, precision=wanted, **LICENCES)
    found = parts.facts["metrics"]["export"]
    assert found["scales_fixed_on"] == len(TEXTS)
    assert found["alone_to_in_batch"]["greatest_difference"] < 1e-5
    (spared,) = found["layers"]["keep_float32"]
    losses = found["layers"]["sensitivity"]["layers"]
    assert losses[spared] == max(losses.values())
    assert parts.facts["recipe"]["precision"]["keep_float32"] == (spared,)
    with pytest.raises(InputError, match="found no texts to quantise with"):
        tower_parts(tower, precision=wanted, **LICENCES)
    with pytest.raises(
        InputError, match=r"found the layers \[7\] to keep in float32, the tower has \[0, 1\]"
    ):
        tower_parts(tower, precision=Precision(keep_float32=(0, 7)), **LICENCES)


def test_export_takes_another_checkpoint_for_queries(tower: Any, checkpoint: Path, tmp_path: Path) -> None:
    """From the command line: a cut student for queries, static int8 with a layer in float32, float32 titles."""
    student = copy.deepcopy(tower)
    cut(student, (0,))
    student.save(str(tmp_path / "student"), create_model_card=False)
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    export_command(
        str(checkpoint),
        tmp_path / "bundle",
        query=str(tmp_path / "student"),
        matmul="int8-static",
        embedding="int8",
        title_matmul="float32",
        title_embedding="float32",
        keep_float32="0",
        calibrate=[texts],
        max_tokens=32,
    )
    bundle = open_bundle(tmp_path / "bundle")
    expected = student.encode(TEXTS, batch_size=1, show_progress_bar=False)
    cosines = (bundle.encode_queries(TEXTS) * expected).sum(axis=1)
    assert cosines.min() > 0.99  # its only layer is in float32: embeddings alone lose
    np.testing.assert_allclose(
        bundle.encode_titles(TEXTS), tower.encode(TEXTS, show_progress_bar=False), atol=1e-5
    )
    with pytest.raises(InputError, match="found --keep-float32 'all', expected numbers of layers"):
        export_command(str(checkpoint), tmp_path / "other", keep_float32="all")
