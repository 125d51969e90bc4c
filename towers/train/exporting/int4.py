"""Embedding tables in 4 bits."""

from __future__ import annotations

from typing import Any

import onnx

from towers.errors import InputError
from towers.train.exporting.export import copy_graph, without_metadata

# The smallest block that onnxruntime's GatherBlockQuantized takes is 16; 32 costs 1 bit a weight for scales.
_EMBEDDING_BLOCKS = (32, 16)


def embeddings_in_int4(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Store embedding tables as 4-bit integers with one scale per block of a row (GatherBlockQuantized).

    Tables whose rows are no whole number of blocks, such as MPNet's relative positions, stay as they are.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    graph = copy_graph(graph)  # the quantizer works in place
    widths = _table_widths(graph)
    fitting = [width for width in widths.values() if width % min(_EMBEDDING_BLOCKS) == 0]
    if not fitting:
        raise InputError(
            f"embeddings of width {sorted(set(widths.values()))} cannot be cut into blocks of 16: "
            "use embedding precision int8"
        )
    block = next(size for size in _EMBEDDING_BLOCKS if all(width % size == 0 for width in fitting))
    other = [name for name, width in widths.items() if width % block]
    options: dict[str, Any] = {"op_types_to_quantize": ("Gather",), "quant_axes": (("Gather", 1),)}
    config = DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=True, bits=4, **options)
    quantizer = MatMulNBitsQuantizer(
        graph, block_size=block, is_symmetric=True, nodes_to_exclude=other, algo_config=config, **options
    )
    quantizer.process()
    return without_metadata(quantizer.model.model)


def _table_widths(graph: onnx.ModelProto) -> dict[str, int]:
    """The width of the table that each Gather node looks up in, by the node's name."""
    tables = {entry.name: entry.dims for entry in graph.graph.initializer if len(entry.dims) == 2}
    lookups = (node for node in graph.graph.node if node.op_type == "Gather" and node.input[0] in tables)
    return {node.name: int(tables[node.input[0]][1]) for node in lookups}
