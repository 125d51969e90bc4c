"""Distillation: a student learns to answer as its teacher does, on texts without labels.

    texts -> teacher's vectors or logits, once, on disk -> batches of like length -> student

A student may have any structure, as long as it gives vectors of the teacher's width, or logits of as many classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from towers.errors import InputError
from towers.tokens import Ids, pad
from towers.train.batches import grouped_by_length
from towers.train.bodies import body_of, is_tower, layer_stack, width_of
from towers.train.distillation.distil_losses import Distillation
from towers.train.distillation.teacher import Halves, ask, matched_layers, model_key, token_ids
from towers.train.fit import prepare_work
from towers.train.trainer import newest_checkpoint, planned_arguments
from towers.train.whole import whole_directory

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CHECKPOINTS = "checkpoints"
_TEACHER = "teacher"
_FINISHED = "student"
_WEIGHTS = "weights.pt"
_RESULT = "result.json"


@dataclass(frozen=True)
class DistilRecipe:
    """How a student learns from its teacher.

    Source: Hinton et al. 2015 for classifiers; Reimers and Gurevych 2020 (vectors) with Tung and Mori 2019 (structure)
    for towers. Cost: the teacher once over the texts, then the student's own training, for the steps that are asked;
    serving costs nothing. Not for a student that has the teacher's size already, and not with fewer than some thousand
    texts: labels that one has teach more than a teacher on few texts.

    Attributes:
        steps: Optimiser steps.
        batch_size: Texts (or pairs, where there are any) of a step.
        learning_rate: Peak of a linear schedule. 300 steps with 5e-4 led to a mean cosine of 0.903, with 2e-4 to 0.886
            (docs/experiments.md); for layers wider than 384 try less, 1e-4 is a guess.
        warmup: Share of the steps in which the rate rises.
        seed: Of the choice and order of the texts.
        bf16: Multiply in bfloat16, weights stay float32: faster where the processor has AVX512-BF16 or AMX.
        save_steps: Steps between two checkpoints, from which an interrupted run goes on.
        max_tokens: Longest text in tokens, for student and teacher.
        vectors: Weight of 1 - cosine to the teacher's vector. For towers, as the next three.
        structure: Weight of the squared error of the batch's cosine matrix; 0 to 10 gave the same Spearman on STS-B, 30
            less (docs/experiments.md).
        against: What the student's vectors are compared with in that matrix, and in pairs: "student", each other;
            "teacher", the teacher's, for a query tower whose titles keep their vectors.
        scores: Weight of the squared error of given pairs' cosines. Where it is the only weight, texts that are in no
            pair are left out: they would teach nothing.
        hidden: Weight of the squared error of mean hidden states of matched layers; needs a student as wide as its
            teacher. For towers and classifiers.
        logits: Weight of the divergence from the teacher's softened probabilities. For classifiers, as the next two.
        temperature: Softens them; 2 is a guess, Hinton et al. used 1 to 20.
        labels: Weight of the cross-entropy with given labels.
        freeze_embeddings: Leave the table of word embeddings as it is: half of a small model's parameters, which then
            cost no optimiser time and are stored once for student and teacher in a bundle.
    """

    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup: float = 0.1
    seed: int = 13
    bf16: bool = False
    save_steps: int = 200
    max_tokens: int = 128
    vectors: float = 1.0
    structure: float = 10.0
    against: str = "student"
    scores: float = 0.0
    hidden: float = 0.0
    logits: float = 1.0
    temperature: float = 2.0
    labels: float = 0.0
    freeze_embeddings: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        weights = {name: getattr(self, name) for name in _WEIGHT_NAMES}
        if any(weight < 0 for weight in weights.values()):
            raise InputError(f"distil: found weights {weights}, expected none below 0")
        least = {"steps": 1, "batch_size": 2, "save_steps": 1, "max_tokens": 2}
        low = [
            f"{name} = {getattr(self, name)}" for name, value in least.items() if getattr(self, name) < value
        ]
        if low:
            raise InputError(f"distil: found {', '.join(low)}, expected at least {least}")
        if self.learning_rate <= 0 or not 0 <= self.warmup < 1 or self.temperature <= 0:
            raise InputError(
                f"distil: found learning_rate = {self.learning_rate}, warmup = {self.warmup}, temperature = "
                f"{self.temperature}, expected a rate and a temperature above 0 and a share below 1"
            )
        if self.against not in ("student", "teacher"):
            raise InputError(f"distil: found against = {self.against!r}, expected student or teacher")


_TOWER_WEIGHTS = ("vectors", "structure", "scores", "hidden")
_CLASSIFIER_WEIGHTS = ("logits", "labels", "hidden")
_WEIGHT_NAMES = tuple(dict.fromkeys((*_TOWER_WEIGHTS, *_CLASSIFIER_WEIGHTS)))


@dataclass(frozen=True)
class _Lessons:
    """What a student is taught from.

    Attributes:
        texts: Different texts, in the order in which they are asked for.
        items: Rows of `texts`: one text, or two that are a pair.
        classes: (len(texts),) int64 class indices, -1 where none is known; None without labels.
    """

    texts: list[str]
    items: list[tuple[int, ...]]
    classes: NDArray[np.int64] | None = None

    @property
    def key(self) -> str:
        """The SHA-256 of all of it."""
        classes = None if self.classes is None else self.classes.tolist()
        return hashlib.sha256(json.dumps([self.texts, self.items, classes]).encode()).hexdigest()


def distil_tower(
    student: SentenceTransformer,
    teacher: SentenceTransformer,
    texts: Sequence[str],
    *,
    recipe: DistilRecipe,
    work: Path,
    resume: bool = False,
    pairs: Sequence[tuple[str, str]] = (),
    cache: Path | None = None,
) -> SentenceTransformer:
    """Teach a tower to give its teacher's vectors.

    Args:
        student: What to start from; it is changed.
        teacher: A tower whose vectors are as wide. Each has its own tokenizer.
        texts: Short texts without labels, queries and titles, encoded as they stand, without prefixes.
        recipe: Settings. Where the steps do not reach all texts, only those that they reach are asked of the teacher.
        work: Folder for checkpoints and, at last, the student's weights. It is emptied unless `resume`.
        resume: Take the finished student from `work`, or go on with the run in it.
        pairs: Queries and titles for the recipe's `scores`; they count as texts as well.
        cache: Folder for the teacher's vectors; students that share it share them. None: in `work`.

    Returns:
        The student.

    Raises:
        InputError: Widths that differ, nothing to learn, `scores` without pairs, or `work` holds a run with other
            settings or data.
    """
    if recipe.scores and not pairs:
        raise InputError(
            f"distil: found scores = {recipe.scores:g} and no pairs, expected queries with titles whose cosines are "
            "learned; give pairs, or set scores = 0"
        )
    dims = [int(tower.get_embedding_dimension() or 0) for tower in (student, teacher)]
    if dims[0] != dims[1]:
        raise InputError(
            f"distil: found a student with vectors of width {dims[0]} and a teacher with {dims[1]}; end the student in "
            "a Dense module of the teacher's width"
        )
    only_scores = recipe.scores and not (recipe.vectors or recipe.structure or recipe.hidden)
    items = [*pairs, *((text,) for text in (() if only_scores else texts))]
    lessons = _lessons(items, recipe)
    run = _Run(student, teacher, student.tokenizer, teacher.tokenizer, recipe, lessons)
    run.finish(work, resume=resume, cache=cache)
    return student


def distil_classifier(
    student: nn.Module,
    teacher: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    labels: NDArray[np.int64] | None = None,
    recipe: DistilRecipe,
    work: Path,
    resume: bool = False,
    cache: Path | None = None,
) -> nn.Module:
    """Teach a classifier to give its teacher's probabilities.

    Args:
        student: What to start from; it is changed.
        teacher: A classifier of as many classes and with the same tokenizer.
        tokenizer: The transformers tokenizer of both.
        texts: n texts.
        labels: (n,) class indices for the recipe's `labels`, -1 where none is known. Of a text that stands there more
            than once, the first known one counts.
        recipe: Settings.
        work: As for `distil_tower`, like `resume` and `cache`.
        resume: Go on with the run in `work`.
        cache: Folder for the teacher's logits.

    Returns:
        The student.

    Raises:
        InputError: Labels that do not fit, nothing to learn, or `work` holds a run with other settings or data.
    """
    if recipe.labels and labels is None:
        raise InputError(
            f"distil: found labels = {recipe.labels:g} and no labels; give them, or set labels = 0"
        )
    if labels is not None and len(labels) != len(texts):
        raise InputError(f"distil: found {len(labels)} labels for {len(texts)} texts, expected one for each")
    classes = None if labels is None else _first_known(texts, labels)
    lessons = _lessons([(text,) for text in texts], recipe, classes)
    _Run(student, teacher, tokenizer, tokenizer, recipe, lessons).finish(work, resume=resume, cache=cache)
    return student


def _first_known(texts: Sequence[str], labels: NDArray[np.int64]) -> dict[str, int]:
    """Text -> its first label that is known, -1 where none is."""
    found: dict[str, int] = {}
    for text, label in zip(texts, labels.tolist(), strict=True):
        if found.get(text, -1) < 0:
            found[text] = label
    return found


def _lessons(
    items: Sequence[tuple[str, ...]], recipe: DistilRecipe, classes: dict[str, int] | None = None
) -> _Lessons:
    """Draw as many items as the steps reach, in an order that more steps would only prolong."""
    different = list(dict.fromkeys(items))
    if len(different) < 2:
        raise InputError(
            f"distil: found {len(different)} different texts, expected two at least, better 10,000"
        )
    order = np.random.default_rng(recipe.seed).permutation(len(different))
    drawn = [different[i] for i in order[: recipe.steps * recipe.batch_size]]
    row = {text: i for i, text in enumerate(dict.fromkeys(text for item in drawn for text in item))}
    return _Lessons(
        texts=list(row),
        items=[tuple(row[text] for text in item) for item in drawn],
        classes=None if classes is None else np.array([classes[text] for text in row], np.int64),
    )


class _Run:
    """One distillation: two models, their tokenizers, the settings and what is taught."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        student_tokenizer: Any,
        teacher_tokenizer: Any,
        recipe: DistilRecipe,
        lessons: _Lessons,
    ) -> None:
        names = _TOWER_WEIGHTS if is_tower(student) else _CLASSIFIER_WEIGHTS
        if not any(getattr(recipe, name) for name in names):
            raise InputError(f"distil: found {', '.join(names)} all 0, expected one of them above 0")
        self._student, self._teacher, self._recipe, self._lessons = student, teacher, recipe, lessons
        self._student_tokenizer, self._teacher_tokenizer = student_tokenizer, teacher_tokenizer
        self._layers = _layers_to_match(student, teacher) if recipe.hidden else ()

    def finish(self, work: Path, *, resume: bool, cache: Path | None) -> None:
        """Train the student, or take up what an earlier run has done of it."""
        prepare_work(work, self._fingerprint(), resume=resume)
        if (work / _FINISHED / _RESULT).is_file():
            weights = torch.load(work / _FINISHED / _WEIGHTS, weights_only=True)
            self._student.load_state_dict(weights)
            return
        taught = ask(
            self._teacher,
            self._teacher_tokenizer,
            self._lessons.texts,
            max_tokens=self._recipe.max_tokens,
            layers=self._layers,
            cache=cache or work / _TEACHER,
        )
        losses = self._train(taught, checkpoints=work / _CHECKPOINTS)
        _save(self._student, work / _FINISHED, {"recipe": asdict(self._recipe), "losses": losses})

    def _fingerprint(self) -> dict[str, str]:
        return {
            "data": self._lessons.key,
            "student": model_key(self._student),
            "teacher": model_key(self._teacher),
            "settings": json.dumps(asdict(self._recipe), sort_keys=True),
        }

    def _train(self, taught: Halves, *, checkpoints: Path) -> list[dict[str, float]]:
        ids = token_ids(self._student_tokenizer, self._lessons.texts, max_tokens=self._recipe.max_tokens)
        module = Distillation(self._student, self._recipe, layers=len(self._layers))
        mode, free = self._student.training, [p for p in self._student.parameters() if p.requires_grad]
        if self._recipe.freeze_embeddings:
            _word_embeddings(self._student).requires_grad_(False)
        try:
            return _run_trainer(
                module, self._batches(ids, taught), recipe=self._recipe, checkpoints=checkpoints
            )
        finally:
            self._student.train(mode).to("cpu")
            for parameter in free:
                parameter.requires_grad_(True)

    def _batches(self, ids: Sequence[Ids], taught: Halves) -> _Batches:
        lengths = np.array([max(len(ids[row]) for row in item) for item in self._lessons.items])
        recipe = self._recipe
        plan = grouped_by_length(lengths, batch_size=recipe.batch_size, steps=recipe.steps, seed=recipe.seed)
        return _Batches([batch.tolist() for batch in plan], self._lessons, ids, taught)


class _Batches(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The planned batches, each made when it is asked for."""

    def __init__(
        self, plan: Sequence[Sequence[int]], lessons: _Lessons, ids: Sequence[Ids], taught: Halves
    ) -> None:
        self._plan, self._lessons, self._ids, self._taught = plan, lessons, ids, taught

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        items = [self._lessons.items[i] for i in self._plan[number]]
        rows = [item[0] for item in items] + [item[1] for item in items if len(item) > 1]
        firsts = [place for place, item in enumerate(items) if len(item) > 1]
        pairs = [(first, len(items) + i) for i, first in enumerate(firsts)]
        input_ids, attention_mask = pad([self._ids[row] for row in rows])
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
            "taught": torch.from_numpy(self._taught[rows].astype(np.float32)),
            "pairs": torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        }
        if self._lessons.classes is not None:
            batch["classes"] = torch.from_numpy(self._lessons.classes[rows])
        return batch


def _layers_to_match(student: nn.Module, teacher: nn.Module) -> tuple[int, ...]:
    if width_of(student) != width_of(teacher):
        raise InputError(
            f"distil: found a student of width {width_of(student)} and a teacher of {width_of(teacher)}; hidden states "
            "can be compared only at the same width. Set hidden = 0."
        )
    return matched_layers(len(layer_stack(student)), len(layer_stack(teacher)))


def _word_embeddings(student: nn.Module) -> nn.Module:
    find = getattr(body_of(student), "get_input_embeddings", None)
    if find is None:
        raise InputError(
            f"distil: {type(body_of(student)).__name__} does not say which are its word embeddings; "
            "set freeze_embeddings = false"
        )
    return cast(nn.Module, find())


def _run_trainer(
    module: Distillation, batches: _Batches, *, recipe: DistilRecipe, checkpoints: Path
) -> list[dict[str, float]]:
    """Train, and return the mean loss of every 100 steps."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(**planned_arguments(recipe, checkpoints))
    trainer = Trainer(model=module, args=arguments, train_dataset=batches, data_collator=_only_item)
    last = newest_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=last)
    return [{"step": x["step"], "loss": x["loss"]} for x in trainer.state.log_history if "loss" in x]


def _only_item(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return items[0]


def _save(student: nn.Module, finished: Path, facts: dict[str, Any]) -> None:
    """Save weights and facts whole or not at all."""
    with whole_directory(finished) as folder:
        torch.save(student.state_dict(), folder / _WEIGHTS)
        (folder / _RESULT).write_text(json.dumps(facts, indent=2), encoding="utf-8")
