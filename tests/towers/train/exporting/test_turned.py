"""Transposes of stored matrices are done once, when the graph is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from towers.train.exporting.turned import store_transposed

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def graph_of(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(MATRIX, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(graph: onnx.ModelProto) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones((1, 3), np.float32)})[0]


def test_a_stored_matrix_is_turned_once() -> None:
    """Two products read one transposed matrix: afterwards it is stored that way, once, and gives the same."""
    graph = graph_of(
        [
            helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "turned"], ["one"]),
            helper.make_node("MatMul", ["x", "turned"], ["two"]),
            helper.make_node("Add", ["one", "two"], ["y"]),
        ]
    )
    expected = run(graph)
    found = store_transposed(graph)
    assert [node.op_type for node in found.graph.node] == ["MatMul", "MatMul", "Add"]
    assert [list(tensor.dims) for tensor in found.graph.initializer] == [[3, 2]]
    np.testing.assert_array_equal(run(found), expected)


def test_a_matrix_that_is_read_both_ways_stays() -> None:
    """As of tied input and output embeddings: turned and unturned would be two copies."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["one"]),
        helper.make_node("MatMul", ["one", "w"], ["y"]),
    ]
    found = store_transposed(graph_of(nodes))
    assert [node.op_type for node in found.graph.node] == ["Transpose", "MatMul", "MatMul"]
    assert len(found.graph.initializer) == 1


def test_a_computed_tensor_is_left_to_the_graph() -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("MatMul", ["w", "t"], ["y"])]
    assert len(store_transposed(graph_of(nodes)).graph.node) == 2
