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
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.errors import InputError
from towers.train.exporting.precision import Precision as Precision  # found here, beside what takes it
from towers.train.exporting.turned import store_transposed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Feed = Sequence[NDArray[np.generic]]
"""A graph's inputs, in its own order."""


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
        self.temperature: Tensor  # a tensor of the graph, so that a template of it takes another one
        self.register_buffer("temperature", torch.tensor(float(temperature)))

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
        return store_transposed(without_metadata(onnx.load(str(path))))


def quantize(
    graph: onnx.ModelProto,
    precision: Precision,
    *,
    feeds: Sequence[Feed] = (),
    first_layer: int = 0,
) -> onnx.ModelProto:
    """Return the graph with its matrices and embeddings in the wanted precision.

    Layers to keep in float32 that the graph does not have are passed over: they are those of another stage.

    Args:
        graph: A float32 graph; it is not changed.
        precision: The wanted one.
        feeds: Inputs of one text each, to fix scales on; only "int8-static" needs them.
        first_layer: Number of the first layer in this graph, where it is a later stage of a model.

    Raises:
        InputError: Static quantisation without feeds, or layers that have yet to be chosen.
    """
    if precision.is_open:
        raise InputError(
            f"found spare = {precision.spare} and most_lost = {precision.most_lost:g}, expected layers by number: "
            "int8.settle chooses them on texts, before quantising"
        )
    if precision.is_static and not feeds:
        raise InputError(
            "found no texts to fix the scales of int8-static on; give some hundred (--calibrate), or take int8"
        )
    quantized = _in_integers(graph, precision, _kept_matrices(graph, precision, first_layer))
    if not precision.is_static:
        return quantized
    from towers.train.exporting.fixed_scales import fix_scales

    return fix_scales(quantized, feeds)


def _kept_matrices(graph: onnx.ModelProto, precision: Precision, first_layer: int) -> list[str]:
    if not precision.keep_float32:
        return []
    from towers.train.exporting.matrices import matrix_layers

    layers = matrix_layers(graph, first_layer=first_layer)
    return [name for name, layer in layers.items() if layer in precision.keep_float32]


def _in_integers(graph: onnx.ModelProto, precision: Precision, kept: Sequence[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from towers.train.exporting.int4 import embeddings_in_int4

    in_int8 = precision.matmul != "float32"
    wanted = (("MatMul", in_int8), ("LSTM", in_int8), ("Gather", precision.embedding == "int8"))
    kinds = [op for op, chosen in wanted if chosen]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        if kinds:
            onnx.save(graph, str(source))
            quantize_dynamic(
                str(source),
                str(target),
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                op_types_to_quantize=kinds,
                nodes_to_exclude=list(kept),
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
            graph = without_metadata(onnx.load(str(target)))
        # last: onnx infers no types behind onnxruntime's own operator for 4 bits, and an LSTM of unknown input is left
        return embeddings_in_int4(graph) if precision.embedding == "int4" else graph


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


def copy_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a deep copy of a graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    return copy


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
