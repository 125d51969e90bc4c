"""Training the scorer on vectors made before, and Platt calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.errors import InputError
from towers.train.scorer import ResidualScorer

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Progress = Callable[[int], None]


_LEAST_STEPS = 1000
_MOST_EPOCHS = 100


@dataclass(frozen=True)
class ScorerRecipe:
    """How a scorer is trained. The defaults were chosen on five folds of 384-wide vectors (docs/experiments.md).

    Attributes:
        width: Dimensions of the projection P; at most those of the vectors.
        hidden: Width of the hidden layer.
        dropout: Share of the MLP's inputs and of its hidden units that are dropped.
        noise: Length of the random vector that is added to each vector of length 1, anew in each step.
        epochs: Passes over the pairs, with a rate that falls linearly to 0; of few pairs more, see `planned_epochs`.
        batch_size: Pairs per step.
        learning_rate: Peak rate of the MLP (AdamW).
        weight_decay: AdamW's, on matrices.
        random_negatives: Pairs of a query and a random title of its set added as non-matches, per labelled pair.
        ranking: Weight of a loss on the order of titles of one query. 0: none; it cost AUC on pairs of questions.
        shrink: The trained MLP's logit is multiplied by it: what overfitted loses more than what did not.
        seed: Of the weights, the order of pairs and all noise.
        teacher: Weight of a cross-encoder's score against the label, 0..1, where there is a teacher; 0.5 as in Hinton
            et al.'s even mix, untested here. See `taught`.
        teacher_pairs: New pairs that the teacher alone labels, per labelled pair; guess, untested.
    """

    width: int = 128
    hidden: int = 64
    dropout: float = 0.3
    noise: float = 0.6
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    random_negatives: float = 0.5
    ranking: float = 0.0
    shrink: float = 0.35
    seed: int = 13
    teacher: float = 0.5
    teacher_pairs: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a weight that is none."""
        if not 0 <= self.teacher <= 1 or self.teacher_pairs < 0:
            raise InputError(
                f"scorer: found teacher = {self.teacher:g} and teacher_pairs = {self.teacher_pairs:g}, expected 0 to 1 "
                "and 0 or more"
            )


@dataclass(frozen=True)
class ScorerPairs:
    """Pairs as rows of one table of vectors.

    Attributes:
        vectors: (t, dim), rows of length 1.
        queries: (n,) int64, rows of the queries.
        titles: (n,) int64, rows of the titles.
        labels: (n,) float32 in 0..1.
        sets: (n,) int64, the number of the set that a pair is from.
    """

    vectors: Floats
    queries: Rows
    titles: Rows
    labels: Floats
    sets: Rows

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: NDArray[np.bool_]) -> ScorerPairs:
        """Return the chosen pairs, (n,) bool."""
        return ScorerPairs(
            self.vectors, self.queries[chosen], self.titles[chosen], self.labels[chosen], self.sets[chosen]
        )


def logits_of(scorer: ResidualScorer, pairs: ScorerPairs, *, batch: int = 4096) -> NDArray[np.float64]:
    """Return the scorer's logits (n,) of pairs."""
    scorer.eval()
    vectors = torch.from_numpy(pairs.vectors)
    parts = [np.empty(0)]
    with torch.inference_mode():
        for start in range(0, len(pairs), batch):
            rows = slice(start, start + batch)
            parts.append(scorer(vectors[pairs.queries[rows]], vectors[pairs.titles[rows]]).double().numpy())
    return np.concatenate(parts)


# Training.


def train_scorer(
    pairs: ScorerPairs, recipe: ScorerRecipe, *, progress: Progress | None = None
) -> ResidualScorer:
    """Train a scorer on labelled pairs: binary cross-entropy on labels in 0..1, starting from calibrated cosine.

    Args:
        pairs: Training pairs, mined hard negatives among them.
        recipe: Settings.
        progress: Called with 1 after each epoch.
    """
    torch.manual_seed(recipe.seed)
    scorer = ResidualScorer(
        pairs.vectors.shape[1], hidden=recipe.hidden, width=recipe.width, dropout=recipe.dropout
    )
    slope, offset = platt(
        (pairs.vectors[pairs.queries] * pairs.vectors[pairs.titles]).sum(axis=1), pairs.labels
    )
    with torch.no_grad():
        scorer.slope.fill_(slope)
        scorer.offset.fill_(offset)
    rng = np.random.default_rng(recipe.seed)
    epochs = planned_epochs(recipe, len(pairs))
    pairs = with_random_negatives(pairs, share=recipe.random_negatives, rng=rng)
    _run_epochs(scorer, pairs, recipe, epochs=epochs, rng=rng, progress=progress)
    scorer.shrink(recipe.shrink)
    return scorer.eval()


def planned_epochs(recipe: ScorerRecipe, pairs: int) -> int:
    """Return the passes over so many labelled pairs: the recipe's, or more until there are about 1,000 steps.

    2,550 pairs in 15 passes are 225 steps, which move the MLP nowhere (AUC +0.04 points over cosine); in 60 passes they
    gain 3.1 (docs/experiments.md). 100 passes are the most: tiny sets are learned by heart soon enough.
    """
    steps = math.ceil(pairs * (1 + recipe.random_negatives) / recipe.batch_size)
    return max(recipe.epochs, min(_MOST_EPOCHS, math.ceil(_LEAST_STEPS / steps)))


def with_random_negatives(pairs: ScorerPairs, *, share: float, rng: np.random.Generator) -> ScorerPairs:
    """Add share · n pairs of a query with a title of another pair of its set, label 0. Labelled pairs are skipped."""
    parts = [pairs]
    labelled = set(zip(pairs.queries.tolist(), pairs.titles.tolist(), strict=True))
    for number in np.unique(pairs.sets):
        rows = np.flatnonzero(pairs.sets == number)
        count = round(share * len(rows))
        queries = pairs.queries[rng.choice(rows, count)]
        titles = pairs.titles[rng.choice(rows, count)]
        new = [pair not in labelled for pair in zip(queries.tolist(), titles.tolist(), strict=True)]
        queries, titles = queries[new], titles[new]
        zeros = np.zeros(len(queries), np.float32)
        parts.append(ScorerPairs(pairs.vectors, queries, titles, zeros, np.full(len(queries), number)))
    return join_pairs(parts)


def join_pairs(parts: Sequence[ScorerPairs]) -> ScorerPairs:
    """Put pairs over the same table of vectors into one."""
    return ScorerPairs(
        vectors=parts[0].vectors,
        queries=np.concatenate([part.queries for part in parts]),
        titles=np.concatenate([part.titles for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        sets=np.concatenate([part.sets for part in parts]),
    )


def _run_epochs(
    scorer: ResidualScorer,
    pairs: ScorerPairs,
    recipe: ScorerRecipe,
    *,
    epochs: int,
    rng: np.random.Generator,
    progress: Progress | None,
) -> None:
    steps = epochs * math.ceil(len(pairs) / recipe.batch_size)
    optimizer = torch.optim.AdamW(_parameter_groups(scorer, recipe), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * max(0.0, 1 - step / steps)
    )
    scorer.train()
    vectors, labels = torch.from_numpy(pairs.vectors), torch.from_numpy(pairs.labels)
    for _ in range(epochs):
        order = rng.permutation(len(pairs))
        for start in range(0, len(order), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            queries = _perturbed(vectors[pairs.queries[rows]], recipe.noise)
            titles = _perturbed(vectors[pairs.titles[rows]], recipe.noise)
            logits = scorer(queries, titles)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[rows])
            if recipe.ranking:
                loss = loss + recipe.ranking * ranking_loss(
                    logits, labels[rows], torch.from_numpy(pairs.queries[rows])
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if progress is not None:
            progress(1)


def _parameter_groups(scorer: ResidualScorer, recipe: ScorerRecipe) -> list[dict[str, object]]:
    # Slope and offset are of the size of 10, not of a weight: they need a rate of their own, and no decay.
    calibration = [scorer.slope, scorer.offset]
    others = [x for name, x in scorer.named_parameters() if name not in ("slope", "offset")]
    groups: list[dict[str, object]] = [{"params": calibration, "lr": 0.05, "weight_decay": 0.0}]
    groups.append({"params": [x for x in others if x.ndim > 1], "weight_decay": recipe.weight_decay})
    groups.append({"params": [x for x in others if x.ndim <= 1], "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def _perturbed(vectors: Tensor, noise: float) -> Tensor:
    """Add to each row a random vector of about the length `noise`, and bring the row back to length 1."""
    if not noise:
        return vectors
    noisy = vectors + noise / math.sqrt(vectors.shape[-1]) * torch.randn_like(vectors)
    return nn.functional.normalize(noisy, dim=-1)


def ranking_loss(logits: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Return the mean of log(1 + exp(z_low − z_high)) over pairs of titles of one query with different labels.

    RankNet's loss (Burges et al. 2005) with certain targets; 0 when the batch has no such titles.

    Args:
        logits: (n,).
        labels: (n,) in 0..1.
        queries: (n,) int64, equal for titles of one query.
    """
    ordered = (queries[:, None] == queries[None]) & (labels[:, None] > labels[None])
    if not ordered.any():
        return logits.sum() * 0
    return nn.functional.softplus(-(logits[:, None] - logits[None])[ordered]).mean()


# Calibration.


def platt(
    values: NDArray[np.floating], labels: NDArray[np.floating], weights: Floats | None = None
) -> tuple[float, float]:
    """Return the (slope, offset) with the least cross-entropy of sigmoid(slope · value + offset) (Platt 1999).

    Newton's method on two numbers. The ridge of 1e-6 keeps separable data finite.

    Args:
        values: (n,) cosines or logits.
        labels: (n,) in 0..1.
        weights: (n,) how much each pair counts; None for equally.
    """
    inputs = np.stack([values, np.ones(len(values))], axis=1).astype(np.float64)
    share = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    share = share / share.sum()
    answer = np.zeros(2)
    for _ in range(100):
        probabilities = 1 / (1 + np.exp(-np.clip(inputs @ answer, -30, 30)))
        gradient = inputs.T @ (share * (probabilities - labels)) + 1e-6 * answer
        curvature = (inputs * (share * probabilities * (1 - probabilities))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-6 * np.eye(2), gradient)
        answer -= step * min(1.0, 5.0 / (np.abs(step).max() + 1e-12))  # full steps overshoot from afar
        if np.abs(step).max() < 1e-9:
            break
    return float(answer[0]), float(answer[1])
