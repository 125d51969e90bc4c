"""From one vector for each token to one for the text: (n, tokens, width) and a mask -> (n, width).

Attention, RCNN and the further layer start as mean pooling, exactly: what a model trained with mean pooling knows is
still there, and a little training suffices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from towers.train.structures.bilstm import BiLstm


@dataclass(frozen=True)
class PoolerShape:
    """All that a pooling module is made from.

    Attributes:
        kind: "mean", "cls", "attention", "rcnn" or "layer".
        width: Of the tokens' vectors and of the text's.
        hidden: Width inside, see `heads.HeadRecipe`.
        heads: Attention heads of the further layer.
    """

    kind: str
    width: int
    hidden: int = 0
    heads: int = 1


def make_pooler(shape: PoolerShape) -> nn.Module:
    """Return a fresh pooling module, (n, tokens, width) and mask -> (n, width)."""
    if shape.kind == "attention":
        return Attention(shape.width, shape.hidden)
    if shape.kind == "rcnn":
        return Rcnn(shape.width, shape.hidden)
    if shape.kind == "layer":
        return FurtherLayer(shape.width, shape.hidden, heads=shape.heads)
    return Cls() if shape.kind == "cls" else Mean()


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens, float32 (n, width), of states (n, tokens, width); mask int64 (n, tokens)."""
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


class Mean(nn.Module):
    """The mean over the tokens (Reimers & Gurevych 2019, section 3)."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool (n, tokens, width) into (n, width)."""
        return mean_of(states, mask)


class Cls(nn.Module):
    """The vector of the first token (Devlin et al. 2019, section 3)."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool (n, tokens, width) into (n, width)."""
        return states[:, 0]


class Attention(nn.Module):
    """A weighted mean whose weights are softmax(v · tanh(W h + b)) (Yang et al. 2016, eq. 5-7; Lin et al. 2017, eq. 5).

    v starts at zero: all tokens weigh the same.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, hidden)
        self.weigh = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.weigh.weight)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool (n, tokens, width) into (n, width)."""
        logits = self.weigh(torch.tanh(self.project(states))).squeeze(-1).float()
        # the lowest finite number, not -inf: a row of padding alone must not become NaN
        logits = logits.masked_fill(mask == 0, torch.finfo(logits.dtype).min)
        weights = torch.softmax(logits, dim=-1).unsqueeze(-1)
        return (weights * states.float()).sum(dim=1)


class Rcnn(nn.Module):
    """The mean, and added to it what a recurrent convolution finds (Lai et al. 2015, eq. 1-5).

    A BiLSTM gives each token its left and right context; tanh(W [left; token; right]) is taken at its maximum over the
    tokens, and a last matrix, which starts at zero, adds the outcome to the mean.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.context = BiLstm(width, hidden)
        self.convolve = nn.Linear(2 * hidden + width, width)
        self.add = nn.Linear(width, width)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool (n, tokens, width) into (n, width)."""
        context = self.context(states, mask)
        left, right = context.chunk(2, dim=-1)
        found = torch.tanh(self.convolve(torch.cat([left, states, right], dim=-1)))
        most = found.masked_fill(mask.unsqueeze(-1) == 0, -1.0).amax(dim=1)  # tanh is never below -1
        added: Tensor = self.add(most)
        return mean_of(states, mask) + added


class FurtherLayer(nn.Module):
    """One more transformer layer, BERT's, then the mean.

    The layer's change is added behind a gate, one factor for each dimension, that starts at zero (Bachlechner et al.
    2021, "ReZero"): at first the layer passes on what it gets.
    """

    def __init__(self, width: int, inner: int, *, heads: int) -> None:
        from transformers import BertConfig
        from transformers.models.bert.modeling_bert import BertLayer

        super().__init__()
        config = cast(Any, BertConfig)(
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=inner,
            attn_implementation="eager",
        )
        self.layer = cast(Any, BertLayer)(config)
        for module in self.layer.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initializer_range)
                nn.init.zeros_(module.bias)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool (n, tokens, width) into (n, width)."""
        hidden = (1.0 - mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
        changed = self.layer(states, hidden)
        return mean_of(states + self.gate * (changed - states), mask)

    def start_from(self, layer: nn.Module) -> None:
        """Start from a trained layer, if it is one of BERT's of the same size; otherwise from random weights."""
        own = self.layer.state_dict()
        given = layer.state_dict()
        if {name: value.shape for name, value in given.items()} == {n: v.shape for n, v in own.items()}:
            self.layer.load_state_dict(given)
