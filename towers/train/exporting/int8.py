"""What int8 costs each layer, and which layers to spare: few lose most of what a model loses.

Each layer alone is quantised and the model's answers are held against float32 ones. Then the layers that lose most are
kept in float32, one more at a time, until the loss is small enough (Wu et al. 2020, "Integer quantization for deep
learning inference", section 5.1, partial quantisation).

Cost: quantising once for each layer and once for each layer kept, seconds for six layers; a layer in float32 takes
about three times as long as in int8. Not worth it where int8 as a whole loses less than the data can show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from towers.errors import InputError
from towers.train.bodies import is_tower
from towers.train.exporting.export import (
    Feed,
    Precision,
    SentimentGraph,
    TowerGraph,
    export_graph,
    quantize,
    run_graph,
)
from towers.train.exporting.matrices import layers_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Floats = NDArray[np.float32]

FIX_TEXTS = 200  # to fix scales on; 32, 128 and 400 icecat titles gave cosines of 0.9918, 0.9916 and 0.9916
_MEASURED_TEXTS = 128  # of each quantised graph: tells a cosine to three digits in a second


@dataclass(frozen=True)
class Sensitivity:
    """What quantising loses: 1 - mean cosine to float32 vectors, or the share of texts that get another label.

    Attributes:
        measure: "1 - mean cosine" or "1 - agreement".
        texts: How many texts it was measured on.
        layers: Layer -> loss with the matrices of this layer alone in int8.
        embedding: Loss with the embeddings alone in their precision.
        together: Loss with everything in its precision.
    """

    measure: str
    texts: int
    layers: dict[int, float]
    embedding: float
    together: float


@dataclass(frozen=True)
class Choice:
    """Which layers stay in float32.

    Attributes:
        keep_float32: Their numbers.
        loss: What is lost with them in float32, measured.
        sensitivity: What the choice went by.
    """

    keep_float32: tuple[int, ...]
    loss: float
    sensitivity: Sensitivity


class _Trial:
    """A float32 graph, texts, and the loss of any precision on them."""

    def __init__(self, graph: onnx.ModelProto, feeds: Sequence[Feed]) -> None:
        self.graph = graph
        self.feeds = feeds
        self.layers = layers_of(graph)
        self.measured = [feeds[i] for i in _spread(len(feeds), _MEASURED_TEXTS)]
        self.exact = answers(graph, self.measured)
        self.measure = "1 - agreement" if graph.graph.output[0].name == "probabilities" else "1 - mean cosine"

    def loss(self, precision: Precision) -> tuple[float, float]:
        """The loss, and the mean distance to exact answers, which tells layers apart where no label changes."""
        quantized = quantize(self.graph, precision, feeds=self.feeds)
        found = self.exact if quantized is self.graph else answers(quantized, self.measured)
        distance = float(np.abs(found - self.exact).mean())
        if self.measure == "1 - agreement":
            return float((found.argmax(axis=1) != self.exact.argmax(axis=1)).mean()), distance
        return max(0.0, float(1 - (found * self.exact).sum(axis=1).mean())), distance


def sensitivity(
    model: nn.Module,
    texts: Sequence[str],
    *,
    tokenizer: Any = None,
    precision: Precision | None = None,
    max_tokens: int = 128,
) -> Sensitivity:
    """Measure what each layer of a model alone loses in int8.

    Args:
        model: A tower or a classifier.
        texts: Of the kind that it will see; some hundred.
        tokenizer: A classifier's; a tower has its own.
        precision: What is measured; None for the default. Its layers to keep play no part.
        max_tokens: Longer texts are cut there; a tower has its own bound.

    Raises:
        InputError: No texts, or a classifier without a tokenizer.
    """
    return _sensitivity(_trial(model, texts, tokenizer, max_tokens), precision or Precision())[0]


def choose_layers(
    model: nn.Module,
    texts: Sequence[str],
    *,
    most: float,
    tokenizer: Any = None,
    precision: Precision | None = None,
    max_tokens: int = 128,
) -> Choice:
    """Choose the fewest layers to keep in float32 so that at most `most` is lost; other arguments as `sensitivity`.

    Raises:
        InputError: More is lost with every layer in float32: the embeddings alone lose too much.
    """
    return _choice(_trial(model, texts, tokenizer, max_tokens), precision or Precision(), most=most)


def settle(
    precision: Precision, graph: onnx.ModelProto, feeds: Sequence[Feed]
) -> tuple[Precision, dict[str, Any]]:
    """Choose the layers that a precision leaves open, and return what to note of it in a manifest.

    Args:
        precision: Where it leaves nothing open it comes back as it is, with nothing to note.
        graph: In float32.
        feeds: Inputs of one text each.

    Raises:
        InputError: As `choose_layers`.
    """
    if not precision.is_open:
        return precision, {}
    trial, most = _Trial(graph, feeds), precision.most_lost
    choice = _choice(trial, precision, most=most) if most else _spared(trial, precision)
    return _keeping(precision, choice.keep_float32), {"layers": asdict(choice)}


def text_feeds(tokenizer: Any, texts: Sequence[str], *, max_tokens: int, most: int = FIX_TEXTS) -> list[Feed]:
    """Return the inputs (ids, mask) of one text each for at most `most` texts, spread over the list."""
    chosen = [texts[i] for i in _spread(len(texts), most)]
    rows = tokenizer(chosen, truncation=True, max_length=max_tokens)["input_ids"] if chosen else []
    return [(np.array([row], np.int64), np.ones((1, len(row)), np.int64)) for row in rows]


def answers(graph: onnx.ModelProto, feeds: Sequence[Feed]) -> Floats:
    """Return a graph's first output (n, width) for inputs of one text each."""
    return run_graph(graph, [tuple(torch.from_numpy(part) for part in feed) for feed in feeds])  # type: ignore[misc]


def _trial(model: nn.Module, texts: Sequence[str], tokenizer: Any, max_tokens: int) -> _Trial:
    if is_tower(model):
        tokenizer = cast("SentenceTransformer", model).tokenizer
    if not texts or tokenizer is None:
        raise InputError(
            f"found {len(texts)} texts and {'a' if tokenizer else 'no'} tokenizer, expected some hundred texts to "
            "measure on, and a classifier's tokenizer"
        )
    if is_tower(model):
        tower = cast("SentenceTransformer", model)
        max_tokens = int(tower.max_seq_length or 512)
        graph = export_graph(TowerGraph(tower), output="vectors", max_tokens=max_tokens)
    else:
        module = SentimentGraph(model, temperature=1.0)
        graph = export_graph(module, output="probabilities", max_tokens=max_tokens)
    return _Trial(graph, text_feeds(tokenizer, texts, max_tokens=max_tokens))


def _sensitivity(trial: _Trial, precision: Precision) -> tuple[Sensitivity, list[int]]:
    """Return it, and the layers from the most to the least sensitive."""
    bare = _keeping(precision, ())
    floating = replace(bare, embedding="float32")
    losses = {
        layer: trial.loss(_keeping(floating, tuple(x for x in trial.layers if x != layer)))
        for layer in trial.layers
    }
    found = Sensitivity(
        measure=trial.measure,
        texts=len(trial.measured),
        layers={layer: round(loss, 6) for layer, (loss, _) in losses.items()},
        embedding=round(trial.loss(replace(bare, matmul="float32"))[0], 6),
        together=round(trial.loss(bare)[0], 6),
    )
    return found, sorted(losses, key=lambda layer: losses[layer], reverse=True)


def _choice(trial: _Trial, precision: Precision, *, most: float) -> Choice:
    measured, order = _sensitivity(trial, precision)
    kept: tuple[int, ...] = ()
    loss = measured.together
    while loss > most:
        if len(kept) == len(order):
            raise InputError(
                f"found a loss of {loss:.4f} ({measured.measure}) with every layer in float32, expected at most "
                f"{most:g}: take float32 or int8 embeddings, or allow more"
            )
        kept = tuple(sorted(order[: len(kept) + 1]))
        loss = trial.loss(_keeping(precision, kept))[0]
    return Choice(kept, round(loss, 6), measured)


def _spared(trial: _Trial, precision: Precision) -> Choice:
    measured, order = _sensitivity(trial, precision)
    kept = tuple(sorted(order[: precision.spare]))
    return Choice(kept, round(trial.loss(_keeping(precision, kept))[0], 6), measured)


def _keeping(precision: Precision, layers: tuple[int, ...]) -> Precision:
    return replace(precision, keep_float32=layers, spare=0, most_lost=0.0)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spread."""
    return sorted({i * count // min(most, count) for i in range(min(most, count))})
