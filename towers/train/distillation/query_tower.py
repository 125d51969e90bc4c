"""A bundle with another query tower over the same title tower: queries get faster, titles keep their vectors.

The new tower must give vectors of the old one's space, as a cut tower does that was distilled from it (with
`against = "teacher"`: what it is compared with when it serves are the old tower's titles). The bundle then opens the
releases of the old one, in FAISS and in Redis, and nothing is indexed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from towers.bundle import LAYOUT
from towers.errors import InputError
from towers.train.exporting.assemble import Export, tower_parts
from towers.train.exporting.export import Precision, export_graph, parity, run_graph
from towers.train.write import Parts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MOST_TEXTS = 400  # as for the loss of int8: enough for a mean to three digits


def with_query_tower(
    parts: Parts,
    student: SentenceTransformer,
    *,
    texts: Sequence[str],
    precision: Precision | None = None,
    settings: Mapping[str, Any] | None = None,
    export: Export = export_graph,
) -> Parts:
    """Return a bundle's parts with another query tower; the title tower stays as it is, bit for bit.

    The scorer and the threshold stay as well: they were fitted to the old query tower's vectors, so fit the scorer
    again where calibrated probabilities count.

    Args:
        parts: Of a bundle, from `write.read_parts` for one that has releases.
        student: A tower with the same tokenizer and vectors of the same width.
        texts: Queries to measure on how far the new vectors are from the old ones.
        precision: Of the new tower; None for the default.
        settings: How the student was made, for the manifest.
        export: As in `tower_parts`.

    Raises:
        InputError: A tower that does not fit the bundle, or no texts.
    """
    licence = parts.facts["licence"]
    licences: dict[str, Any] = {"base_licence": licence, "licence": licence}
    made = tower_parts(student, base=None, precision=precision, texts=texts, export=export, **licences)
    _check(parts, made, texts)
    shared = parts.graphs.get(LAYOUT.encoder)
    title = parts.graphs[LAYOUT.title] if shared is None else shared
    old = parts.graphs[LAYOUT.query] if shared is None else shared
    others = {name: graph for name, graph in parts.graphs.items() if name != LAYOUT.encoder}
    new = made.graphs[LAYOUT.encoder]
    found = {"export": made.facts["metrics"]["export"], "to_replaced": _distance(old, new, student, texts)}
    recipe = {**made.facts["recipe"], **(settings or {})}
    facts = {
        **parts.facts,
        "recipe": {**parts.facts.get("recipe", {}), "query_tower": recipe},
        "metrics": {**parts.facts.get("metrics", {}), "query_tower": found},
    }
    graphs = {**others, LAYOUT.title: title, LAYOUT.query: new}
    return replace(parts, graphs=graphs, facts=facts)


def _check(parts: Parts, made: Parts, texts: Sequence[str]) -> None:
    if not texts:
        raise InputError("query tower: found no texts, expected some queries to measure the new vectors on")
    if made.tokenizer != parts.tokenizer:
        raise InputError(
            "query tower: found another tokenizer than the bundle's; a bundle has one for all its graphs. Make the "
            "student from the checkpoint that the bundle was made from."
        )
    dims = made.facts["dim"], parts.facts["dim"]
    if dims[0] != dims[1]:
        raise InputError(f"query tower: found vectors of width {dims[0]}, expected the bundle's {dims[1]}")
    lengths = made.facts["max_tokens"], parts.facts["max_tokens"]
    if lengths[0] < lengths[1]:
        raise InputError(
            f"query tower: found a tower for {lengths[0]} tokens at most, expected the bundle's {lengths[1]}; set its "
            "max_seq_length"
        )


def _distance(
    old: onnx.ModelProto, new: onnx.ModelProto, student: SentenceTransformer, texts: Sequence[str]
) -> dict[str, float]:
    """Cosines between the vectors of both graphs, each text alone, as a service encodes queries."""
    chosen = texts[:: max(1, len(texts) // _MOST_TEXTS)]
    inputs = [_alone(student, text) for text in chosen]
    vectors: list[NDArray[np.float32]] = [run_graph(graph, inputs) for graph in (old, new)]
    return {"texts": len(chosen), **parity(*vectors)}


def _alone(student: SentenceTransformer, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = student.tokenizer(
        [text], truncation=True, max_length=student.max_seq_length, return_tensors="pt"
    )
    return encoded["input_ids"], encoded["attention_mask"]
