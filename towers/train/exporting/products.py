"""Multiply-adds of the operators that multiply matrices, from the shapes of what they read and give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import onnx
from onnx import NodeProto

from towers.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]

# Operators of onnxruntime's own domain that multiply no matrices.
_HARMLESS = {
    *("GatherBlockQuantized", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("Gelu", "BiasGelu", "FastGelu", "QuickGelu", "LayerNormalization", "SkipLayerNormalization"),
}
# Operators of ONNX's own domain that multiply matrices and are not counted here; none comes out of our exports.
_UNCOUNTED = {
    *("Attention", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "QLinearConv", "RNN"),
    *("If", "Loop", "Scan"),
}


def is_counted(node: NodeProto) -> bool:
    """Whether a node is a matrix product or an LSTM."""
    return node.op_type in _RULES


def multiply_adds(node: NodeProto, shapes: Shapes) -> int:
    """Return the multiply-adds of a node that `is_counted`."""
    return _RULES[node.op_type](node, shapes)


def refuse_unknown(graph: onnx.ModelProto) -> None:
    """Refuse a graph with products that nobody counts: too small a number would be worse than none.

    Raises:
        InputError: Names the operators.
    """
    unknown = {
        node.op_type
        for node in graph.graph.node
        if not is_counted(node)
        and (
            node.op_type in _UNCOUNTED
            or (node.domain not in ("", "ai.onnx") and node.op_type not in _HARMLESS)
        )
    }
    unknown |= {function.name for function in graph.functions}
    if unknown:
        raise InputError(
            f"found the operators {', '.join(sorted(unknown))}, whose multiply-adds cannot be counted; expected "
            f"a graph as export_graph and quantize make it, with products among {', '.join(sorted(_RULES))}"
        )


def _matmul(node: NodeProto, shapes: Shapes) -> int:
    turned = _attribute(node, "transA", 0)  # of onnxruntime's FusedMatMul
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][-2 if turned else -1]


def _gemm(node: NodeProto, shapes: Shapes) -> int:
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if _attribute(node, "transA", 0) else 1]


def _einsum(node: NodeProto, shapes: Shapes) -> int:
    """All index values together: each is one multiply-add, as of a loop over all letters."""
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    sizes: dict[str, int] = {}
    for letters, name in zip(equation.split("->")[0].split(","), node.input, strict=True):
        if not letters.isalpha():
            raise InputError(f"found Einsum {equation}, expected letters alone, without dots")
        sizes |= dict(zip(letters, shapes[name], strict=True))
    return prod(sizes.values())


def _recurrent(gates: int) -> Callable[[NodeProto, Shapes], int]:
    def rule(node: NodeProto, shapes: Shapes) -> int:
        """Each step multiplies the input and the state before it with the matrices of all gates."""
        steps, rows, inputs = shapes[node.input[0]]
        hidden = _attribute(node, "hidden_size", 0)
        directions = 2 if _attribute(node, "direction", b"forward") == b"bidirectional" else 1
        return int(steps * rows * directions * gates * hidden * (inputs + hidden))

    return rule


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    found = [onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name]
    return found[0] if found else default


_RULES: Mapping[str, Callable[[NodeProto, Shapes], int]] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    **dict.fromkeys(("FusedMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"), _matmul),
    "Gemm": _gemm,
    "Einsum": _einsum,
    **dict.fromkeys(("LSTM", "DynamicQuantizeLSTM"), _recurrent(4)),
    "GRU": _recurrent(3),
}
