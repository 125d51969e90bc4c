"""Adversarial steps: how far embeddings move, that they come back, and that gradients add up as they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from towers import InputError
from towers.train.adversarial import (
    METHODS,
    AdversarialRecipe,
    Perturbation,
    adversarial_trainer,
    word_embeddings,
)
from towers.train.base import load_classifier, load_tower
from towers.train.bodies import body_of

TEXTS = [
    "a good red coat",
    "the parcel is late",
    "cheap wireless headphones for men",
    "订单 取消",
    "hot tea",
    "bad",
]
LABELS = [2, 0, 1, 0, 2, 1]


def classifier_trainer(
    checkpoint: Path,
    out: Path,
    recipe: AdversarialRecipe | None,
    *,
    dropout: float = 0.0,
    count: int = 6,
    **options: Any,
) -> Any:
    """A trainer of the tiny BERT on `count` texts, in their order, whose loss is the mean over texts."""
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    torch.manual_seed(5)
    model, tokenizer = load_classifier(checkpoint)
    set_dropout(model, dropout)
    encoded = tokenizer(TEXTS[:count])
    rows = Dataset.from_dict(
        {name: encoded[name] for name in ("input_ids", "attention_mask")} | {"labels": LABELS[:count]}
    )
    return adversarial_trainer(Trainer, recipe)(
        model=model,
        args=TrainingArguments(**arguments(out, **options)),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=mean_loss,
    )


def tower_trainer(checkpoint: Path, out: Path, recipe: AdversarialRecipe | None, **options: Any) -> Any:
    """A trainer of the tiny tower on three pairs; its loss is a mean over pairs."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    tower = load_tower(checkpoint, max_tokens=32)
    set_dropout(tower, 0.0)
    rows = Dataset.from_dict({"query": TEXTS[:4], "title": TEXTS[2:], "label": [1.0, 0.0, 0.5, 0.2]})
    return adversarial_trainer(SentenceTransformerTrainer, recipe)(
        model=tower,
        args=SentenceTransformerTrainingArguments(**arguments(out, **options)),
        train_dataset=rows,
        loss=CosineSimilarityLoss(tower),
    )


def arguments(out: Path, **options: Any) -> dict[str, Any]:
    fixed = {
        "output_dir": str(out),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }
    return fixed | options


def mean_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any) -> Tensor:
    return nn.functional.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


def set_dropout(model: nn.Module, share: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
    for module in model.modules():
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = share


def seen_embeddings(model: nn.Module) -> list[Tensor]:
    """Collects, pass by pass, what comes out of the embeddings (word, position, type) before they are normalised."""
    seen: list[Tensor] = []
    layer = body_of(model).embeddings.LayerNorm
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    return seen


def gradients(trainer: Any) -> dict[str, Tensor]:
    """The gradients that the optimiser gets in the first step."""
    from transformers import TrainerCallback

    found: dict[str, Tensor] = {}

    class Keep(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            model = kwargs["model"]
            found.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    trainer.args.max_grad_norm = 0.0
    trainer.add_callback(Keep())
    trainer.train()
    return found


MAKERS: list[Callable[..., Any]] = [classifier_trainer, tower_trainer]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_embeddings_move_by_the_set_length_and_come_back(
    checkpoint: Path, tmp_path: Path, method: str, bf16: bool, make: Callable[..., Any]
) -> None:
    """Each text's embeddings move by epsilon (fgm) or at most that; after the step they are what they were."""
    recipe = AdversarialRecipe(method=method, epsilon=0.3, steps=3)
    trainer = make(checkpoint, tmp_path, recipe, bf16=bf16, learning_rate=0.0)
    table = word_embeddings(trainer.model)
    before = table.weight.detach().clone()
    seen = seen_embeddings(trainer.model)
    trainer.train()

    ids = torch.tensor([[2, 70, 71, 3]])
    clean = nn.functional.embedding(ids, before)
    assert torch.equal(table.weight, before)
    assert torch.equal(table(ids), clean)
    assert not table._forward_hooks
    assert len(seen) == len(recipe.weights) * (2 if make is tower_trainer else 1)
    calls = len(seen) // len(recipe.weights)
    lengths = torch.stack([(seen[-calls] - seen[0]).flatten(1).norm(dim=1)]).flatten()
    if method == "fgm":
        torch.testing.assert_close(lengths, torch.full_like(lengths, 0.3), rtol=1e-4, atol=1e-5)
    elif method == "pgd":  # 3 moves of 0.25: it reaches the border
        assert (lengths > 0.25).all()
        assert (lengths < 0.3001).all()
    else:  # from a random start; both ends lie in the ball
        assert (lengths > 0.1).all()
        assert (lengths < 0.6001).all()


def test_a_step_raises_the_loss_that_it_trains_on(checkpoint: Path, tmp_path: Path) -> None:
    """The direction is that of a larger loss: at each text's perturbation the loss is above the plain one."""
    for method in ("fgm", "pgd"):
        losses: list[float] = []
        trainer = classifier_trainer(
            checkpoint, tmp_path, AdversarialRecipe(method=method, epsilon=0.5), learning_rate=0.0
        )
        plain = trainer.compute_loss_func

        def noted(*args: Any, plain: Any = plain, losses: list[float] = losses, **kwargs: Any) -> Tensor:
            loss: Tensor = plain(*args, **kwargs)
            losses.append(float(loss.detach()))
            return loss

        trainer.compute_loss_func = noted
        trainer.train()
        assert len(losses) == len(trainer.recipe.weights)
        assert losses[-1] > losses[0] + 1e-3


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("method", METHODS)
def test_two_small_batches_are_one_large(
    checkpoint: Path, tmp_path: Path, method: str, make: Callable[..., Any]
) -> None:
    """Accumulating over 2 batches of n gives the gradient of one batch of 2n: perturbations are a text's own.

    FreeLB starts at random, and the texts of a batch draw from one stream: it is held against this from the start 0.
    """
    recipe = AdversarialRecipe(method=method, epsilon=0.3, steps=2)
    with pytest.MonkeyPatch.context() as patch:
        if method == "freelb":
            patch.setattr(Perturbation, "_start", lambda _s, _l, _i, output: torch.zeros_like(output))
        parts = gradients(
            make(checkpoint, tmp_path, recipe, per_device_train_batch_size=2, gradient_accumulation_steps=2)
        )
        whole = gradients(make(checkpoint, tmp_path, recipe, per_device_train_batch_size=4))
    assert parts.keys() == whole.keys()
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("method", METHODS)
def test_no_perturbation_is_plain_training(
    checkpoint: Path, tmp_path: Path, method: str, make: Callable[..., Any]
) -> None:
    """With epsilon 0 training ends at the weights of plain training, dropout on: all passes share its masks.

    By plain SGD: Adam would blow up the rounding of gradients that are 0, as those of the keys' biases.
    """
    ends = []
    for recipe in (None, AdversarialRecipe(method=method, epsilon=0.0)):
        options = {"dropout": 0.2} if make is classifier_trainer else {}
        trainer = make(checkpoint, tmp_path, recipe, max_steps=3, optim="sgd", **options)
        trainer.train()
        ends.append(dict(trainer.model.named_parameters()))
    for name, parameter in ends[0].items():
        torch.testing.assert_close(parameter, ends[1][name], rtol=1e-4, atol=2e-5)


def test_fgm_by_hand(checkpoint: Path, tmp_path: Path) -> None:
    """The slow twin: move each text's word embeddings by hand along its own gradient, one text at a time."""
    trainer = classifier_trainer(
        checkpoint, tmp_path, AdversarialRecipe(epsilon=0.4), per_device_train_batch_size=3, count=3
    )
    model = classifier_trainer(checkpoint, tmp_path, None).model.train()
    _, tokenizer = load_classifier(checkpoint)
    for text, label in zip(TEXTS[:3], LABELS[:3], strict=True):
        target = torch.tensor([label])
        words = word_embeddings(model)(tokenizer(text, return_tensors="pt")["input_ids"])
        plain = nn.functional.cross_entropy(model(inputs_embeds=words).logits, target)
        (direction,) = torch.autograd.grad(plain, words, retain_graph=True)
        moved = words + 0.4 * direction / direction.norm()
        adversarial = nn.functional.cross_entropy(model(inputs_embeds=moved).logits, target)
        ((plain + adversarial) / 2 / 3).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = gradients(trainer)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6)


def test_frozen_embeddings_are_perturbed_and_stay(checkpoint: Path, tmp_path: Path) -> None:
    """What is perturbed is the embeddings' output, so frozen ones work: the texts move, the table does not."""
    trainer = classifier_trainer(checkpoint, tmp_path, AdversarialRecipe(epsilon=0.3))
    table = word_embeddings(trainer.model)
    body_of(trainer.model).embeddings.requires_grad_(False)
    before = table.weight.detach().clone()
    seen = seen_embeddings(trainer.model)
    trainer.train()
    assert torch.equal(table.weight, before)
    lengths = (seen[1] - seen[0]).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.3), rtol=1e-4, atol=1e-5)


def test_hooks_are_gone_after_an_error(checkpoint: Path, tmp_path: Path) -> None:
    """A step that fails leaves no perturbation behind."""
    trainer = classifier_trainer(checkpoint, tmp_path, AdversarialRecipe())

    def broken(*args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError("broken")

    trainer.compute_loss_func = broken
    with pytest.raises(RuntimeError, match="broken"):
        trainer.train()
    assert not word_embeddings(trainer.model)._forward_hooks


def test_padding_is_never_perturbed(checkpoint: Path) -> None:
    """FreeLB's random start leaves padding alone, and its length does not depend on how far a text is padded."""
    layer = word_embeddings(load_classifier(checkpoint)[0])
    short, long = torch.tensor([[2, 70, 3, 0, 0, 0]]), torch.tensor([[2, 70, 3, 71, 72, 3]])
    noise = Perturbation(AdversarialRecipe(method="freelb", epsilon=0.6), seed=3)
    with noise.on(layer):
        layer(torch.cat([short, long]))
    (delta,) = noise.deltas
    assert not delta[0, 3:].any()
    assert delta[0, :3].all()
    assert (delta.flatten(1).norm(dim=1) <= 0.6).all()
    assert delta.abs().max() <= 0.6 / (3 * 16) ** 0.5


@given(
    st.sampled_from(METHODS), st.floats(0, 5), st.integers(1, 4), st.floats(0, 5), st.integers(0, 2**31 - 1)
)
def test_no_move_leaves_the_ball(
    method: str, epsilon: float, steps: int, step_size: float, seed: int
) -> None:
    """Whatever the gradients, a perturbation is never longer than epsilon, and no gradient means no move."""
    generator = torch.Generator().manual_seed(seed)
    noise = Perturbation(AdversarialRecipe(method, epsilon, steps, step_size), seed=seed)
    layer = nn.Embedding(9, 4)
    with noise.on(layer):
        layer(torch.randint(0, 9, (3, 5), generator=generator))
    for scale in (1e-30, 1.0, 1e30):
        still = noise.deltas[0][0].detach().clone()
        gradient = scale * torch.randn((3, 5, 4), generator=generator)
        gradient[0] = 0
        noise.climb([gradient])
        assert (
            noise.deltas[0].flatten(1).norm(dim=1) <= epsilon * (1 + 1e-5) + 1e-12
        ).all()  # squares below 1e-38 are no floats
        torch.testing.assert_close(noise.deltas[0][0].detach(), still)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "vat"}, "found the adversarial method 'vat', expected fgm, pgd, freelb"),
        ({"epsilon": -1.0}, "found epsilon -1"),
        ({"epsilon": float("nan")}, "found epsilon nan"),
        ({"steps": 0}, "found 0 adversarial steps"),
        ({"share": 0.0}, "the share 0"),
    ],
)
def test_recipes_refuse_nonsense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AdversarialRecipe(**settings)
