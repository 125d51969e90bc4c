"""Masks are counted over thousands of draws with a fixed seed; bounds are five standard errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.make_tiny import tiny_tokenizer
from towers.errors import InputError
from towers.train.pretraining.entities import EntityFinder
from towers.train.pretraining.marking import CLASSES, Marked, Marker
from towers.train.pretraining.masking import (
    LONGEST,
    NOT_MASKED,
    STRATEGIES,
    MaskRecipe,
    Replacement,
    apply_masks,
    draw_masked,
    draw_strategy,
    parse_masks,
)
from towers.train.pretraining.segment import Segmenter, count_words

TINY = tiny_tokenizer()
RECIPE = MaskRecipe()
# Words that occur often, sometimes and once; words of several pieces; Chinese words; names and numbers.
TEXTS = [
    "please cancel my order of the red jackets with 3 gift cards",
    "the phone charger that you have sent is an RTX-4090 for white walls",
    "手机 订单 取消 了 吗 我 在 中国 的 信用卡 怎么 还款",
    "how long does the delivery take to New York and when do you ship it",
] + ["the order is in the store and the delivery is on the way to you"] * 8

RARE = [
    "jacket",
    "wool",
    "summer",
    "kids",
    "leather",
    "cotton",
    "watch",
    "white",
    "green",
    "coat",
    "dress",
    "hat",
]


def marked(texts: list[str] = TEXTS, *, entities: tuple[str, ...] = ("gift cards", "信用卡")) -> list[Marked]:
    segmenter = Segmenter()
    counts = count_words(texts, segmenter, rare_share=0.3)
    return list(Marker(TINY, segmenter, EntityFinder(segmenter, entities), counts, 64).mark(texts))


ALL = marked()


def draws(
    strategy: str, texts: list[Marked] = ALL, *, times: int = 300, seed: int = 1
) -> list[tuple[Marked, Any]]:
    rng = np.random.default_rng(seed)
    return [(x, draw_masked(x, strategy, recipe=RECIPE, rng=rng)) for _ in range(times) for x in texts]


def share_of_class(drawn: list[tuple[Marked, Any]], *kinds: str) -> tuple[float, float]:
    """Share of the masked tokens that are of these classes, and its standard error."""
    numbers = [CLASSES.index(kind) for kind in kinds]
    hits = np.concatenate([np.isin(x.classes[mask], numbers) for x, mask in drawn])
    return float(hits.mean()), float(hits.std() / np.sqrt(len(hits)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_masks_its_share_in_the_mean(strategy: str) -> None:
    """15% of the tokens that may be masked, however long the units are that go together."""
    off = np.array([mask.sum() - 0.15 * (x.words >= 0).sum() for x, mask in draws(strategy)])
    assert abs(off.mean()) < 5 * off.std() / np.sqrt(len(off))


@given(
    words=st.lists(st.integers(-1, 5), min_size=1, max_size=40).filter(lambda x: max(x) >= 0),
    strategy=st.sampled_from(STRATEGIES),
    seed=st.integers(0, 1000),
)
def test_special_tokens_are_never_masked(words: list[int], strategy: str, seed: int) -> None:
    """Whatever a text looks like, masks are on tokens of words."""
    ids = np.arange(len(words), dtype=np.int32)
    numbers = np.array(sorted(words), np.int32)
    text = Marked(ids, numbers, np.where(numbers == 3, 0, -1).astype(np.int32), ids, ids * 0)
    mask = draw_masked(text, strategy, recipe=RECIPE, rng=np.random.default_rng(seed))
    assert mask.shape == ids.shape
    assert not mask[numbers < 0].any()


def together(drawn: list[tuple[Marked, Any]], numbers: str) -> bool:
    """Whether tokens with one number are masked all or not at all."""
    return all(
        len(set(mask[getattr(x, numbers) == number])) == 1
        for x, mask in drawn
        for number in set(getattr(x, numbers)) - {-1}
    )


def test_words_are_masked_whole_and_entities_too() -> None:
    """All pieces of an English word, all characters of a Chinese one; with entity masks all of an entity."""
    several = [x for x in ALL if len(set(x.words)) < len(x) - 1]
    assert len(several) > 3
    for strategy in ("whole", "rare"):
        assert together(draws(strategy, several), "words")
        assert not together(draws(strategy, several), "entities")
    assert together(draws("entity", several), "entities")
    assert not together(draws("uniform", several), "words")


def test_long_words_are_masked_in_runs() -> None:
    """A web address does not take a whole text with it."""
    (text,) = marked(["x" * 35])
    sizes = {int(mask.sum()) for _, mask in draws("whole", [text], times=2000)}
    assert sizes <= {0, 5, LONGEST, LONGEST + 5}
    assert LONGEST in sizes


def test_rare_masks_are_on_rare_words_more_often() -> None:
    """A text's words that are rare in the corpus are masked at least twice as often as with uniform or whole words."""
    texts = marked(
        [f"the order is in the {word} store and the delivery is on its way to you" for word in RARE]
    )
    rare = share_of_class(draws("rare", texts), "rare")
    for strategy in ("uniform", "whole"):
        other = share_of_class(draws(strategy, texts), "rare")
        assert rare[0] > 2 * other[0]
        assert rare[0] - other[0] > 5 * (rare[1] + other[1])


def test_entity_masks_are_on_entities_more_often() -> None:
    """Names and numbers are masked at least twice as often as with uniform or whole-word masks."""
    entity = share_of_class(draws("entity"), "entity", "number")
    for strategy in ("uniform", "whole"):
        other = share_of_class(draws(strategy), "entity", "number")
        assert entity[0] > 2 * other[0]
        assert entity[0] - other[0] > 5 * (entity[1] + other[1])


@pytest.mark.parametrize("rarity", [0.0, 0.5, 1.0])
def test_words_are_drawn_by_weight(rarity: float) -> None:
    """With room for one word, each is drawn with the chance that its weight has among all: (count + 1) ^ -rarity."""
    counts = np.array([0, 3, 15, 99], np.int32)
    numbers = np.arange(4, dtype=np.int32)
    text = Marked(numbers, numbers, numbers * 0 - 1, counts, numbers * 0)
    recipe = replace(RECIPE, share=0.25, rarity=rarity)
    rng = np.random.default_rng(3)
    times = 4000
    hits = sum(draw_masked(text, "rare", recipe=recipe, rng=rng).astype(int) for _ in range(times))
    weights = (counts + 1.0) ** -rarity
    expected = weights / weights.sum()
    assert np.all(np.abs(hits / times - expected) < 5 * np.sqrt(expected * (1 - expected) / times))


def test_masked_tokens_are_replaced_as_devlin_does() -> None:
    """80% become the mask, 10% a random token that is not special, 10% stay; nothing else changes; labels tell."""
    replacement = Replacement.of(TINY)
    rng = np.random.default_rng(5)
    ids = rng.choice(replacement.regular, 20_000)
    masked = rng.random(len(ids)) < 0.5
    changed, labels = apply_masks(ids, masked, replacement=replacement, recipe=RECIPE, rng=rng)
    np.testing.assert_array_equal(changed[~masked], ids[~masked])
    np.testing.assert_array_equal(labels, np.where(masked, ids, NOT_MASKED))
    after, before = changed[masked], ids[masked]
    shares = [(after == TINY.mask_token_id).mean(), np.isin(after, replacement.regular).mean()]
    again = 0.1 / len(replacement.regular)  # a random token may be the same
    for share, expected in zip([*shares, (after == before).mean()], [0.8, 0.2, 0.1 + again], strict=True):
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / masked.sum())
    assert set(after) - {TINY.mask_token_id} <= set(replacement.regular)
    assert not set(replacement.regular) & set(TINY.all_special_ids)


def test_strategies_are_drawn_by_their_weights() -> None:
    """A mix draws each text's strategy; a weight of 0 is never drawn."""
    recipe = MaskRecipe(uniform=1, rare=3)
    rng = np.random.default_rng(7)
    drawn = [draw_strategy(recipe, rng) for _ in range(4000)]
    assert set(drawn) == {"uniform", "rare"}
    assert abs(drawn.count("rare") / 4000 - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)


def test_masks_of_a_place_do_not_depend_on_others() -> None:
    """The same generator gives the same masks: that is what makes a run resumable."""
    first, second = (draws("entity", seed=11, times=2) for _ in range(2))
    assert all((a[1] == b[1]).all() for a, b in zip(first, second, strict=True))


def test_weights_are_read_from_a_command_line() -> None:
    """Named strategies have their weight, others 0, other settings stay."""
    base = MaskRecipe(entities=("x",), share=0.2)
    assert parse_masks("whole=1, entity=0.5", base) == replace(base, uniform=0.0, whole=1.0, entity=0.5)
    assert parse_masks("uniform=1,whole=0,rare=0,entity=0") == MaskRecipe()


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ("", "expected weights for some of uniform, whole, rare, entity"),
        ("whole", "such as uniform=1,entity=0.5"),
        ("words=1", "found the masks 'words=1'"),
        ("whole=1,whole=2", "each once"),
        ("whole=much", "found the weight 'much' for whole masks"),
        ("whole=-1", "found whole = -1.0, expected a number of at least 0"),
        ("whole=nan", "found whole = nan"),
        ("whole=0", "all of uniform, whole, rare, entity are 0"),
    ],
)
def test_bad_weights_are_refused(masks: str, told: str) -> None:
    """The error names what was found and what is expected."""
    with pytest.raises(InputError, match=told):
        parse_masks(masks)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"share": 0}, "share 0 of masked tokens"),
        ({"share": 1}, "share 1 of masked tokens"),
        ({"mask": 0.95}, "together are more than 1"),
        ({"random": 1.5}, "found random = 1.5, expected 0 to 1"),
        ({"preference": 0}, "preference 0"),
        ({"rarity": float("inf")}, "found rarity = inf"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, Any], told: str) -> None:
    """Shares are shares, weights are numbers."""
    with pytest.raises(InputError, match=told):
        MaskRecipe(**setting)
