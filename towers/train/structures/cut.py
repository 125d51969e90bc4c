"""Cutting layers: a shallower model made of some layers of a trained one, which distillation then heals.

Cost goes with the number of layers, so half the layers are nearly twice the speed. Which ones stay matters before any
training: of all-MiniLM-L6-v2's six, layers 0, 2 and 5 keep 0.77 Spearman on STS-B, the first three 0.56.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from towers.errors import InputError
from towers.train.bodies import body_of, layer_stack


@dataclass(frozen=True)
class CutRecipe:
    """Which layers stay.

    Source: Sajjad et al. 2023, "On the effect of dropping layers of pre-trained transformer models", section 3 (`first`
    is their top-layer dropping, `spread` their alternate dropping); Sanh et al. 2019, section 3, start a student from
    every other layer. Cost: none by itself; it loses much until distillation follows. Not for models of 2 or 3 layers,
    and not without distillation or fine-tuning afterwards.

    Attributes:
        layers: The layers that stay, from 0, ascending; empty: `keep` and `how` decide.
        keep: How many stay; 0: half of them.
        how: "spread" from the first to the last, or the "first" ones. The last layer is what the pooling was trained
            on: a spread always keeps it.
        where: "both" towers, or the "query" tower alone, whose titles then keep their vectors.
    """

    layers: tuple[int, ...] = ()
    keep: int = 0
    how: str = "spread"
    where: str = "both"

    def __post_init__(self) -> None:
        """Refuse what names no layers, or the same ones in two ways."""
        object.__setattr__(self, "layers", tuple(self.layers))  # TOML gives a list
        if any(type(layer) is not int or layer < 0 for layer in self.layers) or _not_ascending(self.layers):
            raise InputError(
                f"cut: found layers {list(self.layers)}, expected ascending numbers from 0, such as [0, 2, 5]"
            )
        if self.keep < 0 or (self.keep and self.layers):
            raise InputError(
                f"cut: found keep = {self.keep} and layers {list(self.layers)}, expected one of the two, above 0"
            )
        if self.how not in ("spread", "first") or self.where not in ("both", "query"):
            raise InputError(
                f"cut: found how = {self.how!r} and where = {self.where!r}, expected spread or first, both or query"
            )

    def chosen(self, total: int) -> tuple[int, ...]:
        """Return which of `total` layers stay.

        Raises:
            InputError: More layers than there are, or one that does not exist.
        """
        keep = self.keep or max(1, total // 2)
        if keep > total:
            raise InputError(f"cut: found keep = {keep}, expected at most {total}, the layers that there are")
        if self.layers:
            return _existing(self.layers, total)
        if self.how == "first" or keep == 1:
            return tuple(range(keep))
        return tuple(i * (total - 1) // (keep - 1) for i in range(keep))


def cut(model: nn.Module, layers: tuple[int, ...]) -> None:
    """Keep only some layers of a tower or a classifier, in place.

    Args:
        model: As in `bodies.layer_stack`.
        layers: Which stay, from 0, ascending.

    Raises:
        InputError: No layers, one that does not exist, or an architecture without layers of their own.
    """
    stack = layer_stack(model)
    stay = _existing(layers, len(stack))
    for layer in reversed(range(len(stack))):
        if layer not in stay:
            del stack[layer]
    config = body_of(model).config
    kinds = getattr(config, "layer_types", None)  # some architectures say of each layer what it is
    if kinds is not None:
        config.layer_types = [kinds[layer] for layer in stay]
    config.num_hidden_layers = len(stack)


def _existing(layers: tuple[int, ...], total: int) -> tuple[int, ...]:
    if not layers or _not_ascending(layers) or not 0 <= layers[0] <= layers[-1] < total:
        raise InputError(
            f"cut: found layers {list(layers)}, expected some of 0 to {total - 1}, each once, ascending"
        )
    return layers


def _not_ascending(layers: tuple[int, ...]) -> bool:
    return list(layers) != sorted(set(layers))
