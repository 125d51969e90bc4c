"""In which precision a graph's weights are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towers.errors import InputError

MATMUL = ("int8", "int8-static", "float32")
EMBEDDING = ("int4", "int8", "float32")


@dataclass(frozen=True)
class Precision:
    """How a graph's weights are stored.

    In int8 matrices have a scale for each column and signed weights in 7 bits, so that AVX2's 16-bit sums never
    saturate. Dynamic quantisation draws the scale of the activations from each batch anew: nothing to prepare, but a
    vector depends a little on the texts beside it. Static quantisation (Wu et al. 2020, section 3.3) fixes the scales
    from some hundred of the user's texts: a text's vector is its own in any batch, at the same speed and loss
    (docs/experiments.md); not for texts far from those, as what lies outside their range is cut off.

    Attributes:
        matmul: Matrices: "int8" (dynamic), "int8-static" or "float32".
        embedding: "int4" (blocks of 32 along a row), "int8" (one scale a table) or "float32".
        keep_float32: Layers, counted from 0, whose matrices stay float32.
        spare: Keep in float32 as well that many layers, those that lose most; which they are is measured
            (`int8.settle`).
        most_lost: Keep in float32 as few layers as leave a loss (1 - mean cosine, or the share of labels that change)
            of at most this, again by measuring. 0 does not choose.
    """

    matmul: str = "int8"
    embedding: str = "int4"
    keep_float32: tuple[int, ...] = ()
    spare: int = 0
    most_lost: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what the quantizer does not know."""
        if self.matmul not in MATMUL or self.embedding not in EMBEDDING:
            raise InputError(
                f"precision {self.matmul} for matrices and {self.embedding} for embeddings, expected "
                f"{_either(MATMUL)}, and {_either(EMBEDDING)}"
            )
        object.__setattr__(self, "keep_float32", tuple(sorted(set(self.keep_float32))))
        if any(isinstance(x, bool) or not isinstance(x, int) or x < 0 for x in self.keep_float32):
            raise InputError(
                f"found the layers {self.keep_float32} to keep in float32, expected numbers from 0 on"
            )
        if self.spare < 0 or not 0 <= self.most_lost < 1:
            raise InputError(
                f"found {self.spare} layers to spare and {self.most_lost:g} as the most that int8 may lose, expected "
                "0 or more, and 0 to 1"
            )
        if sum(map(bool, (self.keep_float32, self.spare, self.most_lost))) > 1:
            raise InputError(
                "found two of keep_float32, spare and most_lost, which say the same in different ways; give one"
            )

    @property
    def needs_texts(self) -> bool:
        """Whether it takes texts to quantise: to fix scales on, or to choose layers by."""
        return self.is_static or self.is_open

    @property
    def is_open(self) -> bool:
        """Whether the layers to keep in float32 have yet to be chosen."""
        return self.matmul != "float32" and bool(self.spare or self.most_lost)

    @property
    def is_static(self) -> bool:
        """Whether it needs texts to fix scales on."""
        return self.matmul == "int8-static"


def _either(values: Sequence[str]) -> str:
    return f"{', '.join(values[:-1])} or {values[-1]}"
