"""A narrow BERT out of a wide one: which units stay, and what the weights between them become.

Structured pruning (Xia et al. 2022, CoFi, section 3.1: hidden dimensions, heads and inner units) with one pass of
reconstruction, layer by layer, in place of training (He et al. 2017, channel pruning, section 3.1): the units that
contribute most stay, and each matrix is fitted again, in the order in which the model runs, so that from what the
narrow model really gives it comes closest to what the wide one gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Rows = NDArray[np.int64]
_RIDGE = 1e-2  # of the mean variance of an input: pulls what the texts leave open to the wide model's weights


@dataclass(frozen=True)
class Inputs:
    """Texts to look at a model with.

    Attributes:
        input_ids: int64 (n, tokens).
        attention_mask: int64 (n, tokens).
    """

    input_ids: Tensor
    attention_mask: Tensor

    def flat(self, states: Tensor) -> Tensor:
        """Return the states (n, tokens, width) of all real tokens, (m, width); those of texts as they are."""
        return states[self.attention_mask.bool()] if states.ndim == 3 else states


@dataclass(frozen=True)
class Units:
    """Which units of a wide model stay.

    Attributes:
        hidden: int64 (width,), dimensions of the hidden states, the same in all layers: the residual sums tie them.
        heads: For each layer int64 (width,), the places of the heads that stay in the attention's output.
        inner: For each layer int64 (intermediate,), units of the feed-forward part.
    """

    hidden: Rows
    heads: tuple[Rows, ...]
    inner: tuple[Rows, ...]

    def of(self, name: str) -> tuple[Rows | None, Rows | None]:
        """Return what stays of a module's outputs and inputs; None for all."""
        found = re.search(r"\.layer\.(\d+)\.", name)
        if found is None:
            if name.endswith("_embeddings"):
                return None, self.hidden  # a table: rows are words, columns hidden dimensions
            return (self.hidden if re.search(r"LayerNorm$|pooler\.dense$", name) else None), self.hidden
        layer = int(found.group(1))
        if ".self." in name:
            return self.heads[layer], self.hidden
        if name.endswith("attention.output.dense"):
            return self.hidden, self.heads[layer]
        if name.endswith("intermediate.dense"):
            return self.inner[layer], self.hidden
        return self.hidden, self.inner[layer]


def choose_units(wide: nn.Module, inputs: Inputs, *, width: int, head_size: int, intermediate: int) -> Units:
    """Keep the units from which the others can best be told, on the given texts.

    Hidden dimensions over all tokens and layers; inner units by what they add to the hidden states. Of heads, which
    stay whole, those that add most.
    """
    norms = [name for name, module in wide.named_modules() if isinstance(module, nn.LayerNorm)]
    dense = [name for name, _ in wide.named_modules() if name.endswith("output.dense") and ".layer." in name]
    with _watched(wide, [*norms, *dense]) as seen:
        _run(wide, inputs)
    hidden = torch.cat([inputs.flat(seen[name][1]) for name in norms])
    heads, inner = [], []
    for name in dense:
        reach = wide.get_submodule(name).get_parameter("weight").detach().norm(dim=0)
        added = inputs.flat(seen[name][0]) * reach
        if name.endswith("attention.output.dense"):
            best = _largest(added.var(dim=0).reshape(-1, head_size).sum(dim=1), width // head_size)
            heads.append((best[:, None] * head_size + np.arange(head_size)).reshape(-1))
        else:
            inner.append(_telling(added, intermediate))
    return Units(_telling(hidden, width), tuple(heads), tuple(inner))


def copy_units(wide: nn.Module, narrow: nn.Module, units: Units) -> None:
    """Give a narrow model the wide one's weights between the units that stay."""
    modules = dict(wide.named_modules())
    for name, module in narrow.named_modules():
        outputs, columns = units.of(name)
        for key, parameter in module.named_parameters(recurse=False):
            value = modules[name].get_parameter(key).detach()
            if outputs is not None:
                value = value[torch.from_numpy(outputs)]
            if columns is not None and value.ndim == 2:
                value = value[:, torch.from_numpy(columns)]
            parameter.data.copy_(value)


def refit(wide: nn.Module, narrow: nn.Module, units: Units, inputs: Inputs) -> None:
    """Fit each matrix and normalisation of the narrow model to what the wide one's gives, in order."""
    names = [name for name, module in narrow.named_modules() if isinstance(module, nn.Linear | nn.LayerNorm)]
    with _watched(wide, names) as seen:
        _run(wide, inputs)
    for together in _with_one_input(names):
        with _watched(narrow, together) as own:
            _run(narrow, inputs)
        for name in together:
            module, (outputs, _) = narrow.get_submodule(name), units.of(name)
            wanted = inputs.flat(seen[name][1])
            wanted = wanted if outputs is None else wanted[:, torch.from_numpy(outputs)]
            if isinstance(module, nn.Linear):
                fit_linear(module, inputs.flat(own[name][0]), wanted)
            elif isinstance(module, nn.LayerNorm):
                _fit_scale(module, inputs.flat(own[name][1]), wanted)


def _with_one_input(names: Sequence[str]) -> list[list[str]]:
    """Group the modules that read the same states, an attention's query, key and value: one run serves all three."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\.self\.\w+$", ".self", name), []).append(name)
    return list(groups.values())


def fit_linear(linear: nn.Linear, found: Tensor, wanted: Tensor) -> None:
    """Give a linear layer the weights that come closest to `wanted` (m, out) from `found` (m, in).

    Ridge regression towards the weights that it has.
    """
    middle, aim = found.mean(dim=0), wanted.mean(dim=0)
    centred, old = found - middle, linear.weight.detach()
    gram = (centred.T @ centred).double()
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + 1e-12)
    left = centred.T @ (wanted - aim - centred @ old.T)
    weight = old + torch.linalg.solve(gram, left.double()).T.float()
    linear.weight.data.copy_(weight)
    if linear.bias is not None:
        linear.bias.data.copy_(aim - weight @ middle)


def _fit_scale(norm: nn.LayerNorm, found: Tensor, wanted: Tensor) -> None:
    """Scale and shift each dimension on its own, as a normalisation's weights can."""
    middle, aim = found.mean(dim=0), wanted.mean(dim=0)
    centred = found - middle
    slope = (centred * (wanted - aim)).mean(dim=0) / centred.square().mean(dim=0).clamp_min(1e-12)
    norm.weight.data.mul_(slope)
    norm.bias.data.mul_(slope).add_(aim - slope * middle)


def _telling(states: Tensor, count: int) -> Rows:
    """Return the columns of (m, n) that tell most of the rest: the pivots of its covariance's Cholesky factor.

    Each next one has the largest variance that those before it leave unexplained, so of two that say the same one goes.
    """
    from scipy.linalg.lapack import dpstrf

    centred = states - states.mean(dim=0)
    _, pivots, _, _ = dpstrf((centred.T @ centred).double().numpy(), tol=0.0)
    return np.sort(pivots[:count] - 1).astype(np.int64)


def _largest(scores: Tensor, count: int) -> Rows:
    return np.sort(scores.argsort(descending=True, stable=True)[:count].numpy())


@contextmanager
def _watched(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Note the first input and the output of some modules while the block runs."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str) -> Any:
        return lambda _, inputs, output: seen.__setitem__(name, (inputs[0].detach(), output.detach()))

    hooks = [model.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _run(model: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad():
        model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask)
