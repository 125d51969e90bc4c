"""int8 with fixed scales, with layers in float32, and the choice of these layers."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from towers import InputError
from towers.train.base import load_classifier
from towers.train.bodies import layer_stack
from towers.train.exporting.export import Precision, TowerGraph, export_graph, quantize
from towers.train.exporting.int8 import (
    answers,
    choose_layers,
    sensitivity,
    settle,
    text_feeds,
)

TEXTS = [
    "red shoes",
    "怎么取消订单",
    "the delivery of my large blue winter coat is late, when do you ship it?",
    "a",
    "lost bank card",
    "warm milk and coffee for the school",
]
STATIC = Precision(matmul="int8-static", embedding="float32")


@pytest.fixture(scope="module")
def feeds(tower: Any) -> Any:
    return text_feeds(tower.tokenizer, TEXTS, max_tokens=32)


@pytest.fixture(scope="module")
def uneven(tower: Any) -> Any:
    """A tower whose second layer suffers in int8: one huge column takes the resolution of all others."""
    tower = copy.deepcopy(tower)
    with torch.no_grad():
        layer: Any = layer_stack(tower)[1]
        layer.output.dense.weight[:, 0] *= 300
    return tower


@pytest.fixture(scope="module")
def uneven_graph(uneven: Any) -> onnx.ModelProto:
    return export_graph(TowerGraph(uneven), output="vectors", max_tokens=32)


def test_fixed_scales_give_a_text_one_vector_in_any_company(
    tower: Any, tower_graph: onnx.ModelProto, feeds: Any
) -> None:
    """Alone and in a batch of others a text's vector is the same; with scales drawn from each batch it is not."""
    batch = tower.tokenizer(TEXTS, padding=True, return_tensors="np")
    together = [(batch["input_ids"], batch["attention_mask"])]

    def apart(precision: Precision) -> float:
        graph = quantize(tower_graph, precision, feeds=feeds)
        return float(np.abs(answers(graph, together) - answers(graph, feeds)).max())

    assert apart(STATIC) < 1e-5
    assert apart(Precision(embedding="float32")) > 1e-3


def test_fixed_scales_stay_near_torch(tower: Any, tower_graph: onnx.ModelProto, feeds: Any) -> None:
    """Scales that were fixed on these texts lose no more than a hundredth or two."""
    found = answers(quantize(tower_graph, STATIC, feeds=feeds), feeds)
    expected = tower.encode(TEXTS, batch_size=1, show_progress_bar=False)
    assert (found * expected).sum(axis=1).min() > 0.97


def test_fixed_scales_need_texts(tower_graph: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="found no texts to fix the scales of int8-static on"):
        quantize(tower_graph, STATIC)


def test_layers_in_float32_are_whole(tower_graph: onnx.ModelProto, feeds: Any) -> None:
    """With all layers kept nothing is lost; one kept loses less than none; unknown ones are passed over."""
    plain = Precision(embedding="float32")
    exact = answers(tower_graph, feeds)

    def distance(*kept: int) -> float:
        graph = quantize(tower_graph, Precision(embedding="float32", keep_float32=kept))
        assert _products(graph) == 12 - 6 * len({0, 1} & set(kept))
        return float(np.abs(answers(graph, feeds) - exact).mean())

    assert distance(0, 1) < 1e-6
    assert distance(1) < distance()
    assert distance(0) < distance()
    assert distance(7) == pytest.approx(
        float(np.abs(answers(quantize(tower_graph, plain), feeds) - exact).mean())
    )


def _products(graph: onnx.ModelProto) -> int:
    return sum(node.op_type == "MatMulInteger" for node in graph.graph.node)


def test_the_layer_that_loses_is_found_and_spared(
    uneven: Any, uneven_graph: onnx.ModelProto, feeds: Any
) -> None:
    """What was made to suffer is the most sensitive, and sparing it alone is enough; everything in int8 is not."""
    plain = Precision(embedding="float32")
    choice = choose_layers(uneven, TEXTS, most=0.9, precision=plain)
    found = choice.sensitivity
    assert choice.keep_float32 == ()  # where so much may be lost nothing is spared
    assert found.measure == "1 - mean cosine"
    assert found.layers[1] > 2 * found.layers[0]
    assert found.embedding == 0.0
    bound = (found.layers[0] + found.together) / 2
    settled, notes = settle(Precision(embedding="float32", most_lost=bound), uneven_graph, feeds)
    assert settled.keep_float32 == (1,)
    assert notes["layers"]["loss"] <= bound < found.together
    assert notes["layers"]["sensitivity"] == asdict(found)


def test_a_bound_that_embeddings_alone_break_is_refused(uneven_graph: onnx.ModelProto, feeds: Any) -> None:
    with pytest.raises(InputError, match="with every layer in float32, expected at most 1e-07"):
        settle(Precision(embedding="int8", most_lost=1e-7), uneven_graph, feeds)


def test_open_layers_are_settled_before_quantising(uneven_graph: onnx.ModelProto, feeds: Any) -> None:
    """`spare` becomes the number of a layer, with what it was chosen by; unsettled it is refused."""
    wanted = Precision(embedding="float32", spare=1)
    with pytest.raises(InputError, match=r"found spare = 1 .* int8\.settle chooses them"):
        quantize(uneven_graph, wanted)
    settled, notes = settle(wanted, uneven_graph, feeds)
    assert settled == Precision(embedding="float32", keep_float32=(1,))
    assert notes["layers"]["keep_float32"] == (1,)
    assert set(notes["layers"]["sensitivity"]["layers"]) == {0, 1}
    assert settle(settled, uneven_graph, feeds) == (settled, {})


def test_classifiers_are_measured_by_their_labels(checkpoint: Path) -> None:
    """A classifier's loss is the share of texts that get another label; it needs its tokenizer."""
    torch.manual_seed(1)
    classifier, tokenizer = load_classifier(checkpoint)
    found = sensitivity(classifier, TEXTS, tokenizer=tokenizer, max_tokens=32)
    assert found.measure == "1 - agreement"
    assert set(found.layers) == {0, 1}
    assert 0 <= found.together <= 1
    assert found.together * len(TEXTS) == pytest.approx(round(found.together * len(TEXTS)), abs=1e-4)
    with pytest.raises(InputError, match="6 texts and no tokenizer"):
        sensitivity(classifier, TEXTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_float32": (-1,)}, "expected numbers from 0 on"),
        ({"most_lost": 1.5}, "1.5 as the most that int8 may lose"),
        ({"spare": 1, "keep_float32": (0,)}, "give one"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Precision(**settings)


def test_lists_of_layers_are_taken_as_they_come_from_toml() -> None:
    assert Precision(keep_float32=[5, 0]) == Precision(keep_float32=(0, 5))  # type: ignore[arg-type]
