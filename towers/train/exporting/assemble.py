"""From trained modules to the parts of a bundle: export, quantise, measure what was lost, note it in the manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from towers.bundle import LAYOUT
from towers.errors import InputError
from towers.sentiment import LABELS
from towers.train.base import DEFAULT_BASE, weights_sha256
from towers.train.exporting.export import (
    Feed,
    Precision,
    SentimentGraph,
    TowerGraph,
    export_graph,
    parity,
    quantize,
    run_graph,
    tokenizer_json,
)
from towers.train.exporting.int8 import settle, text_feeds
from towers.train.exporting.matrices import layers_of
from towers.train.scorer import ResidualScorer, export_scorer
from towers.train.sentiment import SentimentResult, sentiment_report
from towers.train.write import Parts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from towers.labelled import Texts
    from towers.train.fit import FitResult

Export = Callable[..., onnx.ModelProto]
"""As `export.export_graph`."""

_PARITY_TEXTS = 200  # enough for a mean to three digits, a second of work
_COMPANY_TEXTS = 64  # run one by one
# Stand in where a user gives no texts: short and long, both languages, figures, nothing at all.
_SAMPLE = (
    "wireless noise cancelling headphones with 30 hours of battery",
    "how do I reset my password?",
    "HP Pavilion 15.6 inch laptop, 16 GB RAM, 512 GB SSD",
    "怎么取消自动续费",
    "信用卡还款日可以修改吗？",
    "the central bank leaves its key rate unchanged for the third time this year",
    "红色 跑步鞋 女 42码",
    "usb c",
    "",
)


def tower_parts(
    tower: SentenceTransformer,
    *,
    base: str | None,
    base_licence: str,
    licence: str,
    precision: Precision | None = None,
    texts: Sequence[str] = (),
    query: SentenceTransformer | None = None,
    query_precision: Precision | None = None,
    export: Export = export_graph,
) -> Parts:
    """Export a tower: a whole bundle whose scorer is cosine, not yet calibrated.

    Queries may have a tower or a precision of their own: a small one, since the user waits for it, over titles that
    are encoded once. Titles are then as they would be without, bit for bit.

    Args:
        tower: A sentence-transformers model; its prompts named query and document become prefixes.
        base: What it was trained from, for the manifest; None for the packaged all-MiniLM-L6-v2.
        base_licence: SPDX identifier of the checkpoint's licence.
        licence: SPDX identifier of the bundle.
        precision: None for the default, int8 matrices and 4-bit embeddings.
        texts: What to measure the loss of int8 on, and to fix static scales on; a built-in sample if none.
        query: The tower of queries, where it is another one.
        query_precision: Its precision; None for that of titles.
        export: Makes the float32 graphs; many towers of one structure need be traced only once (`template.Templates`).

    Raises:
        InputError: Static scales without texts, a tower of queries that does not fit, or an export that is wrong.
    """
    precision = precision or Precision()
    max_tokens = int(tower.max_seq_length or 512)
    feeds = _feeds(precision, tower.tokenizer, texts, max_tokens)
    exact = export(TowerGraph(tower), output="vectors", max_tokens=max_tokens)
    _check_layers(precision, exact)
    encoder, settled, notes = _quantized(exact, precision, feeds)
    dim = int(tower.get_embedding_dimension() or 0)
    prompts = tower.prompts or {}
    parts = Parts(
        graphs={LAYOUT.encoder: encoder, LAYOUT.scorer: scorer_graph(ResidualScorer(dim, hidden=0))},
        tokenizer=tokenizer_json(tower.tokenizer),
        facts={
            "dim": dim,
            "max_tokens": max_tokens,
            "threshold": 0.5,
            "scorer": "cosine",
            "query_prefix": ((query or tower).prompts or {}).get("query", ""),
            "title_prefix": prompts.get("document", ""),
            "base_model": {
                "name": base or DEFAULT_BASE,
                "licence": base_licence,
                "sha256": weights_sha256(base),
            },
            "licence": licence,
            "recipe": {"precision": asdict(settled)},
            "metrics": {"export": tower_parity(tower, exact, encoder, texts or _SAMPLE) | notes},
        },
    )
    if query is None and query_precision in (None, precision):
        return parts
    from towers.train.distillation.query_tower import (
        with_query_tower,  # which makes the tower's graph with this function
    )

    wanted = query_precision or precision
    return with_query_tower(parts, query or tower, texts=texts or _SAMPLE, precision=wanted, export=export)


def _check_layers(precision: Precision, graph: onnx.ModelProto) -> None:
    there = layers_of(graph)
    unknown = sorted(set(precision.keep_float32) - set(there))
    if unknown:
        raise InputError(f"found the layers {unknown} to keep in float32, the tower has {there}")


def _feeds(precision: Precision, tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[Feed]:
    """Inputs to fix scales or to choose layers on; none where nothing needs them."""
    if not precision.needs_texts:
        return []
    if not texts:
        raise InputError(
            "found no texts to quantise with: int8-static fixes its scales on them, and layers are chosen by what they "
            "lose on them. Give some hundred of the kind that will be encoded (--calibrate)."
        )
    return text_feeds(tokenizer, texts, max_tokens=max_tokens)


def _quantized(
    exact: onnx.ModelProto, precision: Precision, feeds: Sequence[Feed]
) -> tuple[onnx.ModelProto, Precision, dict[str, Any]]:
    """Quantise; return the graph, the precision with its layers chosen, and what to note of it."""
    settled, notes = settle(precision, exact, feeds)
    fixed = {"scales_fixed_on": len(feeds)} if precision.is_static else {}
    return quantize(exact, settled, feeds=feeds), settled, notes | fixed


def tower_parity(
    tower: SentenceTransformer, exact: onnx.ModelProto, quantized: onnx.ModelProto, texts: Sequence[str]
) -> dict[str, Any]:
    """Measure how far both graphs' vectors are from torch's.

    Raises:
        InputError: The float32 graph differs from torch by more than rounding: the export is wrong, not lossy.
    """
    chosen = sorted(texts, key=len)[:: max(1, len(texts) // _PARITY_TEXTS)]
    batches = []
    for start in range(0, len(chosen), 16):
        options = {
            "padding": True,
            "truncation": True,
            "max_length": tower.max_seq_length,
            "return_tensors": "pt",
        }
        encoded = tower.tokenizer(list(chosen[start : start + 16]), **options)
        batches.append((encoded["input_ids"], encoded["attention_mask"]))
    with torch.inference_mode():
        expected = torch.cat([TowerGraph(tower).eval()(*batch) for batch in batches]).numpy()
    in_float32 = run_graph(exact, batches)
    float32 = parity(expected, in_float32)
    if float32["greatest_difference"] > 1e-3:
        raise InputError(
            f"the exported graph's vectors differ from torch's by up to {float32['greatest_difference']:.4f}, expected "
            "under 0.001: this architecture does not survive the export. Use another checkpoint."
        )
    together = in_float32 if quantized is exact else run_graph(quantized, batches)
    return {
        "texts": len(chosen),
        "float32": float32,
        "quantized": parity(expected, together),
        "alone_to_in_batch": _company(quantized, batches, together),
    }


def _company(
    graph: onnx.ModelProto,
    batches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    together: NDArray[np.float32],
) -> dict[str, float]:
    """How far some vectors made alone are from the same texts' vectors made in a batch."""
    rows = [
        (ids[None, mask > 0], mask[None, mask > 0])
        for ids, mask in (x for batch in batches for x in zip(*batch, strict=True))
    ]
    chosen = range(0, len(rows), max(1, len(rows) // _COMPANY_TEXTS))
    return parity(together[chosen], run_graph(graph, [rows[i] for i in chosen]))


def scorer_graph(scorer: ResidualScorer) -> onnx.ModelProto:
    """Export a scorer."""
    with tempfile.TemporaryDirectory() as folder:
        return export_scorer(scorer, Path(folder) / LAYOUT.scorer)


def with_scorer(parts: Parts, result: FitResult) -> Parts:
    """Return the parts with a trained scorer in place of plain cosine."""
    facts = _merged(parts.facts, recipe={"fit": result.recipe}, metrics={"fit": result.metrics})
    facts |= {
        "threshold": result.threshold,
        "scorer": result.scorer_kind,
        "training_data": [
            *facts.get("training_data", ()),
            *({"use": "scorer"} | x for x in result.training_data),
        ],
    }
    graphs = parts.graphs | {LAYOUT.scorer: scorer_graph(result.scorer)}
    return replace(parts, graphs=graphs, facts=facts)


def with_sentiment(
    parts: Parts,
    result: SentimentResult,
    *,
    dev: Texts,
    data: Sequence[Mapping[str, Any]],
    precision: Precision,
    texts: Sequence[str] = (),
    export: Export = export_graph,
) -> Parts:
    """Return the parts with a sentiment head added, or replaced.

    Args:
        parts: Of a bundle with the same tokenizer.
        result: The trained head.
        dev: Held-out texts, on which the int8 graph is measured again.
        data: Name, rows and licence of what it was trained on.
        precision: As for the towers, or weights that both have in common are stored twice.
        texts: To fix static scales and choose layers on; the dev texts if none.
        export: As in `tower_parts`.

    Raises:
        InputError: The head was trained on a checkpoint with another tokenizer.
    """
    if tokenizer_json(result.tokenizer) != parts.tokenizer:
        raise InputError(
            "the sentiment head's checkpoint has another tokenizer than the bundle. Train it from the checkpoint that "
            f"the bundle was made from: {parts.facts['base_model']['name']}"
        )
    module = SentimentGraph(result.model, temperature=result.temperature)
    max_tokens = result.recipe.max_tokens
    exact = export(module, output="probabilities", max_tokens=max_tokens)
    feeds = _feeds(precision, result.tokenizer, texts or dev.texts, max_tokens)
    graph, settled, notes = _quantized(exact, precision, feeds)
    quantized = sentiment_report(dev.labels, _probabilities(graph, result, dev.texts))
    metrics = result.metrics | {"quantized": quantized | notes | {"precision": asdict(settled)}}
    facts = _merged(parts.facts, recipe={"sentiment": result.settings}, metrics={"sentiment": metrics})
    earlier = [entry for entry in facts.get("training_data", ()) if entry.get("use") != "sentiment"]
    facts |= {
        "labels": LABELS,
        "sentiment_max_tokens": result.recipe.max_tokens,
        "training_data": [*earlier, *({"use": "sentiment"} | dict(entry) for entry in data)],
    }
    graphs = parts.graphs | {LAYOUT.sentiment: graph}
    return replace(parts, graphs=graphs, facts=facts)


def _probabilities(graph: onnx.ModelProto, result: SentimentResult, texts: Sequence[str]) -> Any:
    batches = []
    for text in texts:  # one at a time, as a service gets them
        encoded = result.tokenizer(
            text, truncation=True, max_length=result.recipe.max_tokens, return_tensors="pt"
        )
        batches.append((encoded["input_ids"], encoded["attention_mask"]))
    return run_graph(graph, batches)


def _merged(facts: Mapping[str, Any], **tables: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, **{name: {**facts.get(name, {}), **table} for name, table in tables.items()}}
