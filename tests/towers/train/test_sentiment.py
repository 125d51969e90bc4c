"""The sentiment head: a real fine-tuning of a tiny BERT, its split, its frozen layers and its resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from towers import InputError
from towers.labelled import Texts
from towers.train.adversarial import AdversarialRecipe
from towers.train.base import load_classifier
from towers.train.bodies import layer_stack
from towers.train.finetune import TowerRecipe
from towers.train.sentiment import (
    SentimentRecipe,
    classify,
    fit_sentiment,
    fit_temperature,
    freeze_lowest,
    logistic_regression,
    softmax,
    split_texts,
)
from towers.train.sentiment_training import run_trainer

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
    monkeypatch.setattr("towers.train.sentiment.run_trainer", lambda *_args, **_options: trained.append(1))

    again = fit_sentiment(texts(60), checkpoint=checkpoint, recipe=recipe, work=tmp_path, resume=True)
    assert not trained
    assert again.metrics == first.metrics
    for one, other in zip(first.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)

    fit_sentiment(texts(61), checkpoint=checkpoint, recipe=recipe, work=tmp_path, resume=True)
    assert trained == [1]
    settings = {"checkpoint": checkpoint, "recipe": recipe, "adversarial": AdversarialRecipe()}
    fit_sentiment(texts(61), work=tmp_path, resume=True, **settings)  # type: ignore[arg-type]
    assert trained == [1, 1]


@pytest.mark.parametrize("adversarial", [None, AdversarialRecipe("freelb", steps=2)])
def test_an_interrupted_training_continues_from_its_checkpoint(
    checkpoint: Path, tmp_path: Path, adversarial: AdversarialRecipe | None
) -> None:
    """Interrupted after some steps and resumed, training ends with the weights of an uninterrupted run."""
    from transformers import Trainer, TrainerCallback

    recipe = SentimentRecipe(epochs=2, dev_share=0.2, batch_size=8, max_tokens=32, save_steps=5)
    settings: dict[str, Any] = {"checkpoint": checkpoint, "recipe": recipe, "adversarial": adversarial}
    whole = fit_sentiment(texts(80), work=tmp_path / "whole", **settings)

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
            fit_sentiment(texts(80), work=tmp_path / "parts", **settings)
    resumed = fit_sentiment(texts(80), work=tmp_path / "parts", resume=True, **settings)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("adversarial", [None, AdversarialRecipe("pgd", steps=2)])
def test_a_step_is_the_same_however_it_is_cut(
    checkpoint: Path, tmp_path: Path, adversarial: AdversarialRecipe | None
) -> None:
    """Three batches of 8 accumulated make the step of one batch of 24, though their class weights differ."""
    ends = []
    for size, accumulation in ((8, 3), (24, 1)):
        torch.manual_seed(1)
        model, tokenizer = load_classifier(checkpoint)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        recipe = SentimentRecipe(
            steps=1, batch_size=size, accumulation=accumulation, warmup=0.0, learning_rate=1e-2, max_tokens=32
        )
        folder = tmp_path / str(size)
        run_trainer(
            model, tokenizer, texts(24), recipe=recipe, work=folder, resume=False, adversarial=adversarial
        )
        # Adam's first moment is a tenth of the clipped gradient.
        state = torch.load(folder / "checkpoint-1" / "optimizer.pt")["state"]
        ends.append(torch.cat([entry["exp_avg"].flatten() for entry in state.values()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-6)
    assert ends[0].norm() > 0


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


def test_few_dev_texts_come_from_all_files() -> None:
    """Where more texts are drawn than dev may have, each file keeps its share of them, and none comes or goes twice."""
    data = Texts([f"{file} {i}" for file in "ab" for i in range(1000)], np.zeros(2000, np.int64))
    train, dev = split_texts(data, share=0.5, seed=1, most=100)
    assert len(dev.texts) == 100
    assert 35 <= sum(text.startswith("a") for text in dev.texts) <= 65
    assert sorted(train.texts + dev.texts) == sorted(data.texts)
    _, all_drawn = split_texts(data, share=0.5, seed=1)
    assert set(dev.texts) < set(all_drawn.texts)


def test_temperature_cools_what_is_too_sure() -> None:
    """Logits three times too large get a temperature of about three."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)).astype(np.float32)
    labels = np.array([rng.choice(3, p=softmax(row)) for row in logits]) - 1
    assert fit_temperature(3 * logits, labels) == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("settings", [{"steps": -1}, {"accumulation": 0}, {"epochs": 0}])
def test_recipes_refuse_counts_that_are_none(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected 1 or more of each, epochs above 0"):
        SentimentRecipe(**settings)
    with pytest.raises(InputError, match="expected 1 or more of each, epochs above 0"):
        TowerRecipe(**settings)


def test_one_class_is_not_enough(checkpoint: Path, tmp_path: Path) -> None:
    data = Texts(["good", "great", "love it"] * 20, np.ones(60, np.int64))
    with pytest.raises(InputError, match=r"with labels \[1\] to train on"):
        fit_sentiment(data, checkpoint=checkpoint, work=tmp_path)


def test_bfloat16_is_for_training_alone(checkpoint: Path, tmp_path: Path) -> None:
    """After a training in bfloat16 the classifier computes in float32 again, as one that was loaded does."""
    recipe = SentimentRecipe(steps=3, batch_size=8, max_tokens=32, bf16=True, dev_share=0.2)
    result = fit_sentiment(texts(60), checkpoint=checkpoint, recipe=recipe, work=tmp_path)
    fresh, tokenizer = load_classifier(tmp_path / "head", num_labels=3)
    said = [classify(model, tokenizer, texts(20).texts, max_tokens=32) for model in (result.model, fresh)]
    np.testing.assert_array_equal(*said)
