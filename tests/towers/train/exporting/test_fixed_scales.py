"""With fixed scales a row of an int8 graph gets what it gets alone, to the bit, and stays near the float graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.towers.train.exporting.test_export import TEXTS, batch
from towers.train.exporting.export import Precision, parity, quantize, run_graph
from towers.train.exporting.fixed_scales import fix_scales


@pytest.fixture(scope="module")
def fixed(tower: Any, tower_graph: onnx.ModelProto) -> onnx.ModelProto:
    feeds = [[array.numpy() for array in batch(tower, [text])] for text in TEXTS]
    return fix_scales(quantize(tower_graph, Precision()), feeds)


def test_company_changes_nothing(tower: Any, tower_graph: onnx.ModelProto, fixed: onnx.ModelProto) -> None:
    """Alone and in a batch the vectors are the same; with scales drawn from the batch they are not."""
    together, alone = [batch(tower, TEXTS)], [batch(tower, [text]) for text in TEXTS]
    np.testing.assert_allclose(run_graph(fixed, together), run_graph(fixed, alone), atol=1e-6)
    dynamic = quantize(tower_graph, Precision())
    assert np.abs(run_graph(dynamic, together) - run_graph(dynamic, alone)).max() > 1e-3


def test_vectors_stay_near_torch(tower: Any, fixed: onnx.ModelProto) -> None:
    assert parity(tower.encode(TEXTS), run_graph(fixed, [batch(tower, TEXTS)]))["least_cosine"] > 0.97


def test_products_are_one_node(tower_graph: onnx.ModelProto, fixed: onnx.ModelProto) -> None:
    """Nothing is left that searches a batch for its extremes, and scaling and bias are inside the products."""
    kinds = [node.op_type for node in fixed.graph.node]
    dynamic = [node.op_type for node in quantize(tower_graph, Precision()).graph.node]
    assert kinds.count("MatMulIntegerToFloat") == dynamic.count("MatMulInteger") > 0
    assert not {"DynamicQuantizeLinear", "MatMulInteger"} & set(kinds)
    onnx.checker.check_model(onnx.ModelProto.FromString(fixed.SerializeToString()), full_check=False)


def test_what_lies_outside_the_ranges_is_cut_off(tower: Any, tower_graph: onnx.ModelProto) -> None:
    """Ranges from one short text: other texts still give vectors of length 1, only worse ones."""
    feeds = [[array.numpy() for array in batch(tower, ["a"])]]
    narrow = fix_scales(quantize(tower_graph, Precision()), feeds)
    vectors = run_graph(narrow, [batch(tower, TEXTS)])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_float_graph_has_no_scales_to_fix(tower_graph: onnx.ModelProto) -> None:
    assert fix_scales(tower_graph, []) is tower_graph
