"""Counts agree with formulas by hand, with torch's own counter, and with each other in every precision."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.golden.make_tiny import tiny_tokenizer
from towers import Bundle, InputError
from towers.bundle import LAYOUT
from towers.train.bodies import body_of
from towers.train.exporting.count import Counts, count_bundle, count_graph
from towers.train.exporting.export import Precision, TowerGraph, export_graph, quantize
from towers.train.scorer import ResidualScorer, export_scorer
from towers.train.structures.albert import AlbertRecipe, to_albert
from towers.train.structures.heads import HeadRecipe, with_head
from towers.train.structures.lstm import LstmRecipe, lstm_tower

WIDTH, INNER, LAYERS, PIECES, POSITIONS = 16, 32, 2, len(tiny_tokenizer()), 64
TABLES = (PIECES + POSITIONS + 2) * WIDTH + 2 * WIDTH
LAYER = 4 * (WIDTH * WIDTH + WIDTH) + 2 * WIDTH * INNER + INNER + WIDTH + 4 * WIDTH


def layer_products(tokens: int) -> int:
    """Query, key, value, dense and two feed-forward matrices for each token; two products of attention."""
    return tokens * (4 * WIDTH**2 + 2 * WIDTH * INNER) + 2 * tokens**2 * WIDTH


def trained(model: Any) -> Any:
    """A copy whose vectors all differ, as after training: the exporter stores equal ones once."""
    model = copy.deepcopy(model)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    if getattr(body_of(model), "pooler", None) is not None:
        body_of(model).pooler = None  # it gives nothing to a tower and is not exported
    return model.eval()


def graph_of(model: Any) -> onnx.ModelProto:
    return export_graph(TowerGraph(model), output="vectors", max_tokens=32)


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(scope="module")
def bert(tower: Any) -> Any:
    return trained(tower)


@pytest.fixture(scope="module")
def bert_graph(bert: Any) -> onnx.ModelProto:
    return graph_of(bert)


@pytest.mark.parametrize("tokens", [1, 7, 32])
def test_a_bert_by_hand(bert: Any, bert_graph: onnx.ModelProto, tokens: int) -> None:
    found = count_graph(bert_graph, tokens=tokens)
    assert found.multiply_adds == LAYERS * layer_products(tokens)
    assert found.parameters == TABLES + LAYERS * LAYER == parameters_of(bert)
    assert 4 * found.parameters <= found.bytes < 4 * found.parameters + 2048  # and position numbers


def test_torch_counts_the_same(bert: Any, bert_graph: onnx.ModelProto) -> None:
    """Torch's counter calls a multiply-add two operations."""
    ids = torch.ones((1, 7), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        TowerGraph(bert)(ids, torch.ones_like(ids))
    assert counter.get_total_flops() == 2 * count_graph(bert_graph, tokens=7).multiply_adds


@pytest.mark.parametrize(
    "precision",
    [Precision("int8", "float32"), Precision("int8", "int8"), Precision(), Precision("float32", "int4")],
)
def test_precision_changes_bytes_alone(bert_graph: onnx.ModelProto, precision: Precision) -> None:
    """A model has as many parameters and products in int8 and in 4 bits; it only takes less room."""
    exact, small = count_graph(bert_graph, tokens=9), count_graph(quantize(bert_graph, precision), tokens=9)
    assert (small.parameters, small.multiply_adds) == (exact.parameters, exact.multiply_adds)
    assert small.bytes < 0.8 * exact.bytes


def test_fixed_scales_change_nothing(bert_graph: onnx.ModelProto) -> None:
    """Static int8 has other operators for the same products."""
    feeds = [(np.array([[2, 5, 9, 3]]), np.ones((1, 4), np.int64))]
    static = quantize(bert_graph, Precision("int8-static", "float32"), feeds=feeds)
    exact, found = count_graph(bert_graph, tokens=9), count_graph(static, tokens=9)
    assert (found.parameters, found.multiply_adds) == (exact.parameters, exact.multiply_adds)


def test_an_albert_shares_parameters_and_no_work(tower: Any) -> None:
    """Five applications of one layer cost five layers' products and hold one layer's numbers."""
    ours = trained(to_albert(tower, AlbertRecipe(embedding=8, layers=5)))
    found = count_graph(graph_of(ours), tokens=7)
    assert (
        found.parameters
        == (PIECES + POSITIONS + 2) * 8 + 2 * 8 + 8 * WIDTH + WIDTH + LAYER
        == parameters_of(ours)
    )
    assert found.multiply_adds == 5 * layer_products(7) + 7 * 8 * WIDTH


def test_an_lstm_by_hand(tower: Any) -> None:
    """Two directions of half the width: 6 * width^2 for each token of the one layer, in int8 too."""
    ours = trained(lstm_tower(tower, LstmRecipe()))
    graph = graph_of(ours)
    found = count_graph(graph, tokens=7)
    assert found.multiply_adds == 7 * 6 * WIDTH**2
    assert found.parameters == parameters_of(ours)
    small = count_graph(quantize(graph, Precision()), tokens=7)
    assert (small.parameters, small.multiply_adds) == (found.parameters, found.multiply_adds)


def test_heads_by_hand(tower: Any) -> None:
    """RCNN: a BiLSTM and the convolution for each token, one matrix for the text."""
    ours = trained(with_head(tower, HeadRecipe("rcnn")))
    found = count_graph(graph_of(ours), tokens=7)
    head = 7 * (6 * WIDTH**2 + 2 * WIDTH * WIDTH) + WIDTH**2
    assert found.multiply_adds == LAYERS * layer_products(7) + head
    assert found.parameters == parameters_of(ours)


def test_a_bundle_is_counted_file_by_file(tiny_bundle: Bundle) -> None:
    """Encoder, scorer and sentiment head of a shipped bundle, int8 and 4 bits inside, tensors beside."""
    found = count_bundle(tiny_bundle, tokens=7)
    assert set(found) == {LAYOUT.encoder, LAYOUT.scorer, LAYOUT.sentiment}
    assert found[LAYOUT.encoder].multiply_adds == LAYERS * layer_products(7)
    assert found[LAYOUT.sentiment].multiply_adds == LAYERS * layer_products(7) + WIDTH**2 + 3 * WIDTH
    files = tiny_bundle.manifest.files
    stored = files[LAYOUT.weights]["bytes"] + sum(files[name]["bytes"] for name in found)
    assert found[LAYOUT.encoder].bytes < stored


def test_a_scorer_is_counted_for_one_title(tmp_path: Path) -> None:
    """Both vectors projected, their cosine, both halves of the first layer, the last layer."""
    graph = export_scorer(ResidualScorer(16, hidden=8, width=12), tmp_path / LAYOUT.scorer)
    found = count_graph(graph, tokens=7)
    assert found.multiply_adds == 2 * 16 * 12 + 16 + 2 * 12 * 8 + 8
    assert found.parameters == 16 * 12 + 2 * 12 * 8 + 8 + 8 + 1  # and the offset; the slope is an attribute


# Single operators.


def graph_with(
    nodes: list[onnx.NodeProto], tensors: dict[str, Any], *, inputs: dict[str, list[Any]], output: str
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@given(a=st.integers(1, 5), b=st.integers(1, 5), c=st.integers(1, 5), turned=st.booleans())
def test_gemm_and_einsum_by_hand(a: int, b: int, c: int, turned: bool) -> None:
    """A product of (a, b) and (b, c) is a * b * c multiply-adds, however it is written down."""
    first = np.zeros((b, a) if turned else (a, b), np.float32)
    weights = {"x": first, "w": np.zeros((b, c), np.float32)}
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], transA=int(turned))
    einsum = helper.make_node("Einsum", ["x", "w"], ["y"], equation="ji,jk->ik" if turned else "ij, jk -> ik")
    for node in (gemm, einsum):
        assert (
            count_graph(graph_with([node], weights, inputs={}, output="y"), tokens=1).multiply_adds
            == a * b * c
        )


def test_a_gru_by_hand() -> None:
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=3)
    weights = {"w": np.zeros((1, 9, 2), np.float32), "r": np.zeros((1, 9, 3), np.float32)}
    graph = graph_with([node], weights, inputs={"x": [5, 1, 2]}, output="y")
    assert count_graph(graph, tokens=1) == Counts(45, 180, 5 * 9 * (2 + 3))


def test_shared_matrices_count_once() -> None:
    """Two names for one content are one matrix; equal vectors are two that may still part."""
    matrix, vector = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(3, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["one"]),
        helper.make_node("MatMul", ["x", "second"], ["two"]),
        helper.make_node("Add", ["one", "left"], ["three"]),
        helper.make_node("Add", ["two", "right"], ["four"]),
        helper.make_node("Add", ["three", "four"], ["y"]),
    ]
    tensors = {"first": matrix, "second": matrix, "left": vector, "right": vector, "lone": np.float32(2)}
    graph = graph_with(nodes, tensors, inputs={"x": ["rows", "tokens", 2]}, output="y")
    assert count_graph(graph, tokens=4) == Counts(6 + 3 + 3, 4 * (6 + 3 + 3 + 1), 2 * 4 * 6)


def test_operators_that_nobody_counts_are_refused() -> None:
    """A convolution, or something of a vendor's own, would make the figure too small in silence."""
    convolution = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = graph_with(
        [convolution], {"w": np.zeros((1, 1, 1), np.float32)}, inputs={"x": [1, 1, 4]}, output="y"
    )
    with pytest.raises(InputError, match="found the operators Conv, whose multiply-adds cannot be counted"):
        count_graph(graph, tokens=1)
    fused = graph_with(
        [helper.make_node("Sparkle", ["x"], ["y"], domain="x")], {}, inputs={"x": [1]}, output="y"
    )
    with pytest.raises(InputError, match="found the operators Sparkle"):
        count_graph(fused, tokens=1)


def test_counting_leaves_the_graph_alone(bert_graph: onnx.ModelProto, tmp_path: Path) -> None:
    before = bert_graph.SerializeToString(deterministic=True)
    count_graph(bert_graph, tokens=3)
    assert bert_graph.SerializeToString(deterministic=True) == before
