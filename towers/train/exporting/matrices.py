"""Which layer each matrix of a transformer's graph belongs to, told from the graph alone.

Names are no help: the exporter folds transposed weights into tensors called val_72, and ALBERT's layers have one and
the same matrices. So the graph's form decides. An attention is a softmax whose result is multiplied with something
computed. The matrices right before it (query, key, value) are of its layer, and so is all that comes after it, up to
those right before the next. What comes before every attention is of no layer (ALBERT's widening of embeddings).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import NodeProto

_ENDS = ("LayerNormalization", "MatMul")  # no way from an attention back to its matrices leads through these


def matrix_layers(graph: onnx.ModelProto, *, first_layer: int = 0) -> dict[str, int | None]:
    """Return the layer of each product with a stored matrix: name of the MatMul node -> layer, None for no layer.

    What stands behind the last layer counts as part of it: a projection or a head. An attention in a head counts as
    one layer more. Products that the exporter writes as Gemm (of one row a text, as in a pooler) stay in float32 and
    are not listed.

    Args:
        graph: A float32 graph, nodes in order of computation.
        first_layer: Number of the first layer in this graph, where it is a later stage of a model.
    """
    stored = {entry.name for entry in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type == "MatMul"]
    matrices = [node for node in products if node.input[1] in stored]
    attentions = _attentions(graph, [node for node in products if node.input[1] not in stored])
    behind = _attentions_before(graph, attentions)
    layers: dict[str, int | None] = {}
    for node in matrices:
        layer = behind[node.output[0]] - 1
        layers[node.name] = layer + first_layer if layer >= 0 else None
    makers = {name: node for node in graph.graph.node for name in node.output}
    names = {node.name for node in matrices}
    for number, attention in enumerate(attentions):
        layers |= dict.fromkeys(_right_before(attention, makers, names), number + first_layer)
    return layers


def layers_of(graph: onnx.ModelProto) -> list[int]:
    """Return the numbers of the layers that have matrices in a graph."""
    return sorted({layer for layer in matrix_layers(graph).values() if layer is not None})


def _attentions(graph: onnx.ModelProto, products: Iterable[NodeProto]) -> list[NodeProto]:
    """Those products of two computed tensors into which a softmax leads, other products aside."""
    weights: set[str] = set()
    for node in graph.graph.node:
        if node.op_type == "Softmax" or (node.op_type not in _ENDS and weights.intersection(node.input)):
            weights.update(node.output)
    return [node for node in products if node.input[0] in weights]


def _attentions_before(graph: onnx.ModelProto, attentions: Iterable[NodeProto]) -> Mapping[str, int]:
    """For each tensor, how many attentions lie on the way to it."""
    own = {node.output[0] for node in attentions}
    count: dict[str, int] = {}
    for node in graph.graph.node:
        most = max((count.get(name, 0) for name in node.input), default=0)
        count.update(dict.fromkeys(node.output, most + (node.output[0] in own)))
    return count


def _right_before(attention: NodeProto, makers: Mapping[str, NodeProto], matrices: set[str]) -> set[str]:
    """Names of the matrices that an attention's inputs come from with no other matrix or normalisation between."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(attention.input)
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.name in matrices:
            found.add(node.name)
        elif node.op_type != "LayerNormalization":
            waiting.extend(node.input)
    return found
