"""Exporting many models of one structure: trace it once, then put other weights into the graph.

Tracing takes several times as long as everything else that makes a bundle, and most rows of a comparison differ in
their weights alone. A graph's tensors are the model's parameters, as they are or transposed. Which is which is found
by value, with random weights, so that no two are alike; every graph is then held against torch.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from towers.train.exporting.export import copy_graph, export_graph, run_graph

_TOLERANCE = 1e-3  # of an element; as in assemble.tower_parity
_NO_STRUCTURE = {"_name_or_path", "architectures", "dtype", "transformers_version"}  # of a configuration


@dataclass(frozen=True)
class Template:
    """A traced structure.

    Attributes:
        graph: Its tensors that are parameters hold random values.
        places: Name of a tensor of the graph -> (name of the parameter, whether it is transposed).
    """

    graph: onnx.ModelProto
    places: Mapping[str, tuple[str, bool]]

    def filled(self, module: nn.Module) -> onnx.ModelProto:
        """Return the graph with the weights of a module of this structure."""
        weights = _weights(module)
        graph = copy_graph(self.graph)
        for tensor in graph.graph.initializer:
            if tensor.name in self.places:
                name, transposed = self.places[tensor.name]
                value = np.ascontiguousarray(weights[name].T if transposed else weights[name])
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        return graph


class Templates:
    """Exports modules as `export.export_graph` does, and traces each structure once."""

    def __init__(self) -> None:
        self._known: dict[str, Template] = {}

    def export(self, module: nn.Module, *, output: str, max_tokens: int) -> onnx.ModelProto:
        """Return a float32 graph; arguments as in `export_graph`.

        Where a template's graph differs from torch, because something was computed from a parameter while tracing,
        the module is traced by itself.
        """
        module = module.eval().cpu()
        key = f"{_structure(module)}|{output}|{max_tokens}"
        if key not in self._known:
            self._known[key] = _traced(module, output=output, max_tokens=max_tokens)
        graph = self._known[key].filled(module)
        if _agrees(graph, module):
            return graph
        return export_graph(module, output=output, max_tokens=max_tokens)


def _traced(module: nn.Module, *, output: str, max_tokens: int) -> Template:
    twin = copy.deepcopy(module)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in twin.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=draw) * 0.02)
    graph = export_graph(twin, output=output, max_tokens=max_tokens)
    by_content: dict[bytes, tuple[str, bool]] = {}
    for name, weight in _weights(twin).items():
        by_content.setdefault(_content(weight), (name, False))
        if weight.ndim == 2:
            by_content.setdefault(_content(weight.T), (name, True))
    found = {x.name: by_content.get(_content(numpy_helper.to_array(x))) for x in graph.graph.initializer}
    return Template(graph, {name: place for name, place in found.items() if place is not None})


def _structure(module: nn.Module) -> str:
    """What a traced graph depends on besides the weights: modules, shapes and the transformers' configurations."""
    owned: list[Any] = [getattr(one, "config", None) for one in module.modules()]
    configs = [
        json.dumps(
            {k: v for k, v in x.to_dict().items() if k not in _NO_STRUCTURE}, sort_keys=True, default=str
        )
        for x in owned
        if hasattr(x, "to_dict")
    ]
    shapes = {name: list(value.shape) for name, value in module.state_dict().items()}
    return f"{module!r}|{configs}|{shapes}"


def _weights(module: nn.Module) -> dict[str, NDArray[Any]]:
    tensors: dict[str, torch.Tensor] = dict(module.state_dict())
    return {name: value.detach().numpy() for name, value in tensors.items() if value.is_floating_point()}


def _content(value: NDArray[Any]) -> bytes:
    return str(value.shape).encode() + np.ascontiguousarray(value).tobytes()


def _agrees(graph: onnx.ModelProto, module: nn.Module) -> bool:
    """Whether graph and module give the same for two texts of different length."""
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 0, 0, 0, 0]])
    mask = (ids > 0).long()
    with torch.inference_mode():
        expected = module(ids, mask).numpy()
    found = run_graph(graph, [(ids, mask)])
    return bool(np.abs(found - expected).max() < _TOLERANCE)
