"""What all trainings of a classifier share: its settings, its Trainer, its token rows and its loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.errors import InputError
from towers.train.adversarial import AdversarialRecipe, adversarial_trainer
from towers.train.base import load_classifier
from towers.train.classifiers.examples import Examples, Task, TaskData
from towers.train.classifiers.task_metrics import task_report
from towers.train.finetune import check_counts


@dataclass(frozen=True)
class TuneRecipe:
    """How a classifier is fine-tuned. Goes into the bundle as it is.

    The defaults are of Devlin et al. 2019, A.3, but for `max_tokens` and `steps`.

    Attributes:
        epochs: Passes over the training examples.
        steps: Steps of the optimiser; 0: as many as `epochs` makes. All trials of a search have this many, so that what
            they report on the way can be compared.
        batch_size: Examples per batch; a search tries others.
        accumulation: Batches per step of the optimiser.
        learning_rate: Peak of a linear schedule; a search tries others.
        warmup: Share of the steps in which the rate rises; a search tries others.
        weight_decay: Of AdamW; a search tries others.
        max_tokens: Longest example in tokens; of a pair, the longer text is cut.
        prefix: Put before every first text, as some checkpoints want.
        seed: Of the head's start, the order of the examples, dropout and the search.
        bf16: Multiply in bfloat16, weights stay float32.
        save_steps: Steps between two checkpoints.
        trials: Number of trials of the search; 0 trains once, with the settings above.
        evaluations: How often a trial is measured, for pruning: after each such share of its steps.
        search_rows: Trials are measured on this many held-out examples at most; what is kept is measured on all.
    """

    epochs: float = 3.0
    steps: int = 0
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_tokens: int = 128
    prefix: str = ""
    seed: int = 13
    bf16: bool = False
    save_steps: int = 500
    trials: int = 0
    evaluations: int = 4
    search_rows: int = 2000

    def __post_init__(self) -> None:
        """Refuse counts that are none."""
        check_counts(self)
        if self.trials < 0 or min(self.evaluations, self.search_rows) < 1 or self.max_tokens < 4:
            raise InputError(
                f"found trials {self.trials}, evaluations {self.evaluations}, search_rows {self.search_rows} and "
                f"max_tokens {self.max_tokens}; expected 0 or more, 1 or more, 1 or more and 4 or more"
            )

    def steps_for(self, rows: int) -> int:
        """Number of optimiser steps on so many examples."""
        return self.steps or math.ceil(self.epochs * rows / (self.batch_size * self.accumulation))


@dataclass(frozen=True)
class Setting:
    """What all trainings of a run have in common; texts are turned into tokens once.

    Attributes:
        data: The task and its examples.
        checkpoint: As in `base.resolve_checkpoint`.
        recipe: Settings.
        adversarial: How texts are perturbed; None: not at all.
        work: Folder for what an interrupted run goes on from.
    """

    data: TaskData
    checkpoint: str | Path | None
    recipe: TuneRecipe
    adversarial: AdversarialRecipe | None
    work: Path

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's."""
        return load_classifier(self.checkpoint, num_labels=self.data.task.outputs)[1]

    @cached_property
    def train_rows(self) -> Any:
        """The training examples as token ids."""
        return token_rows(self.tokenizer, self.data.train, self.recipe)

    @cached_property
    def dev_rows(self) -> Any:
        """As many held-out examples as a search is to measure on, as token ids."""
        dev = self.data.deciding
        return token_rows(
            self.tokenizer, dev.rows(range(min(len(dev), self.recipe.search_rows))), self.recipe
        )


def make_trainer(setting: Setting, folder: Path, **options: Any) -> Any:
    """Return a Trainer for the setting; `options` replace some of its TrainingArguments.

    The model is made anew, from the recipe's seed, whenever a training begins.
    """
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    task = setting.data.task
    arguments = TrainingArguments(**_arguments(setting, folder) | options)
    return adversarial_trainer(Trainer, setting.adversarial)(
        model_init=lambda: new_model(setting),
        args=arguments,
        train_dataset=setting.train_rows,
        eval_dataset=setting.dev_rows,
        processing_class=setting.tokenizer,
        data_collator=DataCollatorWithPadding(setting.tokenizer),
        compute_loss_func=_loss(task),
        compute_metrics=lambda found: task_report(task, found.label_ids, found.predictions),
    )


def evaluating(times: int) -> type:
    """Return a callback that has the model measured that often, after equal shares of the steps."""
    from transformers import TrainerCallback

    class Evaluating(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            before, now = ((state.global_step - x) * times // state.max_steps for x in (1, 0))
            control.should_evaluate = now > before

    return Evaluating


def new_model(setting: Setting) -> nn.Module:
    """The checkpoint with a fresh head."""
    task = setting.data.task
    model, _ = load_classifier(setting.checkpoint, num_labels=task.outputs)
    if task.labels:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    return cast(nn.Module, model)


def token_rows(tokenizer: Any, data: Examples, recipe: TuneRecipe) -> Any:
    """Return examples as a `datasets.Dataset` of token ids, with `labels` where there are some."""
    from datasets import Dataset

    texts = [recipe.prefix + text for text in data.texts]
    columns = dict(tokenizer(texts, data.pairs, truncation=True, max_length=recipe.max_tokens))
    if len(data.labels):
        columns["labels"] = data.labels.tolist()
    return Dataset.from_dict(columns)


def predict(
    model: nn.Module, tokenizer: Any, data: Examples, *, max_tokens: int, prefix: str = "", batch: int = 64
) -> NDArray[np.float32]:
    """Return the outputs, float32 (n, outputs), of examples in torch, on the CPU."""
    model.eval().cpu()
    order = sorted(
        range(len(data)), key=lambda i: len(data.texts[i]) + len(data.pairs[i] if data.pairs else "")
    )
    parts = []
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = data.rows(order[start : start + batch])
            texts = [prefix + text for text in rows.texts]
            options = {"padding": True, "truncation": True, "max_length": max_tokens}
            inputs = tokenizer(texts, rows.pairs, return_tensors="pt", **options)
            parts.append(model(**inputs).logits.float().numpy())
    outputs = np.concatenate(parts)
    in_order = np.empty_like(outputs)
    in_order[order] = outputs
    return in_order


def _arguments(setting: Setting, folder: Path) -> dict[str, Any]:
    recipe = setting.recipe
    return {
        "output_dir": str(folder),
        "max_steps": recipe.steps_for(len(setting.data.train)),
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": 64,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup,  # below 1 it is a ratio
        "weight_decay": recipe.weight_decay,
        "train_sampling_strategy": "group_by_length",  # wastes little on padding
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "save_steps": recipe.save_steps,
        "save_total_limit": 2,
        "logging_steps": 100,
        "bf16": recipe.bf16,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "use_cpu": not torch.cuda.is_available(),
    }


def _loss(task: Task) -> Callable[..., Tensor]:
    """The mean over all examples of a step, however they are cut into batches.

    The loss inside transformers' classifiers is a mean over the batch, and the Trainer adds those of a step up.
    """
    measure = nn.functional.mse_loss if task.is_regression else nn.functional.cross_entropy

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        logits = outputs.logits[:, 0] if task.is_regression else outputs.logits
        items = len(labels) if num_items_in_batch is None else num_items_in_batch
        return measure(logits, labels, reduction="sum") / items

    return loss
