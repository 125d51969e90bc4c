from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from towers.train.bilingual.losses import SCALE, contrast_loss, order_loss, shortened


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32))
    return torch.nn.functional.normalize(values, dim=-1)


def cross_entropy_of(scores: list[float], own: int) -> float:
    return math.log(sum(math.exp(score) for score in scores)) - scores[own]


def contrast_by_hand(queries: torch.Tensor, titles: torch.Tensor, others: torch.Tensor) -> float:
    """One query and one title after the other."""
    every = [*titles.tolist(), *others.tolist()]

    def score(a: list[float], b: list[float]) -> float:
        return SCALE * sum(x * y for x, y in zip(a, b, strict=True))

    losses = []
    for i, (query, title) in enumerate(zip(queries.tolist(), titles.tolist(), strict=True)):
        losses.append(cross_entropy_of([score(query, t) for t in every], i))
        losses.append(cross_entropy_of([score(q, title) for q in queries.tolist()], i))
    return sum(losses) / len(losses)


def test_contrast_worked_out() -> None:
    """Two queries at right angles, each on its own title: scores are 20 and 0, both ways."""
    corners = torch.eye(2)
    assert contrast_loss(corners, corners).item() == pytest.approx(math.log(1 + math.exp(-20)), abs=1e-6)
    swapped = contrast_loss(corners, corners.flip(0))  # each query on the other's title
    assert swapped.item() == pytest.approx(20 + math.log(1 + math.exp(-20)), rel=1e-6)
    alone = contrast_loss(corners[:1], corners[:1], corners[:1])  # there: two equal titles; back: one query
    assert alone.item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("others", [0, 3])
def test_contrast_is_its_stupid_twin(others: int) -> None:
    """Titles that match nothing count for queries, and not the other way round."""
    queries, titles, more = unit(4, 5, 1), unit(4, 5, 2), unit(others, 5, 3)
    found = contrast_loss(queries, titles, more if others else None).item()
    assert found == pytest.approx(contrast_by_hand(queries, titles, more), rel=1e-5)


def test_order_worked_out() -> None:
    """Of three pairs, one stands 0.1 too high above another and 0.2 below the third: 1 + e^2 + e^-4, and e^-2."""
    cosines, labels = torch.tensor([0.5, 0.4, 0.7]), torch.tensor([0.0, 0.5, 1.0])
    wanted = math.log(1 + math.exp(20 * 0.1) + math.exp(20 * -0.2) + math.exp(20 * -0.3))
    assert order_loss(cosines, labels).item() == pytest.approx(wanted, rel=1e-5)


def test_order_is_its_stupid_twin() -> None:
    """Two pairs of one label say nothing of each other."""
    rng = np.random.default_rng(4)
    cosines, labels = rng.uniform(-1, 1, 9), rng.integers(0, 3, 9)
    total = 1.0
    for i in range(9):
        for j in range(9):
            if labels[i] < labels[j]:
                total += math.exp(SCALE * (cosines[i] - cosines[j]))
    found = order_loss(torch.tensor(cosines), torch.tensor(labels)).item()
    assert found == pytest.approx(math.log(total), rel=1e-9)


def test_order_of_one_label_is_nothing() -> None:
    """The loss is 0, and its gradient is 0 and not missing: a batch may well have one label alone."""
    cosines = torch.tensor([0.1, 0.9], requires_grad=True)
    loss = order_loss(cosines, torch.ones(2))
    loss.backward()
    assert loss.item() == 0
    assert cosines.grad is not None
    assert cosines.grad.tolist() == [0, 0]


def test_order_falls_when_pairs_are_put_right() -> None:
    right, wrong = torch.tensor([0.1, 0.9]), torch.tensor([0.9, 0.1])
    labels = torch.tensor([0.0, 1.0])
    assert order_loss(right, labels) < order_loss(wrong, labels)


def test_shortened_vectors_have_length_1() -> None:
    """The first numbers, in the same direction; more than there are is all of them."""
    vectors = unit(6, 8, 5)
    short = shortened(vectors, 3)
    assert short.shape == (6, 3)
    assert torch.allclose(short.norm(dim=1), torch.ones(6))
    assert torch.allclose(short * vectors[:, :3].norm(dim=1, keepdim=True), vectors[:, :3], atol=1e-6)
    assert torch.allclose(shortened(vectors, 99), vectors)
