"""Torch modules to ONNX graphs, and their int8 form.

Pooling, projection, normalisation, softmax and temperature are inside the graphs, so that nothing outside repeats them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# The smallest block that onnxruntime's GatherBlockQuantized takes is 16; 32 costs 1 bit a weight for scales.
_EMBEDDING_BLOCKS = (32, 16)


@dataclass(frozen=True)
class Precision:
    """How a graph's weights are stored.

    Attributes:
        matmul: "int8" (dynamic, per channel, signed weights in 7 bits, so that AVX2's 16-bit sums never saturate) or
            "float32".
        embedding: "int4" (blocks of 32 along a row), "int8" (one scale a table) or "float32".
    """

    matmul: str = "int8"
    embedding: str = "int4"

    def __post_init__(self) -> None:
        """Refuse what the quantizer does not know."""
        if self.matmul not in ("int8", "float32") or self.embedding not in ("int4", "int8", "float32"):
            raise InputError(
                f"precision {self.matmul} for matrices and {self.embedding} for embeddings, expected int8 or float32, "
                "and int4, int8 or float32"
            )


class TowerGraph(nn.Module):
    """A sentence-transformers model as (input_ids, attention_mask) int64 (n, tokens) -> vectors float32 (n, dim)."""

    def __init__(self, tower: SentenceTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode a padded batch."""
        transformer, *rest = cast("Iterable[Any]", self.tower)
        hidden = transformer.auto_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features: dict[str, Tensor] = {"token_embeddings": hidden, "attention_mask": attention_mask}
        for module in rest:
            features = module(features)
        return features["sentence_embedding"]


class SentimentGraph(nn.Module):
    """A sequence classifier as (input_ids, attention_mask) -> probabilities float32 (n, labels)."""

    def __init__(self, classifier: nn.Module, *, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = temperature

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Classify a padded batch."""
        logits = self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits
        return torch.softmax(logits / self.temperature, dim=-1)


def export_graph(module: nn.Module, *, output: str, max_tokens: int) -> onnx.ModelProto:
    """Trace a module of (input_ids, attention_mask) into a float32 graph for any batch size and length.

    Args:
        module: TowerGraph or SentimentGraph.
        output: Name of the output, "vectors" or "probabilities".
        max_tokens: Longest input that the graph must take.
    """
    module = module.eval().cpu()  # without eval() dropout comes back into the graph
    input_ids = torch.ones((2, 5), dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", max=max_tokens)
    shape = {0: rows, 1: tokens}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module,
            (input_ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=[output],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return without_metadata(onnx.load(str(path)))


def quantize(graph: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """Return the graph with its matrices and embeddings in the wanted precision."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = [
        op for op, kind in (("MatMul", precision.matmul), ("Gather", precision.embedding)) if kind == "int8"
    ]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        if precision.embedding == "int4":
            graph = _embeddings_in_int4(graph)
        if not kinds:
            return graph
        onnx.save(graph, str(source))
        quantize_dynamic(
            str(source),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=kinds,
            # behind GatherBlockQuantized, an operator of onnxruntime's own, onnx infers no types
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return without_metadata(onnx.load(str(target)))


def parity(exact: NDArray[np.float32], vectors: NDArray[np.float32]) -> dict[str, float]:
    """Say how far rows are from the exact ones: mean and least cosine, greatest difference of an element."""
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(vectors, axis=1)
    cosines = (exact * vectors).sum(axis=1) / np.maximum(lengths, 1e-12)
    return {
        "mean_cosine": round(float(cosines.mean()), 5),
        "least_cosine": round(float(cosines.min()), 5),
        "greatest_difference": float(np.abs(exact - vectors).max()),
    }


def tokenizer_json(tokenizer: Any) -> str:
    """Return a transformers tokenizer as one tokenizer.json without padding or truncation, which the runtime sets.

    Raises:
        InputError: The tokenizer has no fast form.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{type(tokenizer).__name__} has no fast form (tokenizer.json), which the runtime needs. "
            "Save the checkpoint with a fast tokenizer."
        )
    copy = type(backend).from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    return str(copy.to_str())


def run_graph(graph: onnx.ModelProto, inputs: Sequence[tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
    """Run a graph on batches of (input_ids, attention_mask) and stack the outputs. For parity checks."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [entry.name for entry in session.get_inputs()]
    outputs = [
        session.run(None, dict(zip(names, (a.numpy() for a in pair), strict=True)))[0] for pair in inputs
    ]
    return np.concatenate(outputs)


def without_metadata(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what the exporter notes about its source: file paths of the machine and 100 KB of names."""
    holders: list[Any] = [
        graph,
        graph.graph,
        *graph.graph.node,
        *graph.graph.initializer,
        *graph.graph.value_info,
    ]
    holders += [*graph.graph.input, *graph.graph.output]
    for holder in holders:
        del holder.metadata_props[:]
        holder.doc_string = ""
    del graph.graph.value_info[:]
    return graph


def _embeddings_in_int4(graph: onnx.ModelProto) -> onnx.ModelProto:
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


def copy_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a deep copy of a graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    return copy


def _table_widths(graph: onnx.ModelProto) -> dict[str, int]:
    """The width of the table that each Gather node looks up in, by the node's name."""
    tables = {entry.name: entry.dims for entry in graph.graph.initializer if len(entry.dims) == 2}
    lookups = (node for node in graph.graph.node if node.op_type == "Gather" and node.input[0] in tables)
    return {node.name: int(tables[node.input[0]][1]) for node in lookups}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's and quantizer's notes, a line for every node; errors still come out."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
