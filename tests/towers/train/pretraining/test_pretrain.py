from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.make_tiny import tiny_tokenizer
from tests.towers.train.pretraining.test_mlm import masked_checkpoint
from towers.errors import InputError
from towers.labelled import Texts
from towers.train.base import load_classifier, load_tower
from towers.train.pretraining.entities import EntityFinder
from towers.train.pretraining.marking import MarkedTexts, Marker
from towers.train.pretraining.masking import MaskRecipe
from towers.train.pretraining.mlm import MaskedModel, load_masked
from towers.train.pretraining.mlm_training import batch_order, schedule
from towers.train.pretraining.pretrain import (
    FACTS,
    PretrainRecipe,
    PretrainResult,
    make_probe,
    pretrain,
    split_held_out,
)
from towers.train.pretraining.segment import Segmenter, count_words
from towers.train.sentiment import split_texts

# What follows a colour is settled by it, so that there is something to learn.
COLOURS = {"red": "leather shoes", "blue": "wool jacket", "green": "usb cable", "white": "cotton shirt"}
ADJECTIVES = "small large short long warm soft new old cheap good great late fast hot".split()
TEXTS = [
    f"find {a} {b} and {c} {colour} {thing} for {n % 4} kids"
    for i, (colour, thing) in enumerate(COLOURS.items())
    for n, (a, b, c) in enumerate(
        zip(ADJECTIVES * 4, ADJECTIVES[1 + i :] * 4, ADJECTIVES[5 - i :] * 4, strict=False)
    )
]
QUICK = PretrainRecipe(
    steps=12,
    batch_size=8,
    save_steps=5,
    points=3,
    dev_share=0.2,
    learning_rate=1e-3,
    head_share=0.25,
    masks=MaskRecipe(uniform=1, rare=1, entity=1),
)


def changed(recipe: PretrainRecipe = QUICK, **settings: Any) -> PretrainRecipe:
    return PretrainRecipe(**(asdict(recipe) | settings))


def weights(directory: Path) -> torch.Tensor:
    return torch.cat([x.detach().flatten() for x in load_tower(directory)[0].auto_model.parameters()])


@pytest.fixture(scope="module")
def tower_checkpoint(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as sentence-transformers saves it."""
    directory = tmp_path_factory.mktemp("tower")
    load_tower(checkpoint, max_tokens=32).save(str(directory))
    return directory


@pytest.fixture(scope="module")
def whole(tower_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainResult:
    """An uninterrupted run of the quick recipe."""
    return pretrain(tower_checkpoint, TEXTS, recipe=QUICK, work=tmp_path_factory.mktemp("whole") / "work")


def test_it_learns_to_fill_in_words(tower_checkpoint: Path, tmp_path: Path) -> None:
    """The loss on held-out texts falls in every class that occurs, and is kept as a curve over the steps."""
    recipe = changed(
        steps=100, batch_size=32, save_steps=100, learning_rate=1e-2, masks=MaskRecipe(whole=1, entity=1)
    )
    result = pretrain(tower_checkpoint, TEXTS, recipe=recipe, work=tmp_path)
    assert result.head_steps == 25
    assert result.curve["steps"] == [0, 25, 33, 67, 100]
    assert set(result.curve["loss"]) == {"all", *result.masked}
    assert {"common", "number"} <= set(result.masked)
    assert all(len(values) == 5 for values in result.curve["loss"].values())
    assert result.at(-1)["all"] < result.at(25)["all"] - 0.3
    assert result.at(-1)["common"] < result.at(0)["common"] - 0.5
    weighted = sum(result.masked[name] * result.at(-1)[name] for name in result.masked)
    assert result.at(-1)["all"] == pytest.approx(weighted / sum(result.masked.values()))
    assert PretrainResult.load(result.directory) == result
    assert json.loads((result.directory / FACTS).read_text())["recipe"]["masks"]["whole"] == 1


def test_the_result_is_a_tower_and_a_base_for_classifiers(
    whole: PretrainResult, tower_checkpoint: Path, tmp_path: Path
) -> None:
    """A tower's modules are kept around the new body; a plain checkpoint stays plain, with its pooler and head."""
    made = whole.directory
    tower = load_tower(made)
    assert tower.max_seq_length == 32
    assert tower.encode(["red shoes"]).shape == (1, 16)
    assert not torch.equal(weights(made), weights(tower_checkpoint))
    model, tokenizer = load_classifier(made)
    assert model(**tokenizer(["red shoes"], return_tensors="pt")).logits.shape == (1, 3)

    plain = pretrain(masked_checkpoint(tmp_path / "plain"), TEXTS, recipe=QUICK, work=tmp_path / "work")
    assert plain.head_steps == 0
    again = load_masked(plain.directory)
    assert not again.fresh_head
    assert again.tower is None
    body = load_tower(plain.directory)[0].auto_model
    classifier, _ = load_classifier(plain.directory)
    for name, parameter in body.named_parameters():
        torch.testing.assert_close(classifier.base_model.get_parameter(name), parameter)


@pytest.mark.parametrize("stop_after", [2, 7, 12])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    whole: PretrainResult,
    tower_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    """Stopped before the first checkpoint, between two or after the last, it goes on to the same weights and curve."""
    steps = 0
    step = torch.optim.AdamW.step

    def stop(*arguments: Any, **named: Any) -> Any:
        nonlocal steps
        if steps == stop_after:
            raise KeyboardInterrupt
        steps += 1
        return step(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        patch.setattr(MaskedModel, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tower_checkpoint, TEXTS, recipe=QUICK, work=tmp_path / "cut")
    assert steps == stop_after
    assert not (tmp_path / "cut" / "pretrained").exists()
    resumed = pretrain(tower_checkpoint, TEXTS, recipe=QUICK, work=tmp_path / "cut", resume=True)
    torch.testing.assert_close(weights(resumed.directory), weights(whole.directory), atol=1e-6, rtol=1e-5)
    assert resumed.curve["steps"] == whole.curve["steps"]
    for name, values in whole.curve["loss"].items():
        assert resumed.curve["loss"][name] == pytest.approx(values, abs=1e-4)


def test_a_finished_run_is_taken_up_and_another_is_not(whole: PretrainResult, tower_checkpoint: Path) -> None:
    """With --resume the finished checkpoint is the result; other settings or texts are refused."""
    work = whole.directory.parent
    made = (whole.directory / FACTS).stat().st_mtime_ns
    assert pretrain(tower_checkpoint, TEXTS, recipe=QUICK, work=work, resume=True) == whole
    assert (whole.directory / FACTS).stat().st_mtime_ns == made
    with pytest.raises(InputError, match="a run with other settings"):
        pretrain(tower_checkpoint, TEXTS, recipe=changed(steps=13), work=work, resume=True)
    with pytest.raises(InputError, match="a run with other data"):
        pretrain(tower_checkpoint, TEXTS[1:], recipe=QUICK, work=work, resume=True)


def test_without_resume_all_is_new(tower_checkpoint: Path, tmp_path: Path) -> None:
    """An earlier run in the same folder makes way."""
    first = pretrain(tower_checkpoint, TEXTS, recipe=changed(steps=1), work=tmp_path)
    other = pretrain(tower_checkpoint, TEXTS, recipe=changed(steps=1, seed=14), work=tmp_path)
    assert other.curve != first.curve


def test_the_head_learns_alone_at_first(tower_checkpoint: Path, tmp_path: Path) -> None:
    """While a new head learns, not one weight of the body moves."""
    result = pretrain(tower_checkpoint, TEXTS, recipe=changed(head_share=1.0), work=tmp_path)
    assert torch.equal(weights(result.directory), weights(tower_checkpoint))
    assert result.at(-1)["all"] < result.at(0)["all"]


def test_bf16_trains_close_to_float32(whole: PretrainResult, tower_checkpoint: Path, tmp_path: Path) -> None:
    """Rounding products to bfloat16 changes the loss by little, and weights stay float32."""
    result = pretrain(tower_checkpoint, TEXTS, recipe=changed(bf16=True), work=tmp_path)
    assert weights(result.directory).dtype == torch.float32
    assert result.at(-1)["all"] == pytest.approx(whole.at(-1)["all"], abs=0.05)
    assert result.at(-1) != whole.at(-1)


def marked_texts(recipe: MaskRecipe) -> MarkedTexts:
    segmenter = Segmenter()
    counts = count_words(TEXTS, segmenter, rare_share=recipe.rare_share)
    return Marker(tiny_tokenizer(), segmenter, EntityFinder(segmenter), counts, 32).mark(TEXTS)


def test_every_recipe_is_measured_on_the_same_masks(tower_checkpoint: Path, tmp_path: Path) -> None:
    """The start of two recipes with other strategies and seeds is one loss, to the last digit but for the new head."""
    model = load_masked(tower_checkpoint).model
    probes = [make_probe(marked_texts(MaskRecipe()), tiny_tokenizer()) for _ in range(2)]
    assert probes[0].losses(model) == probes[1].losses(model)
    plain = masked_checkpoint(tmp_path / "plain")  # has its head, so nothing is drawn at the start
    starts = [
        pretrain(plain, TEXTS, recipe=changed(steps=1, seed=seed, masks=masks), work=tmp_path / str(seed)).at(
            0
        )
        for seed, masks in ((1, MaskRecipe()), (2, MaskRecipe(uniform=0, entity=1)))
    ]
    assert starts[0] == starts[1]


def test_held_out_texts_are_nobody_elses() -> None:
    """Repeats and empty texts are dropped; no text is on both sides; a text stays where it is when others go."""
    texts = [*TEXTS, " ", "", *(text.upper() for text in TEXTS)]
    train, held_out = split_held_out(texts, share=0.3)
    assert sorted(train + held_out) == sorted(set(TEXTS))
    assert 0.1 < len(held_out) / len(TEXTS) < 0.5
    fewer = split_held_out(TEXTS[20:], share=0.3)
    assert set(fewer[0]) <= set(train)
    assert set(fewer[1]) <= set(held_out)


@pytest.mark.parametrize("seed", [12, 13, 14])
def test_texts_that_a_classifier_did_not_hold_out_can_be_held_out_here(seed: int) -> None:
    """Both draw by a text's words; were it the same draw, none of the classifier's training texts would be left."""
    words = Texts([f"word {i}" for i in range(400)], np.zeros(400, np.int64))
    train, _ = split_texts(words, share=0.15, seed=seed)
    _, held_out = split_held_out(train.texts, share=0.1)
    assert 10 < len(held_out) < 80


@pytest.mark.parametrize("texts", [[], ["", " "], ["one text"], ["same", "Same ", "same"]])
def test_too_few_texts_are_refused(texts: list[str], tmp_path: Path) -> None:
    """There must be something to train on and something held out."""
    with pytest.raises(InputError, match="give more texts, or a larger dev_share"):
        pretrain(None, texts, work=tmp_path)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=50),
    steps=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_each_pass_takes_each_text_once(lengths: list[int], steps: int, batch_size: int, seed: int) -> None:
    """All places are filled, and no text comes twice more often than another."""
    order = batch_order(np.array(lengths), steps=steps, batch_size=batch_size, seed=seed)
    assert order.shape == (steps * batch_size,)
    seen = np.bincount(order, minlength=len(lengths))
    assert seen.max() - seen.min() <= 1


def test_batches_hold_texts_of_like_length() -> None:
    """Less padding than in a random order, and batches do not come sorted."""
    lengths = np.random.default_rng(0).integers(5, 60, 640)
    batches = lengths[batch_order(lengths, steps=20, batch_size=32, seed=1)].reshape(20, 32)
    assert np.ptp(batches, axis=1).mean() < 5
    assert (np.diff(batches.mean(axis=1)) < 0).any()
    other = batch_order(lengths, steps=20, batch_size=32, seed=2)
    assert (lengths[other].reshape(20, 32) != batches).any()


def test_rates_rise_and_fall_from_their_start_on() -> None:
    """0 before the start, up over the warm-up, down to 0 at the end."""
    rates = [schedule(step, start=10, steps=110, warmup=0.1) for step in range(111)]
    assert rates[:10] == [0.0] * 10
    assert rates[10:20] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[20:] == pytest.approx([1 - i / 90 for i in range(91)])
    assert [schedule(s, start=0, steps=2, warmup=0.0) for s in range(3)] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"steps": 0}, "found steps = 0, expected a number of at least 1"),
        ({"max_tokens": 4}, "found max_tokens = 4"),
        ({"learning_rate": -1e-5}, "found learning_rate"),
        ({"head_share": 1.5}, "found head_share = 1.5, expected 0 to 1"),
        ({"dev_share": 0.0}, "found dev_share = 0.0"),
        ({"masks": {"words": 1}}, "masks: unknown words"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, Any], told: str) -> None:
    """The error names what was found and what is expected; masks may be a table of TOML."""
    with pytest.raises(InputError, match=told):
        PretrainRecipe(**setting)
    assert PretrainRecipe(masks={"whole": 1, "entities": ["x"]}).masks.entities == ("x",)  # type: ignore[arg-type]


def test_a_folder_without_a_result_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`dualtower pretrain` did not make it"):
        PretrainResult.load(tmp_path)
