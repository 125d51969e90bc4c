"""The training steps of a sentiment classifier: token rows, class weights, the Trainer's run with its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.sentiment import LABELS
from towers.train.adversarial import AdversarialRecipe, adversarial_trainer
from towers.train.trainer import after_training, common_arguments, keeping_weights, newest_checkpoint

if TYPE_CHECKING:
    from towers.labelled import Texts
    from towers.train.sentiment import SentimentRecipe


def run_trainer(
    model: nn.Module,
    tokenizer: Any,
    train: Texts,
    *,
    recipe: SentimentRecipe,
    work: Path,
    resume: bool,
    adversarial: AdversarialRecipe | None = None,
) -> None:
    """Train any classifier on labelled texts, in place.

    Args:
        model: A classifier of three classes; parameters that need no gradient stay as they are.
        tokenizer: Its tokenizer.
        train: The texts.
        recipe: Settings.
        work: Folder for checkpoints.
        resume: Go on from the newest checkpoint there, if there is one.
        adversarial: Perturb the texts' embeddings; None does not.
    """
    from datasets import Dataset
    from transformers import DataCollatorWithPadding

    weights = class_weights_of(train.labels)
    trainer = adversarial_trainer(keeping_weights(_weighing_trainer(weights)), adversarial)(
        model=model,
        args=_arguments(recipe, work),
        train_dataset=Dataset.from_list(list(_token_rows(tokenizer, train, recipe.max_tokens))),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=_weighed_loss(weights),
    )
    trainer.train(resume_from_checkpoint=newest_checkpoint(work) if resume else None)
    after_training(model)


def _arguments(recipe: SentimentRecipe, work: Path) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        **common_arguments(recipe, work),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        warmup_steps=recipe.warmup,  # below 1 it is a ratio
        weight_decay=0.01,
        # Batches of like length waste little on padding; one core is worth half the run.
        train_sampling_strategy="group_by_length",
        data_seed=recipe.seed,
    )


def _weighing_trainer(weights: Tensor) -> type:
    """Return a Trainer whose number of items in a step is the sum of the class weights of its texts.

    With the Trainer's own number, a count, the weighted mean of a step would depend on how it is cut into batches.
    """
    from transformers import Trainer

    class WeighingTrainer(Trainer):
        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            return batches, sum(_weight(weights, batch["labels"]) for batch in batches)

    return WeighingTrainer


def _weighed_loss(weights: Tensor) -> Any:
    """Return the loss: the weighted mean over a batch, times the batch's part of the step."""

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        mean = nn.functional.cross_entropy(outputs.logits, labels, weight=weights.to(labels.device))
        return mean * (_weight(weights, labels) / num_items_in_batch)

    return loss


def _weight(weights: Tensor, labels: Tensor) -> Tensor:
    return weights.to(labels.device)[labels].sum()


def class_weights_of(labels: NDArray[np.int64]) -> Tensor:
    """Return weights, float32 (3,), by inverse frequency of labels (n,) in -1, 0, 1: macro recall counts then."""
    counts = np.array([max(1, int((labels == label).sum())) for label in LABELS], np.float32)
    return torch.tensor(counts.sum() / (len(LABELS) * counts))


def _token_rows(tokenizer: Any, data: Texts, max_tokens: int) -> Iterator[dict[str, Any]]:
    encoded = tokenizer(data.texts, truncation=True, max_length=max_tokens)
    for i, label in enumerate(data.labels):
        yield {
            "input_ids": encoded["input_ids"][i],
            "attention_mask": encoded["attention_mask"][i],
            "labels": int(label) + 1,
        }
