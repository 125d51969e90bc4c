from __future__ import annotations

import math

import torch

from towers.train.distillation.distil_losses import (
    hidden_loss,
    label_loss,
    logit_loss,
    score_loss,
    structure_loss,
    vector_loss,
)

# Two texts. The student has the first right and the second at a right angle.
STUDENT = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
TEACHER = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def test_vectors() -> None:
    """One cosine is 1, the other 0: the mean of 1 - cosine is a half."""
    assert vector_loss(STUDENT, TEACHER).item() == 0.5


def test_structure() -> None:
    """The student's cosines are all 1, the teacher's only on the diagonal: two of four are off by 1."""
    assert structure_loss(STUDENT, TEACHER, against=STUDENT).item() == 0.5


def test_structure_against_the_teachers_vectors() -> None:
    """Both rows of the student have cosines (1, 0) with the teacher's: the second row is off by 1 twice."""
    assert structure_loss(STUDENT, TEACHER, against=TEACHER).item() == 0.5
    assert structure_loss(TEACHER, TEACHER, against=TEACHER).item() == 0.0


def test_scores() -> None:
    """The pair's cosine is 1 and should be 0, which it is to the teacher's vector; no pairs are no loss."""
    pair, none = torch.tensor([[0, 1]]), torch.zeros((0, 2), dtype=torch.int64)
    assert score_loss(STUDENT, TEACHER, pair, against=STUDENT).item() == 1.0
    assert score_loss(STUDENT, TEACHER, pair, against=TEACHER).item() == 0.0
    assert score_loss(STUDENT, TEACHER, none, against=STUDENT).item() == 0.0


def test_hidden() -> None:
    """One of four numbers is off by 2."""
    assert (
        hidden_loss(torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]]), torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]))
        == 1.0
    )


def test_logits() -> None:
    """Against even odds, odds of e to 1: sum of p log(p / q), times the temperature squared."""
    even, sure = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    q = 1 / (1 + math.exp(-1.0))  # at temperature 2 the logit is 1
    by_hand = 4 * (0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q)))
    assert math.isclose(logit_loss(sure, even, temperature=2.0).item(), by_hand, rel_tol=1e-5)


def test_labels() -> None:
    """Even odds between two classes cost log 2; rows without a label count nowhere."""
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    assert math.isclose(label_loss(logits, torch.tensor([1, -1])).item(), math.log(2), rel_tol=1e-6)
    assert label_loss(logits, torch.tensor([-1, -1])).item() == 0.0
