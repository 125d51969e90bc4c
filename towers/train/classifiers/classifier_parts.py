"""A fine-tuned classifier as a part of a bundle: its graph, its facts, and what int8 lost of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from towers.bundle import LAYOUT
from towers.classifier import ClassifierFacts
from towers.errors import InputError
from towers.labelled import Texts
from towers.sentiment import LABELS
from towers.train.classifiers.examples import Examples, Task, TaskData
from towers.train.classifiers.task_metrics import task_report
from towers.train.classifiers.tune import Tuned
from towers.train.classifiers.tune_training import predict
from towers.train.early_exit.export_exits import without_head
from towers.train.exporting.assemble import with_sentiment
from towers.train.exporting.export import Precision, export_graph, quantize, run_graph, tokenizer_json
from towers.train.exporting.int8 import FIX_TEXTS, settle
from towers.train.sentiment import SentimentRecipe, SentimentResult, sentiment_report, softmax
from towers.train.write import Parts

_MEASURED = 2000  # held-out examples that the written graph is measured on, one at a time: seconds
_PARITY = 64


class ClassifierGraph(nn.Module):
    """A classifier as (input_ids, attention_mask) int64 (n, tokens) -> probabilities or numbers float32 (n, outputs).

    The types of tokens, which tell the second text of a pair from the first, are made inside: all that follows the
    first separator is of type 1.

    Args:
        classifier: A transformers model.
        temperature: Divides the logits; None for a regression, whose outputs stay as they are.
        separator: Id of the token between two texts; None where the model takes no types.
    """

    def __init__(
        self, classifier: nn.Module, *, temperature: float | None, separator: int | None = None
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = temperature
        self.separator = separator

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Classify a padded batch."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.separator is not None:
            inputs["token_type_ids"] = token_types(input_ids, attention_mask, self.separator)
        logits = self.classifier(**inputs).logits
        return logits if self.temperature is None else torch.softmax(logits / self.temperature, dim=-1)


def token_types(input_ids: Tensor, attention_mask: Tensor, separator: int) -> Tensor:
    """Return 1 for the tokens behind the first separator and 0 for the others, int64 (n, tokens)."""
    ends = (input_ids == separator).long()
    behind = (torch.cumsum(ends, dim=1) - ends).clamp(max=1)
    return behind * attention_mask


def with_classifier(parts: Parts, tuned: Tuned, data: TaskData, *, precision: Precision) -> Parts:
    """Return the parts of a bundle with a classifier added, or replaced.

    Args:
        parts: Of a bundle with the same tokenizer.
        tuned: The classifier.
        data: What it was trained and measured on.
        precision: As for the towers, or weights that both have in common are stored twice.

    Raises:
        InputError: The bundle has another tokenizer, or the graph does not do what the model does.
    """
    _check_tokenizer(parts, tuned)
    task, max_tokens = tuned.task, int(tuned.recipe["max_tokens"])
    temperature = None if task.is_regression else tuned.temperature
    module = ClassifierGraph(tuned.model, temperature=temperature, separator=_separator(tuned))
    output = "values" if task.is_regression else "probabilities"
    exact = export_graph(module, output=output, max_tokens=max_tokens)
    decided = _first(data.deciding, FIX_TEXTS)
    feeds = _feeds(tuned, decided)
    _check_parity(tuned, decided, exact, feeds)
    graph, settled, notes = _quantized(exact, precision, feeds, task)
    measured = _first(next(iter(data.reported.values())), _MEASURED)
    quantized = task_report(task, measured.labels, run_graph(graph, _feeds(tuned, measured)))
    metrics = {**tuned.metrics, "as_written": quantized | notes | {"precision": asdict(settled)}}
    facts = ClassifierFacts(task.name, task.labels, task.pair, max_tokens, tuned.recipe["prefix"], metrics)
    return replace(
        parts,
        graphs=parts.graphs | {LAYOUT.classifier: graph},
        facts=_facts(parts.facts, tuned, data, metrics),
        extra_files=parts.extra_files | {LAYOUT.classifier_facts: facts.to_json()},
    )


def with_task_as_sentiment(parts: Parts, tuned: Tuned, data: TaskData, *, precision: Precision) -> Parts:
    """Return the parts with a classifier of `as_sentiment` data as the sentiment head.

    Raises:
        InputError: The bundle has another tokenizer.
    """
    rows = _first(next(iter(data.reported.values())), _MEASURED)
    dev = Texts(rows.texts, rows.labels - 1)
    known = set(SentimentRecipe.__dataclass_fields__)
    recipe = SentimentRecipe(**{name: value for name, value in tuned.recipe.items() if name in known})
    logits = predict(tuned.model, tuned.tokenizer, rows, max_tokens=recipe.max_tokens)
    result = SentimentResult(
        model=tuned.model,
        tokenizer=tuned.tokenizer,
        temperature=tuned.temperature,
        metrics=sentiment_report(dev.labels, softmax(logits / tuned.temperature))
        | {"measured_on": tuned.measured_on},
        recipe=recipe,
        training_rows=len(data.train),
    )
    entry = {"name": data.source, "rows": len(data.train), "licence": data.licence}
    fixing = _first(data.deciding, _MEASURED).texts
    made = with_sentiment(
        without_head(parts), result, dev=dev, data=[entry], precision=precision, texts=fixing
    )
    return replace(made, facts=_merged(made.facts, "recipe", {"sentiment_task": _recipe(tuned)}))


def as_sentiment(data: TaskData) -> TaskData:
    """Return a task of single texts with the labels -1, 0, 1 (or 0, 1: negative, positive) as sentiment.

    Raises:
        InputError: Pairs, or other labels.
    """
    known = {
        ("-1", "0", "1"): (0, 1, 2),
        ("negative", "neutral", "positive"): (0, 1, 2),
        ("-1", "1"): (0, 2),
        ("0", "1"): (0, 2),
        ("negative", "positive"): (0, 2),
    }
    if data.task.pair or data.task.labels not in known:
        found = "pairs" if data.task.pair else f"the labels {', '.join(data.task.labels) or 'numbers'}"
        raise InputError(
            f"{data.task.name}: found {found}, expected single texts with -1, 0, 1 or 0, 1 for a sentiment head. "
            "Leave --sentiment away: the bundle then gets a classifier of these."
        )
    place = np.array(known[data.task.labels])

    def moved(rows: Examples) -> Examples:
        return Examples(rows.texts, rows.pairs, place[rows.labels])

    task = Task(data.task.name, tuple(map(str, LABELS)), False, ("accuracy",))
    dev = {name: moved(rows) for name, rows in data.dev.items()}
    test = None if data.test is None else moved(data.test)
    return replace(data, task=task, train=moved(data.train), dev=dev, test=test)


def _first(rows: Examples, most: int) -> Examples:
    return rows.rows(range(min(most, len(rows))))


def _separator(tuned: Tuned) -> int | None:
    """The token between texts, for models that were trained with types of tokens."""
    takes_types = "token_type_ids" in tuned.tokenizer.model_input_names
    return int(tuned.tokenizer.sep_token_id) if tuned.task.pair and takes_types else None


def _check_tokenizer(parts: Parts, tuned: Tuned) -> None:
    if tokenizer_json(tuned.tokenizer) != parts.tokenizer:
        raise InputError(
            "the classifier's checkpoint has another tokenizer than the bundle. Give a bundle that was made from it, "
            f"or train it from what the bundle was made from: {parts.facts['base_model']['name']}"
        )


def _feeds(tuned: Tuned, rows: Examples) -> list[tuple[Tensor, Tensor]]:
    """The graph's inputs, an example at a time, as a service gets them."""
    feeds = []
    options = {"truncation": True, "max_length": int(tuned.recipe["max_tokens"]), "return_tensors": "pt"}
    for i, text in enumerate(rows.texts):
        second = rows.pairs[i] if rows.pairs else None
        encoded = tuned.tokenizer(tuned.recipe["prefix"] + text, second, **options)
        feeds.append((encoded["input_ids"], encoded["attention_mask"]))
    return feeds


def _quantized(
    exact: onnx.ModelProto, precision: Precision, feeds: Sequence[tuple[Tensor, Tensor]], task: Task
) -> tuple[onnx.ModelProto, Precision, dict[str, Any]]:
    """The graph in a precision, that precision with nothing left open, and what to note of the choice."""
    arrays = [[part.numpy() for part in feed] for feed in feeds[:FIX_TEXTS]]
    notes: dict[str, Any] = {}
    if task.is_regression:  # layers are chosen by labels that change, which a number has not
        precision = Precision(matmul=precision.matmul, embedding=precision.embedding)
    else:
        precision, notes = settle(precision, exact, arrays)
    return quantize(exact, precision, feeds=arrays), precision, notes


def _check_parity(
    tuned: Tuned, rows: Examples, graph: onnx.ModelProto, feeds: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Hold the float32 graph against the model as it was trained, with the tokenizer's own types of tokens."""
    few = rows.rows(range(min(_PARITY, len(rows))))
    recipe = tuned.recipe
    expected = predict(
        tuned.model, tuned.tokenizer, few, max_tokens=recipe["max_tokens"], prefix=recipe["prefix"]
    )
    if not tuned.task.is_regression:
        expected = softmax(expected / tuned.temperature)
    off = float(np.abs(run_graph(graph, feeds[: len(few)]) - expected).max())
    if off > 1e-3 * max(1.0, float(np.abs(expected).max())):
        raise InputError(
            f"the exported classifier's answers differ from torch's by up to {off:.4f}, expected under 0.001: this "
            "architecture does not survive the export. Use another checkpoint."
        )


def _facts(
    facts: Mapping[str, Any], tuned: Tuned, data: TaskData, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    found = {
        **metrics,
        "measured_on": tuned.measured_on,
        "trials": list(tuned.trials),
        "rows_left_out": data.left_out,
    }
    merged = _merged(facts, "metrics", {"classifier": found})
    merged = _merged(merged, "recipe", {"classifier": _recipe(tuned)})
    earlier = [entry for entry in facts.get("training_data", ()) if entry.get("use") != "classifier"]
    entry = {"use": "classifier", "name": data.source, "rows": len(data.train), "licence": data.licence}
    return merged | {"training_data": [*earlier, entry]}


def _recipe(tuned: Tuned) -> dict[str, Any]:
    return {**tuned.recipe, "chosen": dict(tuned.parameters)}


def _merged(facts: Mapping[str, Any], table: str, added: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, table: {**facts.get(table, {}), **added}}
