"""Adversarial training: steps on word embeddings that were moved to where the loss is larger, inside any Trainer.

The perturbation is added to what the word-embedding layer gives for a text, through a hook that lives for one step. The
weights themselves are never written to, so nothing has to be put back, frozen embeddings work like others, and no text
of a batch is moved by another one's gradient. Lengths are those of a whole text: the L2 norm over all its tokens and
the width, as in Miyato et al. 2017 (the concatenation s of a text's embeddings) and Zhu et al. 2020 (the Frobenius norm
of its matrix). A text that a loss encodes with others, such as the title of a pair, has a perturbation of its own.

Every pass of a step sees the same dropout masks (Zhu et al. 2020, 3.3), so that the passes differ by the perturbation
alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from towers.errors import InputError
from towers.train.bodies import body_of

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object  # the trainer to extend comes in as an argument

METHODS = ("fgm", "pgd", "freelb")


@dataclass(frozen=True)
class AdversarialRecipe:
    """How training texts are perturbed.

    Sources: FGM is Miyato et al. 2017, "Adversarial training methods for semi-supervised text classification", section
    3, equation 5; PGD is Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", section 2;
    FreeLB is Zhu et al. 2020, "FreeLB: enhanced adversarial training for natural language understanding", algorithm 1.

    Cost: FGM makes two forward and backward passes a step instead of one, PGD `steps` + 1, FreeLB `steps`; memory and
    the finished model stay as they are. Not worth it where a step's time buys more as a step on other data, as with
    many labels or a short budget, and for scorers on frozen towers, which it never reaches.

    Attributes:
        method: "fgm" (one move of length epsilon along the gradient), "pgd" (several moves, projected into the ball of
            radius epsilon; the last one trains) or "freelb" (random start, several moves, all of them train).
        epsilon: Length of a text's perturbation, for pgd and freelb the greatest one. A token of all-MiniLM-L6-v2 is
            1.07 long on average, so 0.5 moves a text of 20 tokens by a tenth of its length. Guess, untested.
        steps: Passes with a perturbation, of pgd and freelb; 3 is what Zhu et al. 2020 mostly take. fgm has one.
        step_size: Length of a move, of pgd and freelb; 0: 2.5 x epsilon / steps (Madry et al. 2018, section 6), so that
            the border can be reached from any start. fgm moves by epsilon.
        share: Weight of the adversarial loss beside the plain one, of fgm and pgd; the two weights add up to 1, so that
            learning rate and clipping mean what they do without. 0.5 is the plain sum of Miyato et al. up to that
            factor, 1 the pure game of Madry et al. freelb takes the mean of all its passes.
    """

    method: str = "fgm"
    epsilon: float = 0.5
    steps: int = 3
    step_size: float = 0.0
    share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no perturbation."""
        if self.method not in METHODS:
            raise InputError(f"found the adversarial method {self.method!r}, expected {', '.join(METHODS)}")
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0 and self.step_size >= 0):
            raise InputError(
                f"found epsilon {self.epsilon:g} and step_size {self.step_size:g}, expected lengths of 0 or more"
            )
        if self.steps < 1 or not 0 < self.share <= 1:
            raise InputError(
                f"found {self.steps} adversarial steps and the share {self.share:g}, expected 1 step or more and a "
                "share above 0, at most 1"
            )

    @property
    def move(self) -> float:
        """Length of one move along the gradient."""
        if self.method == "fgm":
            return self.epsilon
        return self.step_size or 2.5 * self.epsilon / self.steps

    @property
    def weights(self) -> tuple[float, ...]:
        """For each pass of a training step, the weight of its loss; 0 where only its direction is wanted."""
        if self.method == "freelb":
            return (1 / self.steps,) * self.steps
        between = self.steps - 1 if self.method == "pgd" else 0
        return (1 - self.share, *(0.0,) * between, self.share)


def adversarial_trainer(trainer_class: type, recipe: AdversarialRecipe | None) -> type:
    """Return a trainer class whose training steps are adversarial; None returns the class itself.

    Args:
        trainer_class: transformers' Trainer or a class made from it, such as SentenceTransformerTrainer.
        recipe: How texts are perturbed.
    """
    if recipe is None:
        return trainer_class
    name = f"{recipe.method.capitalize()}{trainer_class.__name__}"
    return type(name, (_AdversarialSteps, trainer_class), {"recipe": recipe})


def word_embeddings(model: nn.Module) -> nn.Module:
    """Return the layer that turns token ids into vectors, of a tower, a classifier or a transformer.

    Raises:
        InputError: The model has no embedding layer.
    """
    try:
        body = body_of(model)
    except AttributeError:  # a transformer itself
        body = model
    if hasattr(body, "get_input_embeddings"):
        return cast(nn.Module, body.get_input_embeddings())
    layers = [module for module in body.modules() if isinstance(module, nn.Embedding)]
    if not layers:
        raise InputError(f"{type(model).__name__} has no embedding layer, whose output could be perturbed")
    return max(layers, key=lambda layer: layer.num_embeddings)


class Perturbation:
    """What is added to the embeddings of each text while the passes of one training step run.

    Args:
        recipe: Lengths.
        seed: Of a random start.
    """

    def __init__(self, recipe: AdversarialRecipe, *, seed: int = 0) -> None:
        self._recipe = recipe
        self._seed = seed
        self._calls = 0
        self._wanted = True
        self.deltas: list[Tensor] = []
        """For each call of the embedding layer within a pass, (texts, tokens, width)."""

    @contextmanager
    def on(self, layer: nn.Module) -> Iterator[None]:
        """Perturb the layer's output inside the block."""
        handle = layer.register_forward_hook(self._hook)
        try:
            yield
        finally:
            handle.remove()

    def begin(self, *, wanted: bool) -> None:
        """Begin a pass; `wanted` says whether its gradient with respect to the perturbation will be asked for."""
        self._calls = 0
        self._wanted = wanted
        self.deltas = [delta.detach().requires_grad_(wanted) for delta in self.deltas]

    def climb(self, gradients: Sequence[Tensor | None]) -> None:
        """Move each text along its gradient, and back into the ball of radius epsilon where it left it."""
        moved = []
        for delta, gradient in zip(self.deltas, gradients, strict=True):
            if gradient is not None:
                delta = delta.detach() + self._recipe.move * _unit(gradient)
                length = _lengths(delta)
                delta = delta * (self._recipe.epsilon / length.clamp(min=max(self._recipe.epsilon, 1e-30)))
            moved.append(delta)
        self.deltas = moved

    def _hook(self, layer: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        if self._calls == len(self.deltas):
            self.deltas.append(self._start(layer, arguments[0], output).requires_grad_(self._wanted))
        delta = self.deltas[self._calls]
        self._calls += 1
        if delta.shape != output.shape:
            raise InputError(
                f"found embeddings of shape {tuple(output.shape)} in a second pass, expected {tuple(delta.shape)}: "
                "adversarial steps need a loss that encodes the same texts in each pass. Take one that does not cut "
                "its batch into pieces (no Cached… loss)."
            )
        return output + delta

    def _start(self, layer: nn.Module, ids: Tensor, output: Tensor) -> Tensor:
        """The first perturbation: none, or uniform in +-epsilon / sqrt(numbers of the text) (Zhu et al. 2020)."""
        zeros = torch.zeros_like(output, requires_grad=False)
        if self._recipe.method != "freelb":
            return zeros
        generator = torch.Generator(output.device).manual_seed(self._seed + self._calls)
        padding = getattr(layer, "padding_idx", None)
        real = torch.ones_like(ids) if padding is None else (ids != padding).long()
        numbers = (real.sum(dim=1) * output.shape[-1]).clamp(min=1)
        noise = zeros.uniform_(-1, 1, generator=generator) * real[..., None]
        return noise * (self._recipe.epsilon / numbers.sqrt())[:, None, None]


class _AdversarialSteps(_Trainer):
    """The part of a trainer that makes several passes of each step.

    Each pass with a weight is a training step of the trainer itself: its loss scaling for accumulation and its mixed
    precision apply as ever, and the gradients of the passes add up.
    """

    recipe: AdversarialRecipe

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._weight = 1.0
        if self.args.fp16 or self.args.n_gpu > 1:
            raise InputError(
                f"found fp16={self.args.fp16} on {self.args.n_gpu} devices, adversarial steps take float32 or bf16 on "
                "one: gradients of the embeddings vanish in float16. Use bf16, and CUDA_VISIBLE_DEVICES=0."
            )

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One step of all passes; returns the weighted sum of their losses."""
        dropout = _Dropout()
        noise = Perturbation(self.recipe, seed=dropout.seed())
        weights = self.recipe.weights
        total = torch.zeros((), device=self.args.device)
        with noise.on(word_embeddings(cast(nn.Module, self.model))):
            for number, weight in enumerate(weights, start=1):
                dropout.rewind()
                noise.begin(wanted=number < len(weights))
                if weight:
                    total = total + self._weighted_step(model, inputs, num_items_in_batch, weight)
                    gradients = [delta.grad for delta in noise.deltas]
                else:
                    gradients = self._direction(model, inputs, num_items_in_batch, noise)
                if number < len(weights):
                    noise.climb(gradients)
        return total

    def compute_loss(self, model: nn.Module, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """The trainer's loss, times the weight of the pass."""
        loss: Any = super().compute_loss(model, inputs, *arguments, **options)
        return loss if self._weight == 1.0 else loss * self._weight

    def _weighted_step(self, model: nn.Module, inputs: Any, items: Any, weight: float) -> Tensor:
        self._weight = weight
        try:
            return super().training_step(model, copy.copy(inputs), items)
        finally:
            self._weight = 1.0

    def _direction(
        self, model: nn.Module, inputs: Any, items: Any, noise: Perturbation
    ) -> list[Tensor | None]:
        """The gradients with respect to the perturbation alone; the weights get none."""
        model.train()
        prepared = self._prepare_inputs(copy.copy(inputs))
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, prepared, num_items_in_batch=items)
        return list(torch.autograd.grad(loss, noise.deltas, allow_unused=True))


class _Dropout:
    """The state of the random numbers that dropout draws, at the beginning of a step."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def seed(self) -> int:
        """A number that depends on this state alone: a resumed run draws the same."""
        seed = int(torch.randint(2**31, ()))
        self.rewind()
        return seed

    def rewind(self) -> None:
        """Go back to the beginning of the step."""
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


def _lengths(rows: Tensor) -> Tensor:
    """L2 norms (texts, 1, 1) over all tokens and the width of a text."""
    return cast(Tensor, torch.linalg.vector_norm(rows, dim=(1, 2), keepdim=True))


def _unit(gradient: Tensor) -> Tensor:
    """The gradient of each text at length 1; a text without one stays where it is."""
    # Scaled first: the squares of a gradient of 1e-30, which a mean over many texts can have, are 0 in float32.
    largest = gradient.abs().amax(dim=(1, 2), keepdim=True)
    scaled = torch.where(largest > 0, gradient / largest.clamp(min=1e-38), 0.0)
    return scaled / _lengths(scaled).clamp(min=1.0)
