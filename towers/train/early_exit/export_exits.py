"""Exits into a bundle: staged graphs in int8, the plan tuned on what they answer, all of it noted in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from towers.bundle import LAYOUT
from towers.errors import InputError
from towers.exits import ExitPlan
from towers.labelled import Texts
from towers.sentiment import LABELS
from towers.tokens import Ids
from towers.train.distillation.teacher import token_ids
from towers.train.early_exit.exit_graphs import (
    check_parity,
    export_stages,
    quantize_stages,
    stage_probabilities,
)
from towers.train.early_exit.exit_tuning import Judged, compare_rules, describe, plan_exits
from towers.train.early_exit.exits import ExitResult, exit_logits
from towers.train.exporting.export import Precision, tokenizer_json
from towers.train.sentiment import sentiment_report, softmax
from towers.train.write import Parts

_SCALE_TEXTS = 256  # whose activations' ranges are kept; guess, untested
_PARITY_TEXTS = 64


def with_exits(
    parts: Parts,
    result: ExitResult,
    *,
    dev: Texts,
    data: Sequence[Mapping[str, Any]],
    precision: Precision,
    rule: str | None = None,
) -> Parts:
    """Return the parts with a sentiment head in stages, in place of any head that was there.

    The threshold is tuned once more, on what the quantised graphs answer: that is what will be served.

    Args:
        parts: Of a bundle with the same tokenizer.
        result: The trained exits.
        dev: Held-out texts, for the threshold and for the ranges of activations.
        data: Name, rows and licence of what it was trained on.
        precision: As for the towers.
        rule: Another rule than the recipe's.

    Raises:
        InputError: The classifier has another tokenizer, or an architecture that cannot be cut into stages.
    """
    if tokenizer_json(result.tokenizer) != parts.tokenizer:
        raise InputError(
            "the classifier with exits has another tokenizer than the bundle. Train it from the checkpoint that the "
            f"bundle was made from: {parts.facts['base_model']['name']}"
        )
    recipe = result.recipe
    stages = export_stages(result.model, temperatures=result.plan.temperatures, max_tokens=recipe.max_tokens)
    rows = token_ids(result.tokenizer, dev.texts, max_tokens=recipe.max_tokens)
    difference = check_parity(stage_probabilities(stages, rows[:_PARITY_TEXTS]), _in_torch(result, dev))
    sample = _some(rows, seed=recipe.seed)
    quantized = quantize_stages(stages, precision, layers=result.plan.layers, rows=sample)
    judged = Judged(result.plan.layers, stage_probabilities(quantized, rows), dev.labels, recipe.measure)
    plan, report = _tuned(judged, result, rule=rule or recipe.rule)
    in_float32 = {name: value for name, value in result.metrics.items() if name != "rules"}
    metrics = {**in_float32, "float32_difference": difference, "exits": report}
    metrics["quantized"] = {
        **report["chosen"],
        "last_exit": sentiment_report(dev.labels, judged.answers(judged.last)),
    }
    bare = without_head(parts)
    graphs = {LAYOUT.stage(number): graph for number, graph in enumerate(quantized)}
    return replace(
        bare,
        graphs=bare.graphs | graphs,
        facts=_facts(bare.facts, result, metrics, data),
        extra_files=bare.extra_files | {LAYOUT.exits: plan.to_json()},
    )


def without_head(parts: Parts) -> Parts:
    """Return the parts of a bundle without its sentiment head, be it one graph or staged."""
    stages = {LAYOUT.stage(number) for number in range(len(parts.graphs))}
    graphs = {name: graph for name, graph in parts.graphs.items() if name not in stages | {LAYOUT.sentiment}}
    files = {name: text for name, text in parts.extra_files.items() if name != LAYOUT.exits}
    return replace(parts, graphs=graphs, extra_files=files)


def _in_torch(result: ExitResult, dev: Texts) -> Any:
    sample = dev.texts[:_PARITY_TEXTS]
    logits = exit_logits(result.model, result.tokenizer, sample, max_tokens=result.recipe.max_tokens)
    return softmax(logits / np.array(result.plan.temperatures, np.float32)[:, None, None])


def _some(rows: Sequence[Ids], *, seed: int) -> list[Ids]:
    chosen = np.random.default_rng(seed).permutation(len(rows))[:_SCALE_TEXTS]
    return [rows[i] for i in chosen]


def _tuned(judged: Judged, result: ExitResult, *, rule: str) -> tuple[ExitPlan, dict[str, Any]]:
    least = judged.quality(judged.last) - result.allowed
    plan = plan_exits(judged, rule=rule, least=least)
    chosen = {"rule": rule, "max_loss": result.recipe.max_loss, **describe(plan, judged)}
    report = {"chosen": chosen, "rules": compare_rules(judged, least=least)}
    return replace(plan, temperatures=result.plan.temperatures, dev=chosen), report


def _facts(
    facts: Mapping[str, Any],
    result: ExitResult,
    metrics: Mapping[str, Any],
    data: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    earlier = [entry for entry in facts.get("training_data", ()) if entry.get("use") != "sentiment"]
    return {
        **facts,
        "labels": LABELS,
        "sentiment_max_tokens": result.recipe.max_tokens,
        "recipe": {**facts.get("recipe", {}), "exits": asdict(result.recipe)},
        "metrics": {**facts.get("metrics", {}), "sentiment": dict(metrics)},
        "training_data": [*earlier, *({"use": "sentiment"} | dict(entry) for entry in data)],
    }
