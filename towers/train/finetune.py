"""Fine-tuning a shared tower on labelled pairs with sentence-transformers' trainer and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.adversarial import AdversarialRecipe, adversarial_trainer
from towers.train.data import PairSet, Split, text_key
from towers.train.dataset.mine import hard_negatives, known_positives
from towers.train.trainer import after_training, common_arguments, keeping_weights, newest_checkpoint
from towers.train.weights import load_weights, save_weights

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

Encode = Callable[[Sequence[str]], NDArray[np.float32]]

_CHECKPOINTS = "checkpoints"
_FINISHED = "tower.safetensors"


@dataclass(frozen=True)
class TowerRecipe:
    """How a tower is fine-tuned.

    Attributes:
        epochs: Passes over the training pairs.
        steps: Steps of the optimiser; 0: as many as `epochs` makes.
        batch_size: Pairs per batch; also the number of in-batch negatives.
        accumulation: Batches per step of the optimiser. It saves memory, and adds no in-batch negatives.
        learning_rate: Peak of a linear schedule; 2e-5 is what sentence-transformers' own recipes use.
        warmup: Share of the steps in which the rate rises.
        save_steps: Steps between two checkpoints, from which an interrupted run goes on.
        seed: Of the order of the pairs and of dropout.
        bf16: Multiply in bfloat16, weights stay float32: faster where the processor has AVX512-BF16 or AMX.
        negatives: "mined": one that the labels name, else a close title that is safe to call one; "random": any title.
    """

    epochs: float = 1.0
    batch_size: int = 32
    learning_rate: float = 2e-5
    warmup: float = 0.1
    save_steps: int = 200
    seed: int = 13
    steps: int = 0
    accumulation: int = 1
    bf16: bool = False
    negatives: str = "mined"

    def __post_init__(self) -> None:
        """Refuse counts that are none, and negatives of another kind."""
        check_counts(self)
        if self.negatives not in ("mined", "random"):
            raise InputError(f"found {self.negatives!r} negatives, expected mined or random")


def check_counts(recipe: Any) -> None:
    """Check what all training recipes count: epochs, steps, batch_size, accumulation, save_steps.

    Raises:
        InputError: One of them is no such count.
    """
    counts = {name: getattr(recipe, name) for name in ("batch_size", "accumulation", "save_steps")}
    if min(counts.values()) < 1 or recipe.steps < 0 or recipe.epochs <= 0:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            f"found {found}, steps {recipe.steps} and epochs {recipe.epochs:g}; expected 1 or more of each, epochs "
            "above 0, and 0 steps to go by epochs"
        )


def finetune(
    tower: SentenceTransformer,
    sets: Sequence[PairSet],
    splits: Sequence[Split],
    *,
    recipe: TowerRecipe,
    work: Path,
    resume: bool = False,
    adversarial: AdversarialRecipe | None = None,
    encode: Encode | None = None,
) -> SentenceTransformer:
    """Train a tower on the training side of all sets.

    Binary and graded sets train MultipleNegativesRankingLoss on their positive pairs, each with a hard negative:
    one that the labels name, else a mined one. Graded and float sets train CoSENTLoss on all their labels.

    Args:
        tower: The model to start from; it is changed.
        sets: The pairs.
        splits: One for each set; only the training side is used.
        recipe: Settings.
        work: Folder for checkpoints and, at last, the finished tower's weights.
        resume: Take the finished weights from `work`, or go on from its newest checkpoint, if there is one.
        adversarial: Perturb the texts' embeddings; None does not.
        encode: Texts -> vectors (n, dim) of length 1 that negatives are mined with; None for the tower's own.
    """
    finished = work / _FINISHED
    if resume and finished.is_file():
        load_weights(tower, finished)
        return tower
    torch.manual_seed(recipe.seed)
    datasets, losses = _tasks(tower, sets, splits, recipe=recipe, encode=encode or _own_vectors(tower))
    settings: dict[str, Any] = {"recipe": recipe, "adversarial": adversarial}
    _train(tower, datasets, losses, checkpoints=work / _CHECKPOINTS, resume=resume, **settings)
    save_weights(tower, finished)
    return tower


def triplets(
    pairs: PairSet, split: Split, *, encode: Encode, seed: int, negatives: str = "mined"
) -> dict[str, list[str]]:
    """Return the training side's positive pairs with a negative each, as columns anchor, positive, negative.

    The negative is a title that the labels call no match of the query, else the mined one, else any title that is
    not known to match; with "random" negatives always the last.
    """
    rows = np.flatnonzero(split.train)
    known = known_positives(
        [pairs.queries[i] for i in rows], [pairs.titles[i] for i in rows], pairs.positive[rows]
    )
    labelled: dict[str, str] = {}
    mined: dict[str, str] = {}
    positives = rows[pairs.positive[rows]]
    titles = list({text_key(pairs.titles[i]): pairs.titles[i] for i in rows}.values())
    if negatives == "mined":
        labelled = _labelled_negatives(pairs, rows)
        mined = _mined(pairs, positives, titles, known, encode)
    rng = np.random.default_rng(seed)
    columns: dict[str, list[str]] = {"anchor": [], "positive": [], "negative": []}
    for i in positives:
        key = text_key(pairs.queries[i])
        negative = labelled.get(key) or mined.get(key) or _any_title(titles, known[key], rng)
        if negative is not None:
            for name, text in zip(columns, (pairs.queries[i], pairs.titles[i], negative), strict=True):
                columns[name].append(text)
    return columns


def _labelled_negatives(pairs: PairSet, rows: NDArray[np.int64]) -> dict[str, str]:
    """For each query of the rows, the title with its lowest label, where that is no match."""
    lowest = sorted((i for i in rows if not pairs.positive[i]), key=lambda i: -pairs.labels[i])
    return {text_key(pairs.queries[i]): pairs.titles[i] for i in lowest}


def _mined(
    pairs: PairSet,
    positives: NDArray[np.int64],
    titles: list[str],
    known: dict[str, set[str]],
    encode: Encode,
) -> dict[str, str]:
    place = {text_key(title): i for i, title in enumerate(titles)}
    queries = list({text_key(pairs.queries[i]): pairs.queries[i] for i in positives}.values())
    number = {text_key(query): i for i, query in enumerate(queries)}
    query_vectors, title_vectors = encode(queries), encode(titles)
    cosines = np.ones(len(queries), np.float32)
    for i in positives:
        query = number[text_key(pairs.queries[i])]
        cosine = query_vectors[query] @ title_vectors[place[text_key(pairs.titles[i])]]
        cosines[query] = min(cosines[query], cosine)
    matches = [np.array([place[text] for text in known[key] if text in place], np.int64) for key in number]
    found = hard_negatives(query_vectors, title_vectors, positive_cosines=cosines, known=matches)
    return {key: titles[rows[0]] for key, rows in zip(number, found, strict=True) if len(rows)}


def _any_title(titles: list[str], known: set[str], rng: np.random.Generator) -> str | None:
    for i in rng.permutation(len(titles)):
        if text_key(titles[i]) not in known:
            return str(titles[i])
    return None


def _own_vectors(tower: SentenceTransformer) -> Encode:
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return cast(NDArray[np.float32], tower.encode(list(texts), show_progress_bar=len(texts) > 5000))

    return encode


def _tasks(
    tower: SentenceTransformer,
    sets: Sequence[PairSet],
    splits: Sequence[Split],
    *,
    recipe: TowerRecipe,
    encode: Encode,
) -> tuple[dict[str, Dataset], dict[str, Any]]:
    from datasets import Dataset
    from sentence_transformers.sentence_transformer import losses

    datasets: dict[str, Dataset] = {}
    chosen: dict[str, Any] = {}
    for number, (pairs, split) in enumerate(zip(sets, splits, strict=True)):
        for task, columns in _columns(pairs, split, encode, recipe):
            name = f"{number}-{task}"  # two sets may have one name
            datasets[name] = Dataset.from_dict(columns)
            make = losses.MultipleNegativesRankingLoss if task == "ranking" else losses.CoSENTLoss
            chosen[name] = make(tower)
    return datasets, chosen


def _columns(
    pairs: PairSet, split: Split, encode: Encode, recipe: TowerRecipe
) -> Iterator[tuple[str, dict[str, Any]]]:
    if pairs.kind != "float":
        columns = triplets(pairs, split, encode=encode, seed=recipe.seed, negatives=recipe.negatives)
        if columns["anchor"]:
            yield "ranking", columns
    if pairs.kind != "binary":
        rows = np.flatnonzero(split.train)
        yield (
            "labels",
            {
                "sentence1": [pairs.queries[i] for i in rows],
                "sentence2": [pairs.titles[i] for i in rows],
                "score": pairs.labels[rows].tolist(),
            },
        )


def _train(
    tower: SentenceTransformer,
    datasets: dict[str, Dataset],
    losses: dict[str, Any],
    *,
    recipe: TowerRecipe,
    adversarial: AdversarialRecipe | None,
    checkpoints: Path,
    resume: bool,
) -> None:
    from sentence_transformers import SentenceTransformerTrainer

    trainer = adversarial_trainer(keeping_weights(SentenceTransformerTrainer), adversarial)(
        model=tower, args=_arguments(recipe, checkpoints), train_dataset=datasets, loss=losses
    )
    last = newest_checkpoint(checkpoints) if resume else None
    trainer.train(resume_from_checkpoint=last)
    after_training(tower)


def _arguments(recipe: TowerRecipe, checkpoints: Path) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers

    return SentenceTransformerTrainingArguments(
        **common_arguments(recipe, checkpoints),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,  # below 1 it is a ratio
        batch_sampler=BatchSamplers.NO_DUPLICATES,  # a batch's other titles are negatives: none may be the same
        data_seed=recipe.seed,
    )
