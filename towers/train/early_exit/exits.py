"""Early exit: exit heads trained together with the classifier, calibrated, and a threshold for when a text may leave.

classifier -> heads after its layers -> joint training, each exit taught by labels and by the last exit
-> a temperature for each exit -> the boldest threshold that dev texts allow
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from towers.errors import InputError
from towers.exits import RULES, ExitPlan
from towers.labelled import Texts
from towers.tokens import batches_by_length, pad
from towers.train.bodies import layer_stack
from towers.train.distillation.teacher import token_ids
from towers.train.early_exit.exit_model import ExitClassifier, exits_after
from towers.train.early_exit.exit_training import train_exits
from towers.train.early_exit.exit_tuning import (
    MEASURES,
    Judged,
    by_layer,
    compare_rules,
    describe,
    plan_exits,
)
from towers.train.sentiment import (
    MAX_TOKENS,
    classify,
    fingerprint,
    fit_temperature,
    sentiment_report,
    softmax,
)
from towers.train.whole import whole_directory

_FINISHED = "exits"
_CHECKPOINTS = "exit-steps"
_WEIGHTS = "weights.pt"
_RESULT = "result.json"
_BATCH_TOKENS = 2048  # padded tokens in a batch when exits are asked; guess, untested


@dataclass(frozen=True)
class ExitRecipe:
    """How exits are trained, and when a text may leave.

    Source: BranchyNet (Teerapittayanon et al. 2016) for exits trained together; DeeBERT (Xin et al. 2020) for the
    entropy rule, and for exits over a finished body (`freeze_layers` = all layers); FastBERT (Liu et al. 2020) for the
    last exit as teacher of the others; PABEE (Zhou et al. 2020) for patience and for weights that grow with depth.
    Cost: as many steps as another fine-tuning, and 200 KB an exit. Not for texts that are all equally hard, where
    nobody leaves early and the heads only cost, and not where a model cut to fewer layers is good enough for all.

    Attributes:
        every: An exit after every so many layers, counted back from the last.
        weights: Of the exits' losses: "depth", an exit counts as many times as it has layers below it, or "even".
        distil: Share of an exit's loss that comes from the last exit's probabilities, the rest comes from the labels.
            Half is a guess, untested.
        temperature: Softens both before they are compared; a guess, untested.
        rule: "entropy", "margin" or "patience", see `towers.exits.ExitPlan`. On tweets the first two were alike, on
            film reviews margin left after 2.4 layers and entropy after 3.1 (benchmarks/early_exit).
        max_loss: How much of the measure may be lost on dev texts, against the last exit or the classifier that
            training started from, whichever is better.
        measure: "accuracy" or "macro_recall".
        steps: Optimiser steps.
        batch_size: Texts per step.
        learning_rate: Peak of a linear schedule for the classifier, as for its own fine-tuning.
        head_rate: The same for the new heads, which start from nothing; guess, untested.
        warmup: Share of the steps in which the rates rise.
        freeze_layers: The embeddings and this many of the lowest layers stay as they are; -1 freezes nothing.
            Embeddings that stay are stored once with the towers' own.
        max_tokens: Longest text in tokens.
        seed: Of the heads' start and the order of the texts.
        bf16: Multiply in bfloat16, weights stay float32.
        save_steps: Steps between two checkpoints, from which an interrupted run goes on.
    """

    every: int = 1
    weights: str = "depth"
    distil: float = 0.5
    temperature: float = 2.0
    rule: str = "margin"
    max_loss: float = 0.005
    measure: str = "accuracy"
    steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 5e-5
    head_rate: float = 1e-3
    warmup: float = 0.1
    freeze_layers: int = 0
    max_tokens: int = MAX_TOKENS
    seed: int = 13
    bf16: bool = False
    save_steps: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be trained or followed."""
        _one_of("weights", self.weights, ("depth", "even"))
        _one_of("rule", self.rule, RULES)
        _one_of("measure", self.measure, tuple(MEASURES))
        least = {
            "every": 1,
            "steps": 1,
            "batch_size": 1,
            "save_steps": 1,
            "max_tokens": 2,
            "freeze_layers": -1,
        }
        low = [
            f"{name} = {getattr(self, name)}" for name, value in least.items() if getattr(self, name) < value
        ]
        if low:
            raise InputError(f"exits: found {', '.join(low)}, expected at least {least}")
        if not (0 <= self.distil <= 1 and 0 <= self.max_loss < 1 and 0 <= self.warmup < 1):
            raise InputError(
                f"exits: found distil = {self.distil}, max_loss = {self.max_loss}, warmup = {self.warmup}, expected "
                "shares between 0 and 1"
            )
        if min(self.temperature, self.learning_rate, self.head_rate) <= 0:
            raise InputError(
                f"exits: found temperature = {self.temperature}, learning_rate = {self.learning_rate}, head_rate = "
                f"{self.head_rate}, expected numbers above 0"
            )


def _one_of(name: str, found: str, expected: tuple[str, ...]) -> None:
    if found not in expected:
        raise InputError(f"exits: found {name} = {found!r}, expected one of {', '.join(expected)}")


@dataclass(frozen=True)
class ExitResult:
    """A classifier with trained exits.

    Attributes:
        model: The classifier and its heads.
        tokenizer: Its transformers tokenizer.
        plan: When a text may leave, tuned on dev texts in float32.
        metrics: `sentiment_report` of the last exit; "start", that of the classifier that training started from;
            "by_layer", of each exit; "chosen", of the plan; "rules", of each rule with its curve.
        recipe: What it was trained with.
        training_rows: Texts trained on.
    """

    model: ExitClassifier
    tokenizer: Any
    plan: ExitPlan
    metrics: dict[str, Any]
    recipe: ExitRecipe
    training_rows: int

    @property
    def allowed(self) -> float:
        """How much of the measure exits may cost: less than the recipe says where the last exit itself lost some."""
        measure = self.recipe.measure
        return float(self.recipe.max_loss - max(0.0, self.metrics["start"][measure] - self.metrics[measure]))


def fit_exits(
    model: nn.Module,
    tokenizer: Any,
    train: Texts,
    dev: Texts,
    *,
    recipe: ExitRecipe | None = None,
    work: Path,
    resume: bool = False,
) -> ExitResult:
    """Give a classifier exits, train all of them together, and tune when a text may leave.

    Args:
        model: A classifier, best a trained one; it may have been cut. It is changed.
        tokenizer: Its transformers tokenizer.
        train: Texts to train on.
        dev: Texts that nothing was trained on, for temperatures and thresholds.
        recipe: Settings; None for the defaults.
        work: Folder for checkpoints and the finished exits.
        resume: Take the finished exits from `work` if classifier, recipe and texts are the same, else go on from the
            newest checkpoint there, if there is one for them.

    Raises:
        InputError: No dev texts, or an architecture without layers of its own.
    """
    recipe = recipe or ExitRecipe()
    if not dev.texts or not train.texts:
        raise InputError(
            f"exits: found {len(train.texts)} texts to train on and {len(dev.texts)} dev texts; give both"
        )
    run = _run_key(model, train, dev, recipe)
    torch.manual_seed(recipe.seed)
    exiting = ExitClassifier(model, exits_after(len(layer_stack(model)), every=recipe.every))
    finished = work / _FINISHED
    facts = _finished_facts(finished, run) if resume else None
    if facts is None:
        facts = {"run": run, "start": _start(model, tokenizer, dev, recipe)}
        rows = token_ids(tokenizer, train.texts, max_tokens=recipe.max_tokens)
        checkpoints = work / f"{_CHECKPOINTS}-{run[:12]}"
        train_exits(exiting, rows, train, recipe=recipe, checkpoints=checkpoints, resume=resume)
        _save(exiting, facts, finished)
    else:
        exiting.load_state_dict(torch.load(finished / _WEIGHTS, weights_only=True))
    return _judge(exiting, tokenizer, train, dev, recipe, start=facts["start"])


def exit_logits(
    model: ExitClassifier, tokenizer: Any, texts: Sequence[str], *, max_tokens: int
) -> NDArray[np.float32]:
    """Return the logits of all exits, float32 (exits, n, 3), of texts in torch."""
    model.eval()
    rows = token_ids(tokenizer, texts, max_tokens=max_tokens)
    logits = np.zeros((len(model.layers), len(rows), int(model.config.num_labels)), np.float32)
    with torch.inference_mode():
        for batch in batches_by_length(rows, tokens=_BATCH_TOKENS):
            ids, mask = (torch.from_numpy(array) for array in pad([rows[i] for i in batch]))
            logits[:, batch] = model(input_ids=ids, attention_mask=mask).exits.float().numpy()
    return logits


def _judge(
    model: ExitClassifier,
    tokenizer: Any,
    train: Texts,
    dev: Texts,
    recipe: ExitRecipe,
    *,
    start: dict[str, Any],
) -> ExitResult:
    logits = exit_logits(model, tokenizer, dev.texts, max_tokens=recipe.max_tokens)
    temperatures = tuple(fit_temperature(of_exit, dev.labels) for of_exit in logits)
    probabilities = softmax(logits / np.array(temperatures, np.float32)[:, None, None])
    judged = Judged(model.layers, probabilities, dev.labels, recipe.measure)
    least = max(judged.quality(judged.last), start[recipe.measure]) - recipe.max_loss
    plan = plan_exits(judged, rule=recipe.rule, least=least)
    metrics = {
        **sentiment_report(dev.labels, probabilities[-1]),
        "start": start,
        "by_layer": by_layer(judged),
        "chosen": {"rule": plan.rule, **describe(plan, judged)},
        "rules": compare_rules(judged, least=least),
    }
    plan = ExitPlan(plan.rule, plan.threshold, plan.layers, temperatures)
    return ExitResult(model, tokenizer, plan, metrics, recipe, training_rows=len(train.texts))


def _start(model: nn.Module, tokenizer: Any, dev: Texts, recipe: ExitRecipe) -> dict[str, Any]:
    """What the classifier can do before training."""
    return sentiment_report(
        dev.labels, softmax(classify(model, tokenizer, dev.texts, max_tokens=recipe.max_tokens))
    )


# Interruption.


def _run_key(model: nn.Module, train: Texts, dev: Texts, recipe: ExitRecipe) -> str:
    """The SHA-256 of all that a training depends on; rule, loss and measure are chosen after it."""
    settings = {
        name: value for name, value in asdict(recipe).items() if name not in ("rule", "max_loss", "measure")
    }
    digest = hashlib.sha256(json.dumps([settings, fingerprint(train), fingerprint(dev)]).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _finished_facts(finished: Path, run: str) -> dict[str, Any] | None:
    if not (finished / _RESULT).is_file():
        return None
    facts = cast("dict[str, Any]", json.loads((finished / _RESULT).read_text(encoding="utf-8")))
    return facts if facts["run"] == run else None


def _save(model: ExitClassifier, facts: dict[str, Any], finished: Path) -> None:
    """Save the exits whole or not at all."""
    with whole_directory(finished) as folder:
        torch.save(model.state_dict(), folder / _WEIGHTS)
        (folder / _RESULT).write_text(json.dumps(facts, indent=2), encoding="utf-8")
