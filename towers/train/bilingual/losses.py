"""What a bilingual tower is taught by, beside the losses of distillation: pairs that match, and pairs with labels.

All take vectors of length 1 in float32 and give a mean over the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALE = 20.0  # of cosines, a temperature of 0.05; sentence-transformers' default for both losses


def contrast_loss(queries: Tensor, titles: Tensor, others: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of each query's own title among all titles of the batch, and the other way round.

    Source: InfoNCE with in-batch negatives (van den Oord et al. 2018; Karpukhin et al. 2020, section 3.2).

    Args:
        queries: (n, dim).
        titles: (n, dim), the i-th matches the i-th query.
        others: (m, dim) titles that match no query of the batch.
    """
    own = torch.arange(len(queries))
    every = titles if others is None else torch.cat([titles, others])
    there = nn.functional.cross_entropy(SCALE * queries @ every.T, own)
    back = nn.functional.cross_entropy(SCALE * titles @ queries.T, own)
    return (there + back) / 2


def order_loss(cosines: Tensor, labels: Tensor) -> Tensor:
    """Return the penalty for every two pairs whose cosines stand in the wrong order (CoSENT, Su 2022).

    log(1 + sum of exp(scale * (lower - higher))) over all two pairs of which the second has the higher label.

    Args:
        cosines: (n,) of pairs.
        labels: (n,) higher for a better match.
    """
    differences = SCALE * (cosines[:, None] - cosines[None, :])
    wrong = differences[labels[:, None] < labels[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)


def shortened(vectors: Tensor, dim: int) -> Tensor:
    """Return the first numbers of vectors, stretched to length 1 again (Kusupati et al. 2022, Matryoshka)."""
    return nn.functional.normalize(vectors[:, :dim], dim=-1)
