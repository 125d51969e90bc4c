"""Teaching a bilingual tower: one Trainer run over planned lessons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from towers.train.bilingual.lessons import Lesson, LessonPlan
from towers.train.bilingual.losses import contrast_loss, order_loss, shortened
from towers.train.bilingual.recipe import KINDS, BilingualRecipe
from towers.train.distillation.distil_losses import structure_loss, vector_loss
from towers.train.distillation.teacher import answer, token_ids
from towers.train.trainer import after_training, keeping_weights, newest_checkpoint, planned_arguments

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_STRUCTURE = 10.0  # weight of the batch's similarities beside the vectors, as in distillation
_SHORT = 0.3  # weight of each loss on the shortened vectors; guess, untested


def teach(
    student: SentenceTransformer,
    lessons: Sequence[Lesson],
    *,
    recipe: BilingualRecipe,
    work: Path,
    resume: bool,
) -> list[dict[str, float]]:
    """Teach a tower, in place.

    Args:
        student: What to start from.
        lessons: What it is taught; shares decide how many steps each gets.
        recipe: Settings.
        work: Folder for checkpoints.
        resume: Go on from the newest checkpoint there, if there is one.

    Returns:
        The mean loss of every 100 steps.
    """
    from transformers import Trainer, TrainingArguments

    ids = [_ids(student.tokenizer, lesson, recipe.train_tokens) for lesson in lessons]
    plan = LessonPlan(lessons, ids, steps=recipe.steps, batch_texts=recipe.batch_texts, seed=recipe.seed)
    module = Taught(student, short_dim=recipe.short_dim)
    arguments = TrainingArguments(**planned_arguments(recipe, work))
    trainer = keeping_weights(Trainer)(
        model=module, args=arguments, train_dataset=plan, data_collator=lambda items: items[0]
    )
    trainer.train(resume_from_checkpoint=newest_checkpoint(work) if resume else None)
    after_training(module)
    student.eval()
    return [{"step": x["step"], "loss": x["loss"]} for x in trainer.state.log_history if "loss" in x]


class Taught(nn.Module):
    """A student with the losses of all kinds of lessons, as transformers' Trainer wants it: a batch in, {"loss"} out.

    Dropout is on where labels teach and off where a teacher's vectors do (docs/experiments.md).
    """

    def __init__(self, student: SentenceTransformer, *, short_dim: int) -> None:
        super().__init__()
        self.student = student
        self._short_dim = short_dim

    def forward(
        self,
        kind: Tensor,
        items: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        targets: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss of one batch.

        Args:
            kind: The place of the lesson's kind in `KINDS`.
            items: n, the number of items.
            input_ids: int64 (n times texts of an item, tokens): all first texts, then all second ones, and so on.
            attention_mask: int64, as `input_ids`.
            targets: (n, dim) vectors or (n,) labels.
        """
        name, count = KINDS[int(kind)], int(items)
        self.student.train(self.training and name != "imitate")
        vectors = answer(self.student, input_ids, attention_mask)
        short = shortened(vectors, self._short_dim)
        return {"loss": _loss(name, vectors, count, targets) + _SHORT * _loss(name, short, count, targets)}


def _loss(kind: str, vectors: Tensor, count: int, targets: Tensor | None) -> Tensor:
    first, *rest = torch.split(vectors, count)
    if kind == "contrast":
        return contrast_loss(first, *rest)
    assert targets is not None
    if kind == "order":
        return order_loss((first * rest[0]).sum(dim=-1), targets)
    if first.shape[1] != targets.shape[1]:  # shortened: only its similarities can be compared
        return _STRUCTURE * structure_loss(first, targets, against=first)
    return vector_loss(first, targets) + _STRUCTURE * structure_loss(first, targets, against=first)


def _ids(tokenizer: Any, lesson: Lesson, max_tokens: int) -> list[tuple[Any, ...]]:
    columns = [
        token_ids(tokenizer, [item[place] for item in lesson.texts], max_tokens=max_tokens)
        for place in range(len(lesson.texts[0]))
    ]
    return list(zip(*columns, strict=True))
