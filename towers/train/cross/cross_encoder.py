"""A cross-encoder: one transformer that reads query and title together and says how well they match.

It is what vectors are measured against, and a teacher: slow, since every title is read anew with every query, and as a
rule better (Nogueira and Cho 2019, "Passage re-ranking with BERT"; Thakur et al. 2021, AugSBERT). Trained with
sentence-transformers' CrossEncoderTrainer on the same pairs, from the same checkpoint, as the towers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.base import base_key, resolve_checkpoint
from towers.train.cross.cross_cost import (
    cost_per_thousand as cost_per_thousand,  # found here, beside what it times
)
from towers.train.data import PairSet, Split
from towers.train.exporting.export import _quiet as quiet
from towers.train.trainer import after_training, common_arguments, newest_checkpoint
from towers.train.whole import whole_directory

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

Floats = NDArray[np.float32]

CROSS_FACTS = "cross.json"  # beside a cross-encoder that was trained here


@dataclass(frozen=True)
class CrossRecipe:
    """How a cross-encoder is trained.

    Source: Devlin et al. 2019, section 4 (sentence pairs), with the loss of labels in 0..1 as in sentence-transformers.
    Cost: a step takes about as long as a tower's with the same batch; a score about as long as a title's vector, for
    each query anew (`cost_per_thousand`). Not to be served over more than some dozens of candidates.

    Attributes:
        steps: Steps of the optimiser; 0: as many as `epochs` makes.
        epochs: Passes over the training pairs, where `steps` is 0.
        batch_size: Pairs per step.
        learning_rate: Peak of a linear schedule. Of 384 dimensions and 60 steps, 2e-4 was better than 5e-5 and 4e-4
            (docs/experiments.md); 1e-4 leaves room for longer runs. For 768 dimensions 2e-5 to 5e-5 (Devlin et al.
            2019, A.3).
        warmup: Share of the steps in which the rate rises.
        max_tokens: Longest pair in tokens; twice a tower's 64 or so.
        seed: Of the head's start, the order of pairs and dropout.
        bf16: Multiply in bfloat16, weights stay float32: faster where the processor has AVX512-BF16 or AMX.
        save_steps: Steps between two checkpoints, from which an interrupted run goes on.
    """

    steps: int = 0
    epochs: float = 1.0
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1
    max_tokens: int = 128
    seed: int = 13
    bf16: bool = False
    save_steps: int = 200

    def __post_init__(self) -> None:
        """Refuse counts that are none."""
        counts = {name: getattr(self, name) for name in ("batch_size", "max_tokens", "save_steps")}
        if min(counts.values()) < 1 or self.steps < 0 or self.epochs <= 0 or self.learning_rate <= 0:
            raise InputError(
                f"cross-encoder: found {counts}, steps {self.steps}, epochs {self.epochs:g} and learning rate "
                f"{self.learning_rate:g}; expected 1 or more of each, and rates and epochs above 0"
            )


def fit_cross(
    sets: Sequence[PairSet],
    splits: Sequence[Split],
    *,
    recipe: CrossRecipe,
    checkpoint: str | Path | None = None,
    work: Path,
    resume: bool = False,
) -> CrossEncoder:
    """Train a cross-encoder on the training side of all sets.

    Args:
        sets: The pairs; their labels in 0..1 are what it learns to say.
        splits: One for each set.
        recipe: Settings.
        checkpoint: The transformer to start from, as in `base.resolve_checkpoint`.
        work: Folder for checkpoints and the finished model. What lies there of other settings or data is left alone.
        resume: Take the finished model of the same recipe and pairs from `work`, or go on from its newest checkpoint.

    Raises:
        InputError: The checkpoint cannot be loaded.
    """
    columns = _columns(sets, splits)
    key = _key(columns, recipe, checkpoint)
    finished, checkpoints = work / f"cross-{key}", work / f"cross-checkpoints-{key}"
    if not resume:
        for folder in (finished, checkpoints):
            shutil.rmtree(folder, ignore_errors=True)
    if (finished / CROSS_FACTS).is_file():
        return load_cross(finished)
    torch.manual_seed(recipe.seed)  # the head starts at random
    model = load_cross(resolve_checkpoint(checkpoint), max_tokens=recipe.max_tokens)
    _train(model, columns, recipe, checkpoints)
    save_cross(model, finished, recipe)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return model


def load_cross(checkpoint: str | Path, *, max_tokens: int | None = None) -> CrossEncoder:
    """Load a cross-encoder of one score on the CPU, or make one with a fresh head from a transformer.

    Args:
        checkpoint: A directory or hub name.
        max_tokens: Longest pair; None keeps the checkpoint's own.

    Raises:
        InputError: It cannot be loaded, or scores more than one class.
    """
    from sentence_transformers import CrossEncoder

    options: dict[str, Any] = {} if max_tokens is None else {"max_length": max_tokens}
    options["model_kwargs"] = {"attn_implementation": "eager"}  # as for towers: the plainest graph to export
    try:
        with quiet():  # that a fresh head has no weights in the checkpoint is no news
            model: CrossEncoder = CrossEncoder(str(checkpoint), num_labels=1, device="cpu", **options)
            return model
    except Exception as exc:  # of a dozen types, as in base.load_tower
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise InputError(
            f"cannot load a cross-encoder of one score from {checkpoint}: {reason}. Give the directory or name of one."
        ) from exc


def load_teacher(checkpoint: str | Path) -> CrossEncoder:
    """Load a cross-encoder that has been trained: a directory, or a name on a hub.

    Raises:
        InputError: It cannot be loaded, or has no head: then its scores would be random.
    """
    model = load_cross(checkpoint)
    config = Path(checkpoint) / "config.json"
    kinds = json.loads(config.read_text(encoding="utf-8")).get("architectures") if config.is_file() else None
    if kinds and not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise InputError(
            f"{checkpoint} is a {', '.join(kinds)}, expected a cross-encoder, which has a head that scores pairs: "
            "train one with --teacher cross"
        )
    return model


def cross_scores(
    model: CrossEncoder, queries: Sequence[str], titles: Sequence[str], *, batch_size: int = 32
) -> Floats:
    """Return how well queries and titles match, side by side: float32 (n,) in 0..1."""
    if not queries:
        return np.empty(0, np.float32)
    pairs = list(zip(queries, titles, strict=True))
    scores = model.predict(
        pairs, batch_size=batch_size, activation_fn=torch.nn.Sigmoid(), show_progress_bar=False
    )
    return np.asarray(scores, np.float32)


def _columns(sets: Sequence[PairSet], splits: Sequence[Split]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"query": [], "title": [], "label": []}
    for pairs, split in zip(sets, splits, strict=True):
        for i in np.flatnonzero(split.train):
            row = (pairs.queries[i], pairs.titles[i], float(pairs.labels[i]))
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    return columns


def _key(columns: dict[str, list[Any]], recipe: CrossRecipe, checkpoint: str | Path | None) -> str:
    facts = [columns, asdict(recipe), base_key(checkpoint)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _train(
    model: CrossEncoder, columns: dict[str, list[Any]], recipe: CrossRecipe, checkpoints: Path
) -> None:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    arguments = CrossEncoderTrainingArguments(
        **common_arguments(recipe, checkpoints),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,  # below 1 it is a ratio
        weight_decay=0.01,  # as in Devlin et al. 2019, A.2
        data_seed=recipe.seed,
    )
    data, loss = Dataset.from_dict(columns), BinaryCrossEntropyLoss(model)
    trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=loss)
    last = newest_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=last)
    after_training(model)
    model.eval()


def save_cross(model: CrossEncoder, finished: Path, recipe: CrossRecipe) -> None:
    """Save the model whole or not at all; a plain checkpoint, which sentence-transformers loads as well."""
    with whole_directory(finished) as folder:
        model.save_pretrained(str(folder), create_model_card=False)
        (folder / CROSS_FACTS).write_text(json.dumps(asdict(recipe), indent=2), encoding="utf-8")
