"""Exits: a real training of a tiny BERT, its loss by hand, its resumption, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.towers.train.test_sentiment import texts
from towers import InputError
from towers.labelled import Texts
from towers.train.base import load_classifier
from towers.train.bodies import layer_stack
from towers.train.early_exit.exit_model import ExitClassifier, ExitOutput, exits_after
from towers.train.early_exit.exit_training import exit_loss
from towers.train.early_exit.exits import ExitRecipe, ExitResult, exit_logits, fit_exits
from towers.train.sentiment import classify, split_texts
from towers.train.structures.cut import cut

RECIPE = ExitRecipe(
    steps=40,
    batch_size=16,
    learning_rate=5e-3,
    head_rate=1e-2,
    max_tokens=32,
    save_steps=10,
    freeze_layers=-1,  # random embeddings tell nothing until they learn
)


@pytest.fixture(scope="module")
def sides() -> tuple[Texts, Texts]:
    return split_texts(texts(240), share=0.25, seed=1)


def fit(
    checkpoint: Path, sides: tuple[Texts, Texts], work: Path, recipe: ExitRecipe = RECIPE, **given: Any
) -> ExitResult:
    torch.manual_seed(2)
    model, tokenizer = load_classifier(checkpoint)
    return fit_exits(model, tokenizer, *sides, recipe=recipe, work=work, **given)


def test_exits_train_in_bfloat16(checkpoint: Path, sides: tuple[Texts, Texts], tmp_path: Path) -> None:
    """Multiplying in bfloat16 changes the speed: the losses are float32 as without, and the weights stay so."""
    result = fit(checkpoint, sides, tmp_path, replace(RECIPE, steps=4, bf16=True))
    assert {weight.dtype for weight in result.model.parameters()} == {torch.float32}


def test_every_exit_learns(checkpoint: Path, sides: tuple[Texts, Texts], tmp_path: Path) -> None:
    """All exits learn what is plain; the chosen plan is shallower and loses no more than it may, on dev."""
    result = fit(checkpoint, sides, tmp_path, replace(RECIPE, steps=250))
    assert [exit["layer"] for exit in result.metrics["by_layer"]] == [1, 2]
    assert all(exit["accuracy"] > 0.8 for exit in result.metrics["by_layer"])
    chosen = result.metrics["chosen"]
    best = max(result.metrics["accuracy"], result.metrics["start"]["accuracy"])
    assert chosen["accuracy"] >= best - RECIPE.max_loss - 1e-9
    assert chosen["mean_layers"] < 2
    assert sum(chosen["histogram"].values()) == len(sides[1].texts)
    assert set(result.metrics["rules"]) == {"entropy", "margin", "patience"}
    assert all(rule["curve"][0]["mean_layers"] == 2 for rule in result.metrics["rules"].values())


def test_the_last_exit_is_the_classifier(checkpoint: Path) -> None:
    """With heads added, the classifier itself answers as before."""
    model, tokenizer = load_classifier(checkpoint)
    sample = ["good", "怎么取消订单", "the delivery of my large blue winter coat is late"]
    before = classify(model, tokenizer, sample, max_tokens=32)
    found = exit_logits(ExitClassifier(model, (1, 2)), tokenizer, sample, max_tokens=32)
    assert found.shape == (2, 3, 3)
    np.testing.assert_allclose(found[-1], before, atol=1e-5)


def test_a_cut_classifier_gets_exits(checkpoint: Path, sides: tuple[Texts, Texts], tmp_path: Path) -> None:
    """Layers are counted in what is left of the model."""
    model, tokenizer = load_classifier(checkpoint)
    cut(model, (1,))
    result = fit_exits(model, tokenizer, *sides, recipe=replace(RECIPE, steps=3), work=tmp_path)
    assert result.plan.layers == (1,)
    assert result.metrics["chosen"]["mean_layers"] == 1


def test_finished_exits_are_taken_up(
    checkpoint: Path, sides: tuple[Texts, Texts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same classifier, recipe and texts are not trained twice; another rule or loss only tunes anew."""
    first = fit(checkpoint, sides, tmp_path)
    trained: list[int] = []
    monkeypatch.setattr(
        "towers.train.early_exit.exits.train_exits", lambda *_args, **_options: trained.append(1)
    )
    again = fit(checkpoint, sides, tmp_path, resume=True)
    other = fit(checkpoint, sides, tmp_path, replace(RECIPE, rule="margin", max_loss=0.1), resume=True)
    assert not trained
    assert again.metrics == first.metrics
    assert other.plan.rule == "margin"
    assert other.metrics["by_layer"] == first.metrics["by_layer"]

    fit(checkpoint, sides, tmp_path, replace(RECIPE, distil=0.2), resume=True)
    fit(checkpoint, (sides[0], texts(20)), tmp_path, resume=True)
    fit(checkpoint, sides, tmp_path)
    assert len(trained) == 3


def test_an_interrupted_training_continues(
    checkpoint: Path, sides: tuple[Texts, Texts], tmp_path: Path
) -> None:
    """Interrupted after some steps and resumed, training ends with the weights of an uninterrupted run."""
    from transformers import Trainer, TrainerCallback

    whole = fit(checkpoint, sides, tmp_path / "whole")

    class Interrupt(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            if state.global_step == 25:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

    original = Trainer.__init__

    def with_interrupt(self: object, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        self.add_callback(Interrupt())  # type: ignore[attr-defined]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", with_interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(checkpoint, sides, tmp_path / "parts")
    resumed = fit(checkpoint, sides, tmp_path / "parts", resume=True)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_layers_do_not_move(checkpoint: Path, sides: tuple[Texts, Texts], tmp_path: Path) -> None:
    """Embeddings and frozen layers stay, bit for bit; the rest learns, and everything may learn again afterwards."""
    before, _ = load_classifier(checkpoint)
    after = fit(checkpoint, sides, tmp_path, replace(RECIPE, steps=5, freeze_layers=1)).model.classifier
    for name, parameter in before.bert.named_parameters():
        same = torch.equal(parameter, dict(after.bert.named_parameters())[name])
        assert same == name.startswith(("embeddings.", "encoder.layer.0.")), name
    assert all(parameter.requires_grad for parameter in after.parameters())


def test_loss_by_hand() -> None:
    """Two exits of one layer each: weights 1 and 2 thirds; the first learns half from labels, half from the last."""
    exits = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    labels, recipe = torch.tensor([1]), ExitRecipe(distil=0.5, temperature=2.0)
    given = {"layers": (1, 2), "class_weights": torch.ones(2)}
    found = exit_loss(ExitOutput(exits[-1], exits), labels, recipe=recipe, **given)  # type: ignore[arg-type]

    def softmax(row: list[float]) -> np.ndarray:
        return np.exp(row) / np.exp(row).sum()

    p, q = softmax([0.0, 1.0]), softmax([0.5, 0.0])  # at temperature 2
    divergence = 4 * (p * np.log(p / q)).sum()
    first = 0.5 * -np.log(softmax([1.0, 0.0])[1]) + 0.5 * divergence
    last = -np.log(softmax([0.0, 2.0])[1])
    assert float(found) == pytest.approx((first + 2 * last) / 3, abs=1e-6)

    even = exit_loss(  # type: ignore[arg-type]
        ExitOutput(exits[-1], exits), labels, recipe=replace(recipe, weights="even", distil=0.0), **given
    )
    assert float(even) == pytest.approx((-np.log(softmax([1.0, 0.0])[1]) + last) / 2, abs=1e-6)


def test_the_last_exit_does_not_learn_from_the_others() -> None:
    """It is the teacher: the divergence moves the others towards it, not it towards them."""
    exits = torch.randn(2, 4, 3, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0])
    given = {"layers": (1, 2), "class_weights": torch.ones(3)}
    gradients = []
    for distil in (0.0, 1.0):
        loss = exit_loss(ExitOutput(exits[-1], exits), labels, recipe=ExitRecipe(distil=distil), **given)  # type: ignore[arg-type]
        gradients.append(torch.autograd.grad(loss, exits)[0][-1])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("total", "every", "layers"),
    [(6, 1, (1, 2, 3, 4, 5, 6)), (6, 2, (2, 4, 6)), (5, 2, (1, 3, 5)), (3, 9, (3,))],
)
def test_exits_are_counted_back_from_the_last(total: int, every: int, layers: tuple[int, ...]) -> None:
    assert exits_after(total, every=every) == layers


def test_padding_changes_no_exit(checkpoint: Path) -> None:
    """A text's logits at every exit are the same beside longer ones."""
    torch.manual_seed(3)
    model, tokenizer = load_classifier(checkpoint)
    exiting = ExitClassifier(model, (1, 2))
    sample = ["good", "the delivery of my large blue winter coat is late, when do you ship it?"]
    together = exit_logits(exiting, tokenizer, sample, max_tokens=32)
    alone = exit_logits(exiting, tokenizer, sample[:1], max_tokens=32)
    np.testing.assert_allclose(together[:, :1], alone, atol=1e-5)
    assert len(layer_stack(exiting)) == 2


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"rule": "luck"}, "found rule = 'luck', expected one of entropy, margin, patience"),
        ({"weights": "odd"}, "expected one of depth, even"),
        ({"measure": "auc"}, "expected one of accuracy, macro_recall"),
        ({"every": 0, "steps": 0}, "found every = 0, steps = 0"),
        ({"max_loss": 1.5}, "max_loss = 1.5"),
        ({"head_rate": 0.0}, "expected numbers above 0"),
    ],
)
def test_a_recipe_refuses_nonsense(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExitRecipe(**setting)


def test_texts_are_needed_on_both_sides(checkpoint: Path, sides: tuple[Texts, Texts], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="texts to train on and 0 dev texts"):
        fit(checkpoint, (sides[0], Texts([], np.zeros(0, np.int64))), tmp_path)
