"""The sentiment head: a real fine-tuning of a tiny BERT, its split, its frozen layers and its resumption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from towers import InputError
from towers.labelled import Texts
from towers.train.base import load_classifier
from towers.train.bodies import layer_stack
from towers.train.sentiment import (
    SentimentRecipe,
    fit_sentiment,
    fit_temperature,
    freeze_lowest,
    logistic_regression,
    softmax,
    split_texts,
)

WORDS = {
    -1: ["terrible", "bad", "late", "lost"],
    0: ["order", "card", "date", "订单"],
    1: ["love", "great", "good", "好"],
}


def texts(count: int) -> Texts:
    """Texts whose sentiment is plain from one word, in Chinese and English."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(count):
        label = int(rng.integers(-1, 2))
        rows.append((f"the {rng.choice(WORDS[label])} {rng.choice(['coat', 'shoes', '手机'])} {i}", label))
    return Texts([text for text, _ in rows], np.array([label for _, label in rows]))


def test_learns_what_is_plain(checkpoint: Path, tmp_path: Path) -> None:
    """Even a tiny BERT with random weights learns to tell good from bad, in both scripts, and beats the baseline."""
    recipe = SentimentRecipe(epochs=15, learning_rate=1e-2, batch_size=16, dev_share=0.2, max_tokens=32)
    data = texts(600)
    result = fit_sentiment(data, checkpoint=checkpoint, recipe=recipe, work=tmp_path)
    assert result.metrics["macro_recall"] > 0.9
    noise = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    train, dev = split_texts(data, share=0.2, seed=recipe.seed)
    baseline = logistic_regression(train, dev, lambda rows: noise[: len(rows)])
    assert result.metrics["macro_recall"] > baseline["macro_recall"]
    assert 0.25 <= result.temperature <= 4.0


def test_goes_on_where_it_was(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished head is taken from the working folder; with other texts or settings it is trained again."""
    recipe = SentimentRecipe(epochs=1, dev_share=0.2, max_tokens=32)
    first = fit_sentiment(texts(60), checkpoint=checkpoint, recipe=recipe, work=tmp_path)
    trained: list[int] = []
    monkeypatch.setattr("towers.train.sentiment._run_trainer", lambda *_args, **_options: trained.append(1))

    again = fit_sentiment(texts(60), checkpoint=checkpoint, recipe=recipe, work=tmp_path, resume=True)
    assert not trained
    assert again.metrics == first.metrics
    for one, other in zip(first.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)

    fit_sentiment(texts(61), checkpoint=checkpoint, recipe=recipe, work=tmp_path, resume=True)
    assert trained


def test_an_interrupted_training_continues_from_its_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    """Interrupted after some steps and resumed, training ends with the weights of an uninterrupted run."""
    from transformers import Trainer, TrainerCallback

    recipe = SentimentRecipe(epochs=2, dev_share=0.2, batch_size=8, max_tokens=32, save_steps=5)
    whole = fit_sentiment(texts(80), checkpoint=checkpoint, recipe=recipe, work=tmp_path / "whole")

    class Interrupt(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            if state.global_step == 7:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

    original = Trainer.__init__

    def with_interrupt(self: object, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        self.add_callback(Interrupt())  # type: ignore[attr-defined]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", with_interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit_sentiment(texts(80), checkpoint=checkpoint, recipe=recipe, work=tmp_path / "parts")
    resumed = fit_sentiment(
        texts(80), checkpoint=checkpoint, recipe=recipe, work=tmp_path / "parts", resume=True
    )
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_layers_do_not_move(checkpoint: Path, tmp_path: Path) -> None:
    """What is frozen stays the checkpoint's, bit for bit; what is not moves."""
    before, _ = load_classifier(checkpoint)
    recipe = SentimentRecipe(epochs=1, freeze_layers=1, dev_share=0.2, learning_rate=1e-2, max_tokens=32)
    after = fit_sentiment(texts(60), checkpoint=checkpoint, recipe=recipe, work=tmp_path).model
    for name, parameter in before.bert.named_parameters():
        same = torch.equal(parameter, dict(after.bert.named_parameters())[name])
        assert same == name.startswith(("embeddings.", "encoder.layer.0.")), name


def test_freezing_more_layers_than_there_are_is_refused(checkpoint: Path) -> None:
    model, _ = load_classifier(checkpoint)
    assert len(layer_stack(model)) == 2
    with pytest.raises(InputError, match="freeze_layers is 3, but the checkpoint has 2 layers"):
        freeze_lowest(model, 3)


@given(
    st.lists(st.tuples(st.text("ab 好", max_size=4), st.sampled_from([-1, 0, 1])), min_size=1, max_size=40)
)
def test_split_never_leaks(rows: list[tuple[str, int]]) -> None:
    """No text is on both sides, in any writing, and a text's side does not depend on the others."""
    data = Texts([text for text, _ in rows], np.array([label for _, label in rows]))
    train, dev = split_texts(data, share=0.3, seed=1)
    sides = [{" ".join(text.lower().split()) for text in side.texts} for side in (train, dev)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == len(train.texts) + len(dev.texts)

    fewer = Texts(data.texts[::2], data.labels[::2])
    _, dev_of_fewer = split_texts(fewer, share=0.3, seed=1)
    assert {" ".join(text.lower().split()) for text in dev_of_fewer.texts} <= sides[1]


def test_temperature_cools_what_is_too_sure() -> None:
    """Logits three times too large get a temperature of about three."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)).astype(np.float32)
    labels = np.array([rng.choice(3, p=softmax(row)) for row in logits]) - 1
    assert fit_temperature(3 * logits, labels) == pytest.approx(3.0, rel=0.15)


def test_one_class_is_not_enough(checkpoint: Path, tmp_path: Path) -> None:
    data = Texts(["good", "great", "love it"] * 20, np.ones(60, np.int64))
    with pytest.raises(InputError, match=r"with labels \[1\] to train on"):
        fit_sentiment(data, checkpoint=checkpoint, work=tmp_path)
