"""What a student is asked to do as its teacher does: one small function for each, and the module that adds them up.

All take and give float32; a mean over the batch, so that weights do not depend on its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from towers.train.bodies import is_tower
from towers.train.distillation.teacher import LayerMeans, answer

if TYPE_CHECKING:
    from towers.train.distillation.distil import DistilRecipe


def vector_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - cosine of each vector (n, dim) to the teacher's, both of length 1 (Reimers and Gurevych 2020)."""
    return (1 - (student * teacher).sum(dim=-1)).mean()


def structure_loss(student: Tensor, teacher: Tensor, *, against: Tensor) -> Tensor:
    """Return the squared error of the batch's cosine matrix (Tung and Mori 2019, similarity-preserving distillation).

    Args:
        student: (n, dim) of length 1.
        teacher: (n, dim) of length 1.
        against: (n, dim), what the student's vectors are compared with: their own batch, or the teacher's vectors.
    """
    return (student @ against.T - teacher @ teacher.T).square().mean()


def score_loss(student: Tensor, teacher: Tensor, pairs: Tensor, *, against: Tensor) -> Tensor:
    """Return the squared error of the cosines of given pairs; 0 without pairs.

    Args:
        student: (n, dim) of length 1.
        teacher: (n, dim) of length 1.
        pairs: int64 (m, 2) rows of the batch.
        against: (n, dim), where a pair's second vector comes from, as for `structure_loss`.
    """
    if not len(pairs):
        return student.sum() * 0
    first, second = pairs.T
    wanted = (teacher[first] * teacher[second]).sum(dim=-1)
    return ((student[first] * against[second]).sum(dim=-1) - wanted).square().mean()


def hidden_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared error of mean hidden states (n, layers, width) (Sun et al. 2019, for every matched layer)."""
    return (student - teacher).square().mean()


def logit_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return the divergence of softened probabilities from logits (n, classes) (Hinton et al. 2015, section 2).

    Times the temperature squared, so that its gradients keep their size when the temperature changes.
    """
    found = nn.functional.log_softmax(student / temperature, dim=-1)
    wanted = nn.functional.log_softmax(teacher / temperature, dim=-1)
    return temperature**2 * nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


def label_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the cross-entropy of logits (n, classes) with class indices, int64 (n,), -1 where none is known."""
    if not (classes >= 0).any():
        return logits.sum() * 0
    return nn.functional.cross_entropy(logits, classes, ignore_index=-1)


class Distillation(nn.Module):
    """A student with its losses, as transformers' Trainer wants it: a batch in, {"loss"} out.

    It never trains with dropout, whatever mode it is asked for: the teacher answers without, and a student that must
    give the same answer only loses by it (docs/experiments.md).
    """

    def __init__(self, student: nn.Module, recipe: DistilRecipe, *, layers: int = 0) -> None:
        super().__init__()
        self.student = student
        self._recipe, self._layers = recipe, layers
        self._means = LayerMeans(student, range(layers))

    def train(self, mode: bool = True) -> Distillation:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        taught: Tensor,
        pairs: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare the student's answer with the teacher's.

        Args:
            input_ids: int64 (n, tokens).
            attention_mask: int64 (n, tokens).
            taught: (n, width) as `teacher.ask` returns it.
            pairs: int64 (m, 2), rows that form pairs.
            classes: int64 (n,), class indices, -1 where none is known.
        """
        with self._means.catching():
            found = answer(self.student, input_ids, attention_mask)
        wanted, hidden = taught[:, : found.shape[1]], taught[:, found.shape[1] :]
        loss = (
            self._vectors(found, wanted, pairs)
            if is_tower(self.student)
            else self._logits(found, wanted, classes)
        )
        if self._layers:
            means = self._means.take(attention_mask)
            loss = loss + self._recipe.hidden * hidden_loss(means, hidden.view_as(means))
        return {"loss": loss}

    def _vectors(self, found: Tensor, wanted: Tensor, pairs: Tensor | None) -> Tensor:
        recipe = self._recipe
        against = wanted if recipe.against == "teacher" else found
        loss = recipe.vectors * vector_loss(found, wanted)
        loss = loss + recipe.structure * structure_loss(found, wanted, against=against)
        if pairs is not None and recipe.scores:
            loss = loss + recipe.scores * score_loss(found, wanted, pairs, against=against)
        return loss

    def _logits(self, found: Tensor, wanted: Tensor, classes: Tensor | None) -> Tensor:
        recipe = self._recipe
        loss = recipe.logits * logit_loss(found, wanted, temperature=recipe.temperature)
        if classes is not None and recipe.labels:
            loss = loss + recipe.labels * label_loss(found, classes)
        return loss
