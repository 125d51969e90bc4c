"""Embedding tables as a narrow table times a mapping, by singular value decomposition.

BERT adds three rows of width H and normalises the sum; ALBERT adds three rows of width E, normalises, and maps to H.
The normalisation is in the way of a plain factorisation, but it only centres a vector and gives it a fixed length.
Centring is linear and is done to the tables here. Their best E - 1 directions are then turned into E coordinates whose
sum is zero, so that ALBERT's centring finds nothing to do, and its length is BERT's as far as the directions hold it:
with E = H the outcome is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from towers.errors import InputError

_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")
# Share of the weight that all rows get alike, used or not; 0.01 to 0.25 made no difference on STS-B
_UNSEEN = 0.1


@dataclass(frozen=True)
class Factors:
    """Embeddings in two steps.

    Attributes:
        tables: State dict of AlbertEmbeddings: three tables (rows, E) and a normalisation that changes nothing more.
        mapping: State dict of the linear layer from E to H.
    """

    tables: dict[str, Tensor]
    mapping: dict[str, Tensor]


@torch.no_grad()
def factorised(embeddings: Any, size: int, *, ids: Sequence[Sequence[int]] = ()) -> Factors:
    """Factorise the embeddings of a BERT, RoBERTa or DistilBERT (Lan et al. 2020, section 3.1; Eckart & Young 1936).

    Each table counts the same in the choice of directions, as every token takes one row of each; within a table the
    rows count as often as the texts use them. With all rows alike the directions would serve rare words: of
    all-MiniLM-L6-v2's embeddings, width 128 keeps a mean cosine of 0.66 on STS-B's tokens, with the counts of 500 other
    texts 0.88.

    Args:
        embeddings: The embedding module, with its tables of width H and a LayerNorm.
        size: E, at most H.
        ids: Token ids of texts of the kind that it will read; some hundred suffice, without any all rows count alike.

    Raises:
        InputError: No such tables, or a size greater than H.
    """
    tables = {name: table - table.mean(dim=1, keepdim=True) for name, table in _tables(embeddings).items()}
    width = next(iter(tables.values())).shape[1]
    if size > width:
        raise InputError(f"found embedding {size}, expected at most {width}, the width of the model")
    shares = _use(ids, tables)
    gram = torch.stack([table.T @ (table * shares[name]) for name, table in tables.items()]).sum(dim=0)
    _, directions = torch.linalg.eigh(gram)  # ascending
    kept = directions[:, -(size - 1) :] if size > 1 else directions[:, :0]
    turn = _zero_sum_basis(size)
    norm = embeddings.LayerNorm
    mapping = norm.weight.cpu().double()[:, None] * (kept @ turn) * (width / size) ** 0.5
    state = {f"{name}.weight": (table @ kept @ turn).float() for name, table in tables.items()}
    state |= {"LayerNorm.weight": torch.ones(size), "LayerNorm.bias": torch.zeros(size)}
    return Factors(state, {"weight": mapping.float(), "bias": norm.bias.detach().cpu().float().clone()})


def _tables(embeddings: Any) -> dict[str, Tensor]:
    """Return the three tables, float64, of one width, with rows for positions from the first text position on."""
    word, position, kind = (cast(Any, getattr(embeddings, name, None)) for name in _TABLES)
    fitting = all(isinstance(table, nn.Embedding) for table in (word, position))
    if not fitting or word.embedding_dim != position.embedding_dim:
        raise InputError(
            f"{type(embeddings).__name__} has no tables of words and positions of one width, as BERT, RoBERTa and "
            "DistilBERT have: only theirs can be factorised"
        )
    # RoBERTa counts positions from its padding number + 1 on; the rows below are never read
    first = 0 if position.padding_idx is None else position.padding_idx + 1
    kinds = torch.zeros(1, word.embedding_dim) if kind is None else kind.weight  # DistilBERT has none
    rows = (word.weight, position.weight[first:], kinds)
    return {name: table.detach().cpu().double() for name, table in zip(_TABLES, rows, strict=True)}


def _use(ids: Sequence[Sequence[int]], tables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return how often each row of a table is used, float64 (rows, 1) that sum to one."""
    rows = {name: torch.full((len(table), 1), 1.0 / len(table)).double() for name, table in tables.items()}
    if not any(ids):
        return rows
    read = {
        "word_embeddings": torch.tensor([i for text in ids for i in text]),
        "position_embeddings": torch.tensor([place for text in ids for place in range(len(text))]),
    }
    for name, found in read.items():
        counts = torch.bincount(found, minlength=len(tables[name]))[: len(tables[name]), None].double()
        rows[name] = _UNSEEN * rows[name] + (1.0 - _UNSEEN) * counts / counts.sum()
    return rows


def _zero_sum_basis(size: int) -> Tensor:
    """Return float64 (size - 1, size): orthonormal rows, each of which sums to zero.

    Turned at random rather than triangular: every coordinate then carries a like share, which blocks of 4 bits need.
    """
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(size, size, generator=generator, dtype=torch.float64)
    columns[:, 0] = 1.0
    basis: Tensor = torch.linalg.qr(columns).Q[:, 1:].T
    return basis
