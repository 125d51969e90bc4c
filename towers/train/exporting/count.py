"""What a graph holds and what it computes: parameters, bytes, multiply-adds, read off the exported graph itself.

The graph is counted, not the torch module: what was pruned, fused or quantised away on the way is not there, and every
structure (fewer layers, ALBERT, LSTM, any head, any precision) is counted by one rule. Shapes come from a run of the
graph on one text, so that no shape inference has to know onnxruntime's own operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from towers.bundle import Bundle
from towers.train.exporting.export import copy_graph
from towers.train.exporting.products import is_counted, multiply_adds, refuse_unknown
from towers.train.exporting.stored import stored_bytes, stored_parameters


@dataclass(frozen=True)
class Counts:
    """The size of a graph.

    Attributes:
        parameters: Trained numbers, in whatever precision; a tensor that is read many times counts once. Scales and
            zero points of quantisation are none.
        bytes: What all tensors take, scales and the like included; equal matrices once, as a bundle stores them.
        multiply_adds: Of matrix products and LSTMs for one text (a FLOP count says twice as many). Additions, softmax,
            normalisation and activations are left out: under 2 in 100 of a BERT.
    """

    parameters: int
    bytes: int
    multiply_adds: int


def count_graph(graph: onnx.ModelProto, *, tokens: int) -> Counts:
    """Count a graph for one text, or for a scorer one title.

    Args:
        graph: float32, int8 (dynamic or with fixed scales) or with 4-bit embeddings, its tensors inside.
        tokens: Length of the text, special tokens included.

    Raises:
        InputError: An operator that may hide products which this does not know how to count.
    """
    refuse_unknown(graph)
    shapes = _shapes(graph, tokens=tokens)
    products = sum(multiply_adds(node, shapes) for node in graph.graph.node if is_counted(node))
    return Counts(stored_parameters(graph), stored_bytes(graph), products)


def count_bundle(bundle: Bundle, *, tokens: int) -> dict[str, Counts]:
    """Count each graph of a bundle: file name -> counts.

    Files that have tensors in common share them on disk; here each counts its own whole.

    Args:
        bundle: An open bundle.
        tokens: Length of the text; the scorer's counts are those of one pair.
    """
    names = sorted(name for name in bundle.manifest.files if name.endswith(".onnx"))
    return {name: count_graph(onnx.load(str(bundle.path / name)), tokens=tokens) for name in names}


def _shapes(graph: onnx.ModelProto, *, tokens: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors that products read or give."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    wanted = {
        name
        for node in graph.graph.node
        if is_counted(node)
        for name in (*node.input, *node.output)
        if name and name not in shapes
    }
    feeds = {entry.name: _example(entry, tokens=tokens) for entry in graph.graph.input}
    shapes |= {name: value.shape for name, value in feeds.items()}
    names = sorted(wanted - set(feeds))
    values = _run(graph, names, feeds)
    return shapes | {name: value.shape for name, value in zip(names, values, strict=True)}


def _example(entry: onnx.ValueInfoProto, *, tokens: int) -> Any:
    """Return ones for an input: one row; where its second axis has no fixed length, that many tokens."""
    tensor = entry.type.tensor_type
    free = (1, tokens)
    shape = [
        dim.dim_value or (free[axis] if axis < len(free) else 1) for axis, dim in enumerate(tensor.shape.dim)
    ]
    return np.ones(shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))


def _run(graph: onnx.ModelProto, names: list[str], feeds: Mapping[str, Any]) -> list[Any]:
    """Run a graph and return tensors from inside it."""
    import onnxruntime

    open_graph = copy_graph(graph)
    del open_graph.graph.output[:]
    open_graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        open_graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    read = {entry.name for entry in session.get_inputs()}
    found: list[Any] = session.run(names, {name: value for name, value in feeds.items() if name in read})
    return found
