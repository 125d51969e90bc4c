"""The small DNN over two vectors: its form and its graph.

score = sigmoid(a · cosine + b + MLP(|Pu − Pv|, Pu ∘ Pv)) for a query vector u and a title vector v. P is a learned
projection to fewer dimensions; without it the MLP gained less in every setting tried (docs/experiments.md). The MLP's
last layer starts at zero, so that training starts from calibrated cosine.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 20  # the first with Gelu
_IR_VERSION = 10  # of onnx 1.16: every onnxruntime that has the opset reads it


class ResidualScorer(nn.Module):
    """sigmoid(a · cosine + b + MLP(|Pu − Pv|, Pu ∘ Pv)); with `hidden` 0 calibrated cosine alone."""

    def __init__(self, dim: int, *, hidden: int = 64, width: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.hidden = hidden
        self.slope = nn.Parameter(torch.tensor(10.0))  # cosines of matches are about 0.3 above the others
        self.offset = nn.Parameter(torch.tensor(-5.0))
        if not hidden:
            return
        width = min(width, dim)
        self.project = nn.Linear(dim, width, bias=False)
        nn.init.orthogonal_(self.project.weight)
        self.first = nn.Linear(2 * width, hidden)  # columns: |Pu − Pv|, then Pu ∘ Pv
        self.last = nn.Linear(hidden, 1, bias=False)  # `offset` is its bias
        nn.init.zeros_(self.last.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, titles: Tensor) -> Tensor:
        """Return logits (n,) of pairs (n, dim) and (n, dim)."""
        cosines = (queries * titles).sum(dim=-1)
        return self.slope * cosines + self.offset + self.residual(queries, titles)

    def residual(self, queries: Tensor, titles: Tensor) -> Tensor:
        """Return the MLP's part of the logits, (n,)."""
        if not self.hidden:
            return torch.zeros(len(titles))
        u, v = self.project(queries), self.project(titles)
        pair = torch.cat([(u - v).abs(), u * v], dim=-1)
        hidden = nn.functional.gelu(self.first(self.dropout(pair)))
        logits: Tensor = self.last(self.dropout(hidden)).squeeze(-1)
        return logits

    @torch.no_grad()
    def rescale(self, slope: float, offset: float) -> None:
        """Make every logit z become slope · z + offset, as calibration asks."""
        self.offset.mul_(slope).add_(offset)
        self.slope.mul_(slope)
        if self.hidden:
            self.last.weight.mul_(slope)

    @torch.no_grad()
    def shrink(self, share: float) -> None:
        """Multiply the MLP's part of the logits by a share in 0..1."""
        if self.hidden:
            self.last.weight.mul_(share)


# The graph.


def export_scorer(scorer: ResidualScorer, path: Path) -> onnx.ModelProto:
    """Write the scorer as a graph of (query (dim,), titles (n, dim)) -> probabilities (n,), and return it.

    What depends on the query alone is computed once a call: Pu goes into the weights of the product part, as
    (Pu ∘ Pv)·W = Pv·(diag(Pu) W), so that no (n, width) product is formed.
    """
    nodes, tensors = _cosine_nodes(scorer)
    if scorer.hidden:
        more_nodes, more_tensors = _residual_nodes(scorer)
        nodes += more_nodes
        tensors += more_tensors
    logits = "logits" if scorer.hidden else "calibrated"  # (1, n)
    nodes.append(helper.make_node("Squeeze", [logits, "zero"], ["logits_of_titles"]))
    nodes.append(helper.make_node("Sigmoid", ["logits_of_titles"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "scorer",
        [
            helper.make_tensor_value_info("query", TensorProto.FLOAT, [scorer.dim]),
            helper.make_tensor_value_info("titles", TensorProto.FLOAT, ["titles", scorer.dim]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["titles"])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(model.SerializeToString(deterministic=True))
    temporary.replace(path)
    return model


def _cosine_nodes(scorer: ResidualScorer) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes that leave a · cosine + b in "calibrated", (1, n)."""
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["query", "zero"], ["query_row"]),
        # One row times a transposed matrix: four times as fast in onnxruntime as the matrix times one column.
        node("Gemm", ["query_row", "titles", "offset"], ["calibrated"], alpha=scorer.slope.item(), transB=1),
    ]
    return nodes, [_tensor("offset", scorer.offset), numpy_helper.from_array(np.array([0], np.int64), "zero")]


def _residual_nodes(scorer: ResidualScorer) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    width = scorer.project.out_features
    first = scorer.first.weight.T
    tensors = [
        _tensor("projection", scorer.project.weight.T),  # (dim, width)
        _tensor("difference_weights", first[:width]),  # (width, hidden)
        _tensor("product_weights", first[width:]),
        _tensor("bias", scorer.first.bias),
        _tensor("last_weights", scorer.last.weight),  # (1, hidden)
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    node = helper.make_node
    nodes = [
        node("MatMul", ["query", "projection"], ["u"]),
        node("Unsqueeze", ["u", "one"], ["u_column"]),
        node("Mul", ["u_column", "product_weights"], ["folded_weights"]),
        node("MatMul", ["titles", "projection"], ["v"]),
        node("Sub", ["v", "u"], ["signed"]),
        node("Abs", ["signed"], ["difference"]),
        node("Gemm", ["difference", "difference_weights", "bias"], ["from_difference"]),
        node("Gemm", ["v", "folded_weights", "from_difference"], ["before"]),
        node("Gelu", ["before"], ["after"]),
        node("Gemm", ["last_weights", "after", "calibrated"], ["logits"], transB=1),
    ]
    return nodes, tensors


def _tensor(name: str, values: Tensor) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values.detach().numpy().astype(np.float32)), name)
