"""A classifier with exits: a small head after some of its layers, all of which answer in one pass in training.

The last exit is the classifier's own head, so that with nobody leaving early the model is what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from towers.errors import InputError
from towers.train.bodies import layer_stack, width_of

_QUERIES = 4  # weighted means that a head takes over the tokens; guess, untested
_WIDTH = 128  # of a head, as of FastBERT's student classifiers (Liu et al. 2020, section 4.3)


@dataclass(frozen=True)
class ExitOutput:
    """What all exits say.

    Attributes:
        logits: Of the last exit, (n, classes).
        exits: Of all exits, the last one included, (exits, n, classes).
    """

    logits: Tensor
    exits: Tensor


class ExitHead(nn.Module):
    """Hidden states (n, tokens, width) and mask (n, tokens) -> logits (n, classes).

    Some learned weighted means over the tokens, then a small network: low layers have not yet gathered what a text says
    in one place, so that neither the first token nor the plain mean would tell.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(width, _QUERIES)
        self.dense = nn.Linear(_QUERIES * width, _WIDTH)
        self.classifier = nn.Linear(_WIDTH, classes)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Classify from hidden states."""
        outside = (1.0 - attention_mask.to(hidden.dtype)).unsqueeze(-1) * -1e4
        shares = torch.softmax(self.weigh(hidden) + outside, dim=1)
        means = torch.matmul(shares.transpose(1, 2), hidden).flatten(1)
        return cast(Tensor, self.classifier(nn.functional.gelu(self.dense(means))))


class ExitClassifier(nn.Module):
    """A classifier and a head for each of its exits but the last, which is its own.

    Args:
        classifier: As in `bodies.layer_stack`; it is held, not copied.
        layers: Layers computed up to each exit, ascending; the last one is all of them.

    Raises:
        InputError: Exits after layers that there are not, or an architecture without layers of their own.
    """

    def __init__(self, classifier: nn.Module, layers: Sequence[int]) -> None:
        super().__init__()
        total = len(layer_stack(classifier))
        if list(layers) != sorted(set(layers)) or layers[0] < 1 or layers[-1] != total:
            raise InputError(
                f"found exits after layers {list(layers)}, expected rising numbers that end in {total}"
            )
        self.classifier = classifier
        self.layers = tuple(layers)
        classes = int(cast(Any, classifier).config.num_labels)
        self.heads = nn.ModuleList(ExitHead(width_of(classifier), classes) for _ in layers[:-1])

    @property
    def config(self) -> Any:
        """The classifier's configuration."""
        return cast(Any, self.classifier).config

    @property
    def base_model(self) -> Any:
        """The classifier's transformer."""
        return cast(Any, self.classifier).base_model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **ignored: Any) -> ExitOutput:
        """Return the answers of all exits for a padded batch, int64 (n, tokens) each."""
        stack = layer_stack(self.classifier)
        with caught([stack[layer - 1] for layer in self.layers[:-1]]) as hidden:
            last = self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits
        early = [head(states, attention_mask) for head, states in zip(self.heads, hidden, strict=True)]
        return ExitOutput(logits=last, exits=torch.stack([*early, last]))


def exits_after(total: int, *, every: int) -> tuple[int, ...]:
    """Return after which layers exits stand: every so many, counted back from the last. Of 6, every 2nd: 2, 4, 6."""
    return tuple(reversed(range(total, 0, -every)))


@contextmanager
def caught(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the hidden states that come out of layers while they run."""
    states: list[Tensor] = []

    def take(layer: nn.Module, inputs: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(take) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
