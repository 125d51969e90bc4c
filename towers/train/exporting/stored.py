"""What the tensors of a graph are: trained numbers, or constants, scales and zero points beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import prod

import onnx
from onnx import NodeProto, TensorProto, numpy_helper

_WEIGHTS = {
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE),
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4),
}
# Operator -> which of its inputs are scales and zero points.
_QUANTISERS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "MatMulInteger": (2, 3),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulNBits": (2, 3),
    "GatherBlockQuantized": (2, 3),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
}


def stored_parameters(graph: onnx.ModelProto) -> int:
    """Return how many trained numbers a graph holds, those of equal matrices once.

    They are the floating and the quantised tensors that are neither scales nor lone numbers, such as the factor that an
    attention divides by.
    """
    beside = _scales(graph)
    packed = {
        node.input[0]: _values_per_byte(node)
        for node in graph.graph.node
        if node.op_type == "GatherBlockQuantized"
    }
    return sum(
        prod(tensor.dims) * (packed.get(tensor.name, 1) if tensor.data_type == TensorProto.UINT8 else 1)
        for tensor in _distinct(graph)
        if tensor.dims and tensor.data_type in _WEIGHTS and tensor.name not in beside
    )


def stored_bytes(graph: onnx.ModelProto) -> int:
    """Return the bytes of all tensors of a graph, equal matrices once."""
    return sum(len(_raw(tensor)) for tensor in _distinct(graph))


def _distinct(graph: onnx.ModelProto) -> Iterator[TensorProto]:
    """Each tensor; of matrices with the same content one. Vectors stay: two biases may both be zero yet."""
    seen: set[bytes] = set()
    for tensor in graph.graph.initializer:
        key = hashlib.sha256(repr((tensor.data_type, tuple(tensor.dims))).encode() + _raw(tensor)).digest()
        if len(tensor.dims) < 2 or key not in seen:
            seen.add(key)
            yield tensor


def _scales(graph: onnx.ModelProto) -> set[str]:
    """Return the names of tensors that say how others are quantised."""
    found = {
        node.input[place]
        for node in graph.graph.node
        for place in _QUANTISERS.get(node.op_type, ())
        if place < len(node.input)
    }
    drawn = {n for node in graph.graph.node if node.op_type == "DynamicQuantizeLinear" for n in node.output}
    # the scale of a matrix is multiplied with the one that was drawn from the activations
    for node in graph.graph.node:
        if node.op_type == "Mul" and drawn.intersection(node.input):
            found.update(node.input)
    return found


def _values_per_byte(node: NodeProto) -> int:
    bits = next((entry.i for entry in node.attribute if entry.name == "bits"), 4)
    return 8 // bits


def _raw(tensor: TensorProto) -> bytes:
    raw: bytes = tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    return raw
