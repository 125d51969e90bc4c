"""Matrices that a graph transposes each time it runs, stored transposed instead.

torch's exporter stores most weights the way a product wants them. Those that are large and read more than once, such as
ALBERT's, it leaves behind a Transpose. No quantiser sees that such a product is one with a stored matrix: it would stay
in float32.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper


def store_transposed(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Put stored tensors in the place of transposes of stored tensors, in place, and return the graph.

    A tensor that something else reads as well stays, and such a Transpose with it: nothing is ever held twice.
    """
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(entry.name for entry in graph.graph.output)
    turns = [
        node
        for node in graph.graph.node
        if node.op_type == "Transpose" and node.input[0] in stored and readers[node.input[0]] == 1
    ]
    for node in turns:
        stored[node.input[0]].CopyFrom(_turned(stored[node.input[0]], node))
        graph.graph.node.remove(node)
    return graph


def _turned(tensor: TensorProto, node: NodeProto) -> TensorProto:
    axes = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), None)
    values = np.ascontiguousarray(numpy_helper.to_array(tensor).transpose(axes))
    return numpy_helper.from_array(values, node.output[0])
