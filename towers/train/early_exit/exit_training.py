"""The training steps of exits: one loss over all of them, and the Trainer's run with its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.labelled import Texts
from towers.tokens import Ids, pad
from towers.train.batches import grouped_by_length
from towers.train.early_exit.exit_model import ExitClassifier, ExitOutput
from towers.train.sentiment import freeze_lowest
from towers.train.sentiment_training import class_weights_of
from towers.train.trainer import after_training, common_arguments, newest_checkpoint

if TYPE_CHECKING:
    from towers.train.early_exit.exits import ExitRecipe


def train_exits(
    model: ExitClassifier,
    rows: Sequence[Ids],
    train: Texts,
    *,
    recipe: ExitRecipe,
    checkpoints: Path,
    resume: bool,
) -> None:
    """Train a classifier and its exit heads, in place.

    Args:
        model: The classifier with heads.
        rows: Token ids of the texts.
        train: The texts.
        recipe: Settings.
        checkpoints: Folder for checkpoints.
        resume: Go on from the newest checkpoint there, if there is one.
    """
    from transformers import Trainer

    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    freeze_lowest(model, recipe.freeze_layers)
    weights = class_weights_of(train.labels)

    def loss(outputs: ExitOutput, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        of_class = weights.to(labels.device)
        return exit_loss(outputs, labels, layers=model.layers, class_weights=of_class, recipe=recipe)

    trainer = Trainer(
        model=model,
        args=_arguments(recipe, checkpoints),
        train_dataset=_Batches(rows, train.labels, recipe),
        data_collator=_only_item,
        compute_loss_func=loss,
        optimizers=_optimizers(model, recipe),
    )
    trainer.train(resume_from_checkpoint=newest_checkpoint(checkpoints) if resume else None)
    after_training(model)
    for parameter in free:
        parameter.requires_grad_(True)


class _Batches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """All batches of a training, planned before it, so that a resumed run sees the same ones."""

    def __init__(self, rows: Sequence[Ids], labels: NDArray[np.int64], recipe: ExitRecipe) -> None:
        lengths = np.array([len(row) for row in rows])
        self._rows, self._labels = rows, labels
        self._plan = grouped_by_length(
            lengths, batch_size=recipe.batch_size, steps=recipe.steps, seed=recipe.seed
        )

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        batch = self._plan[number]
        ids, mask = pad([self._rows[i] for i in batch])
        arrays = {"input_ids": ids, "attention_mask": mask, "labels": self._labels[batch] + 1}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _only_item(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return items[0]


def _arguments(recipe: ExitRecipe, checkpoints: Path) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        **common_arguments(recipe, checkpoints),
        label_names=["labels"],  # not found by itself: the model takes no labels
        per_device_train_batch_size=1,  # an item is a whole batch, planned before
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
    )


def _optimizers(model: ExitClassifier, recipe: ExitRecipe) -> tuple[Any, Any]:
    """AdamW with a rate for the classifier and one for the heads, both rising and then falling in a line."""
    from transformers import get_linear_schedule_with_warmup

    groups = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate}
        for part, rate in ((model.classifier, recipe.learning_rate), (model.heads, recipe.head_rate))
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.01)
    rising = round(recipe.warmup * recipe.steps)
    return optimizer, get_linear_schedule_with_warmup(optimizer, rising, recipe.steps)  # type: ignore[no-untyped-call]


def exit_loss(
    outputs: ExitOutput, labels: Tensor, *, layers: Sequence[int], class_weights: Tensor, recipe: ExitRecipe
) -> Tensor:
    """Return the weighted mean over the exits of label loss and, but for the last, divergence from the last exit.

    Args:
        outputs: Logits (exits, n, classes).
        labels: Class indices (n,).
        layers: Layers up to each exit, for the weights.
        class_weights: (classes,).
        recipe: Weights, share of distillation, temperature.
    """
    weights = torch.tensor(layers if recipe.weights == "depth" else [1] * len(layers), dtype=torch.float32)
    exits = (
        outputs.exits.float()
    )  # a loss of bfloat16 logits would lose its last digits, and torch refuses to mix
    soft = torch.softmax(exits[-1].detach() / recipe.temperature, dim=-1)
    losses = []
    for number, logits in enumerate(exits):
        by_labels = nn.functional.cross_entropy(logits, labels, weight=class_weights)
        if number == len(layers) - 1:
            losses.append(by_labels)
            continue
        log_soft = torch.log_softmax(logits / recipe.temperature, dim=-1)
        # The square keeps the gradients' size as temperatures rise (Hinton et al. 2015, section 2).
        taught = recipe.temperature**2 * nn.functional.kl_div(log_soft, soft, reduction="batchmean")
        losses.append((1 - recipe.distil) * by_labels + recipe.distil * taught)
    return (torch.stack(losses) * weights.to(losses[0].device)).sum() / weights.sum()
