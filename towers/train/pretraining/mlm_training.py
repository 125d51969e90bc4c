"""Training a masked-LM head and body with transformers' Trainer: order, masks, rates, stages, interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from towers.train.pretraining.marking import Ints, MarkedTexts
from towers.train.pretraining.masking import Replacement, apply_masks, draw_masked, draw_strategy
from towers.train.pretraining.mlm import MaskedModel, Probe, masked_loss, padded, quiet
from towers.train.trainer import common_arguments, newest_checkpoint

if TYPE_CHECKING:
    from towers.train.pretraining.pretrain import PretrainRecipe

_POOL = 50  # batches among which texts are put beside others of like length
_LOGGED = "held_out_"  # before a class's name in the Trainer's log


def train_masked(
    loaded: MaskedModel,
    marked: MarkedTexts,
    probe: Probe,
    *,
    recipe: PretrainRecipe,
    checkpoints: Path,
    resume: bool,
) -> dict[str, Any]:
    """Train a model, and return its curve on held-out texts.

    Args:
        loaded: The model; it is changed.
        marked: Texts to train on.
        probe: What the curve is measured on.
        recipe: Settings.
        checkpoints: Folder of the Trainer's checkpoints.
        resume: Go on from the newest of them, if there is one.

    Returns:
        {"steps": [...], "loss": {class: [...]}}.
    """
    from transformers import ProgressCallback, TrainingArguments

    order = batch_order(marked.lengths, steps=recipe.steps, batch_size=recipe.batch_size, seed=recipe.seed)
    last = newest_checkpoint(checkpoints) if resume else None
    arguments = TrainingArguments(
        **common_arguments(recipe, checkpoints),
        per_device_train_batch_size=recipe.batch_size,
        train_sampling_strategy="sequential",  # batch_order has settled it
        eval_on_start=last is None,
        remove_unused_columns=False,
    )
    trainer = _trainer_class(probe)(
        model=loaded.model,
        args=arguments,
        train_dataset=MaskedTexts(marked, order, loaded.tokenizer, recipe),
        data_collator=lambda rows: padded(rows, loaded.tokenizer.pad_token_id),
        optimizers=_optimizer(loaded, recipe),
        callbacks=[_stages(loaded, recipe)],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_bar())
    with quiet():
        trainer.train(resume_from_checkpoint=last)
    return _curve(trainer.state.log_history)


def head_steps(loaded: MaskedModel, recipe: PretrainRecipe) -> int:
    """Steps in which the head learns alone."""
    return round(recipe.head_share * recipe.steps) if loaded.fresh_head else 0


def batch_order(lengths: NDArray[np.int64], *, steps: int, batch_size: int, seed: int) -> NDArray[np.int64]:
    """Return which text each place of each batch holds, (steps * batch_size,).

    Every pass takes each text once. Among the texts of 50 batches those of like length get together, which saves most
    of the padding; the batches' order is random. All is settled beforehand: an interrupted run goes on with it.

    Args:
        lengths: Tokens of the texts, (n,).
        steps: Batches.
        batch_size: Texts in a batch.
        seed: Of the order.
    """
    rng = np.random.default_rng([seed, 1])
    total = steps * batch_size
    passes = -(-total // len(lengths))
    order = np.concatenate([rng.permutation(len(lengths)) for _ in range(passes)])[:total]
    batches: list[NDArray[np.int64]] = []
    for start in range(0, total, _POOL * batch_size):
        pool = order[start : start + _POOL * batch_size]
        alike = pool[np.argsort(lengths[pool], kind="stable")].reshape(-1, batch_size)
        batches.extend(alike[rng.permutation(len(alike))])
    return np.concatenate(batches)


class MaskedTexts(torch.utils.data.Dataset[dict[str, Ints]]):
    """The texts in the order of training, each with masks of its own place in it.

    Masks depend on the seed and the place alone, not on what was drawn before.
    """

    def __init__(
        self, marked: MarkedTexts, order: NDArray[np.int64], tokenizer: Any, recipe: PretrainRecipe
    ) -> None:
        self._marked = marked
        self._order = order
        self._recipe = recipe
        self._replacement = Replacement.of(tokenizer)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> dict[str, Ints]:
        text = self._marked[self._order[place]]
        rng = np.random.default_rng([self._recipe.seed, 2, place])
        masks = self._recipe.masks
        masked = draw_masked(text, draw_strategy(masks, rng), recipe=masks, rng=rng)
        ids, labels = apply_masks(text.ids, masked, replacement=self._replacement, recipe=masks, rng=rng)
        return {"input_ids": ids, "labels": labels}


def schedule(step: int, *, start: int, steps: int, warmup: float) -> float:
    """Return the factor of a rate that is 0 before `start`, rises for a share of the rest and then falls to 0."""
    if step < start:
        return 0.0
    rising = warmup * (steps - start)
    return max(
        0.0,
        min(1.0, (step - start + 1) / max(1.0, rising), (steps - step) / max(1.0, steps - start - rising)),
    )


def _optimizer(loaded: MaskedModel, recipe: PretrainRecipe) -> tuple[Any, Any]:
    """AdamW with a rate of its own for a new head, and the schedule of both rates."""
    head = loaded.head
    known = {id(x) for x in head}
    body = [x for x in loaded.model.parameters() if id(x) not in known]
    head_rate = recipe.head_learning_rate if loaded.fresh_head else recipe.learning_rate
    groups, factors = [], []
    for parameters, rate, start in (
        (head, head_rate, 0),
        (body, recipe.learning_rate, head_steps(loaded, recipe)),
    ):
        for matrices, decay in ((True, recipe.weight_decay), (False, 0.0)):
            chosen = [x for x in parameters if (x.ndim > 1) is matrices]
            groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
            factors.append(_factor(start, recipe))
    optimizer = torch.optim.AdamW(groups)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factors)


def _factor(start: int, recipe: PretrainRecipe) -> Callable[[int], float]:
    return lambda step: schedule(step, start=start, steps=recipe.steps, warmup=recipe.warmup)


def _trainer_class(probe: Probe) -> Any:
    from transformers import Trainer

    class MaskedTrainer(Trainer):
        """Predicts at masked places only; evaluates on the probe. Both end in the log, and so in checkpoints."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss = masked_loss(model, inputs)
            return (loss, None) if return_outputs else loss

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            losses = {_LOGGED + name: value for name, value in probe.losses(self.model).items()}
            self.log(dict(losses))
            return losses

    return MaskedTrainer


def _stages(loaded: MaskedModel, recipe: PretrainRecipe) -> Any:
    from transformers import TrainerCallback

    alone = head_steps(loaded, recipe)
    head = {id(x) for x in loaded.head}
    body = [x for x in loaded.model.parameters() if id(x) not in head]
    measured = {alone, recipe.steps} | {round(i * recipe.steps / recipe.points) for i in range(recipe.points)}

    class Stages(TrainerCallback):
        """Freezes the body while the head learns alone; says when to measure."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for parameter in body:
                parameter.requires_grad_(state.global_step >= alone)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_evaluate = state.global_step in measured

    return Stages()


def _bar() -> Any:
    from transformers import ProgressCallback

    class Bar(ProgressCallback):
        """A bar on stderr; transformers' own prints what it logs where a command's result belongs."""

        def on_log(self, *_: Any, **__: Any) -> None:
            pass

    return Bar()


def _curve(log: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The measurements in a Trainer's log; of a step that was measured again after an interruption, the last."""
    by_step = {entry["step"]: entry for entry in log if f"{_LOGGED}all" in entry}
    names = [key for key in next(iter(by_step.values())) if key.startswith(_LOGGED)]
    loss = {key.removeprefix(_LOGGED): [entry[key] for entry in by_step.values()] for key in names}
    return {"steps": list(by_step), "loss": loss}
