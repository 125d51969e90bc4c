"""Cross-encoders: trained on the training side, resumed, saved as plain checkpoints, scoring in 0..1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.towers.train.test_fit import word_pairs
from towers import InputError
from towers.train.cross.cross_encoder import CrossRecipe, cross_scores, fit_cross, load_cross, load_teacher
from towers.train.data import split_pairs

RECIPE = CrossRecipe(steps=4, batch_size=8, learning_rate=1e-3, max_tokens=32, save_steps=2)
SETS = [word_pairs(60), word_pairs(40, "grades", grades=4, seed=2)]
SPLITS = split_pairs(SETS, dev_share=0.2, seed=1)
QUERIES, TITLES = (
    ["red shoes", "warm milk", "手机"],
    ["red shoe", "a lost bank card with a large yellow bag", "订单"],
)


def fitted(checkpoint: Path, work: Path, *, recipe: CrossRecipe = RECIPE, resume: bool = False) -> Any:
    return fit_cross(SETS, SPLITS, recipe=recipe, checkpoint=checkpoint, work=work, resume=resume)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([x.detach().flatten() for x in model.parameters()])


def test_training_moves_towards_the_labels(checkpoint: Path, tmp_path: Path) -> None:
    """After some steps the loss on the training pairs is lower than with the fresh head; scores are probabilities."""
    torch.manual_seed(RECIPE.seed)
    fresh = load_cross(checkpoint, max_tokens=32)
    model = fitted(checkpoint, tmp_path, recipe=CrossRecipe(steps=40, learning_rate=3e-3, max_tokens=32))
    losses = []
    for one in (fresh, model):
        scores = cross_scores(one, SETS[0].queries, SETS[0].titles).astype(np.float64)
        labels = SETS[0].labels
        losses.append(-(labels * np.log(scores) + (1 - labels) * np.log(1 - scores)).mean())
    assert losses[1] < losses[0]
    found = cross_scores(model, QUERIES, TITLES)
    assert found.dtype == np.float32
    assert ((found > 0) & (found < 1)).all()
    assert cross_scores(model, [], []).shape == (0,)


def test_a_finished_model_is_taken_up_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same recipe and pairs nothing is trained again; with others, or without resuming, it is."""
    first = fitted(checkpoint, tmp_path)
    trained: list[int] = []
    monkeypatch.setattr("towers.train.cross.cross_encoder._train", lambda *_: trained.append(1))
    again = fitted(checkpoint, tmp_path, resume=True)
    assert not trained
    np.testing.assert_allclose(
        cross_scores(again, QUERIES, TITLES), cross_scores(first, QUERIES, TITLES), atol=1e-6
    )
    other = CrossRecipe(steps=5, batch_size=8, max_tokens=32)
    fitted(checkpoint, tmp_path, recipe=other, resume=True)
    fitted(checkpoint, tmp_path)
    assert len(trained) == 2


def test_an_interrupted_run_ends_as_an_uninterrupted_one(checkpoint: Path, tmp_path: Path) -> None:
    """Stopped after step 3, training goes on from the checkpoint of step 2 to the same weights."""
    from transformers import Trainer, TrainerCallback

    class Interrupt(TrainerCallback):
        def on_step_end(self, args: object, state: Any, control: object, **kwargs: object) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    whole = fitted(checkpoint, tmp_path / "whole")
    original = Trainer.__init__

    def with_interrupt(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_callback(Interrupt())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", with_interrupt)
        with pytest.raises(KeyboardInterrupt):
            fitted(checkpoint, tmp_path / "cut")
    assert not list((tmp_path / "cut").glob("cross-*/cross.json"))
    resumed = fitted(checkpoint, tmp_path / "cut", resume=True)
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-4, atol=1e-5)


def test_a_teacher_must_have_a_head(checkpoint: Path, tmp_path: Path) -> None:
    """A transformer without one would get a random head, and teach noise."""
    with pytest.raises(InputError, match="is a BertModel, expected a cross-encoder"):
        load_teacher(checkpoint)
    model = fitted(checkpoint, tmp_path)
    (saved,) = tmp_path.glob("cross-*")
    np.testing.assert_allclose(
        cross_scores(load_teacher(saved), QUERIES, TITLES), cross_scores(model, QUERIES, TITLES), atol=1e-6
    )
    with pytest.raises(InputError, match="cannot load a cross-encoder of one score"):
        load_cross(tmp_path / "nothing")


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match=r"cross-encoder: found .* steps -1"):
        CrossRecipe(steps=-1)
