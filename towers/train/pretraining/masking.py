"""Which tokens of a text are masked: drawn uniformly, by whole words, rare words first, or entities first.

| strategy | what is drawn | its chance | source |
|---|---|---|---|
| uniform | single tokens | even | Devlin et al. 2019, 3.1 |
| whole | whole words: WordPiece pieces together, Chinese words by jieba | even | Cui et al. 2021, 3.1 |
| rare | whole words | (occurrences + 1) ^ -rarity | after Mikolov et al. 2013, 2.3 |
| entity | whole entities, numbers, other words | an entity `preference` times a word's | after Sun et al. 2019, 3.2 |

Whatever is drawn, the share of masked tokens is the same in the mean, so that strategies differ in nothing else: what
does not fit into a text's budget any more is taken with the chance that makes the mean exact. A text of five tokens has
room for three quarters of a mask: it goes without one at times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.pretraining.marking import Ints, Marked

STRATEGIES = ("uniform", "whole", "rare", "entity")
NOT_MASKED = -100  # the label that torch's cross-entropy ignores
LONGEST = 10  # tokens masked in one piece, as SpanBERT's longest span (Joshi et al. 2020, 3.1)


@dataclass(frozen=True)
class MaskRecipe:
    """How masks are drawn. Each text draws one strategy by the four weights, anew each time that it is seen.

    Attributes:
        uniform: Weight of masks on single tokens.
        whole: Weight of masks on whole words: harder to fill in, since no piece gives the rest away.
        rare: Weight of masks that prefer words which are rare in the user's texts: their jargon.
        entity: Weight of masks that prefer names and numbers.
        share: Share of the tokens that are masked; 0.15 is that of Devlin et al. 2019.
        mask: Share of the masked tokens that become the mask token, 0.8 in Devlin et al. 2019 ...
        random: ... and that become a random token, 0.1 there; what is left stays as it is.
        rarity: Exponent of a word's count; 0.5 is the square root of word2vec's subsampling, 0 is `whole`.
        preference: How many times as likely an entity is drawn as another word; guess, untested.
        rare_share: The least frequent words that make up this share of the running words are reported as rare;
            guess, untested. It does not change what is masked.
        entities: The user's own entities, added to those found by rule.
    """

    uniform: float = 1.0
    whole: float = 0.0
    rare: float = 0.0
    entity: float = 0.0
    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    rarity: float = 0.5
    preference: float = 10.0
    rare_share: float = 0.2
    entities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse weights and shares that are none."""
        object.__setattr__(self, "entities", tuple(self.entities))
        for name in (*STRATEGIES, "rarity", "preference"):
            between(name, getattr(self, name), 0, math.inf)
        for name in ("mask", "random", "rare_share"):
            between(name, getattr(self, name), 0, 1)
        if not sum(self.weights()) > 0:
            raise InputError(
                f"all of {', '.join(STRATEGIES)} are 0: give one of them a weight, such as whole=1."
            )
        if not 0 < self.share < 1:
            raise InputError(
                f"found the share {self.share:g} of masked tokens, expected more than 0, less than 1."
            )
        if self.mask + self.random > 1:
            raise InputError(f"mask {self.mask:g} and random {self.random:g} together are more than 1.")
        if self.preference == 0:
            raise InputError("found the preference 0, expected more: 1 treats entities as other words.")

    def weights(self) -> tuple[float, ...]:
        """The weights of the strategies, in the order of `STRATEGIES`."""
        return tuple(float(getattr(self, name)) for name in STRATEGIES)


def parse_masks(text: str, recipe: MaskRecipe | None = None) -> MaskRecipe:
    """Read weights as the command line takes them: "whole=1,entity=0.5"; strategies that are not named weigh 0.

    Args:
        text: The weights.
        recipe: Where all other settings come from; None for the defaults.

    Raises:
        InputError: An unknown strategy, one named twice, or a weight that is none.
    """
    weights = dict.fromkeys(STRATEGIES, 0.0)
    seen: set[str] = set()
    for part in text.split(","):
        name, equals, value = (x.strip() for x in part.partition("="))
        if name not in STRATEGIES or name in seen or not equals:
            raise InputError(
                f"found the masks '{text}', expected weights for some of {', '.join(STRATEGIES)}, each once, "
                "such as uniform=1,entity=0.5"
            )
        seen.add(name)
        try:
            weights[name] = float(value)
        except ValueError as exc:
            raise InputError(f"found the weight '{value}' for {name} masks, expected a number.") from exc
    return replace(recipe or MaskRecipe(), **weights)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Replacement:
    """What masked tokens become.

    Attributes:
        mask_id: The mask token.
        regular: Ids that a random token is drawn from: all but special ones, (v,).
    """

    mask_id: int
    regular: Ints

    @classmethod
    def of(cls, tokenizer: Any) -> Replacement:
        """For a transformers tokenizer with a mask token."""
        every = np.arange(len(tokenizer), dtype=np.int32)
        return cls(tokenizer.mask_token_id, every[~np.isin(every, tokenizer.all_special_ids)])


def draw_strategy(recipe: MaskRecipe, rng: np.random.Generator) -> str:
    """Draw a strategy by the recipe's weights."""
    weights = np.array(recipe.weights())
    return STRATEGIES[rng.choice(len(STRATEGIES), p=weights / weights.sum())]


def draw_masked(
    text: Marked, strategy: str, *, recipe: MaskRecipe, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw which tokens of a text are masked.

    Units come in a random order in which each next one is drawn by weight from those left (Efraimidis and Spirakis
    2006: exponential waiting times), until the budget is spent.

    Returns:
        A mask (n,), true on `share` of the tokens in the mean, never on special ones.
    """
    units = _units(text, strategy)
    sizes = np.bincount(units[units >= 0])
    waits = rng.exponential(size=len(sizes)) / _weights(text, units, strategy, recipe)
    budget = recipe.share * sizes.sum()
    chosen: list[int] = []
    for unit in np.argsort(waits):
        if sizes[unit] > budget and rng.random() * sizes[unit] >= budget:
            break
        chosen.append(int(unit))
        budget -= sizes[unit]
        if budget <= 0:
            break
    return np.isin(units, chosen)


def apply_masks(
    ids: Ints,
    masked: NDArray[np.bool_],
    *,
    replacement: Replacement,
    recipe: MaskRecipe,
    rng: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Return (ids with masks, labels), both (n,): labels are the masked tokens' own ids, else `NOT_MASKED`."""
    labels = np.where(masked, ids, NOT_MASKED).astype(np.int32)
    fate = rng.random(len(ids))
    drawn = replacement.regular[rng.integers(len(replacement.regular), size=len(ids))]
    changed = np.where(masked & (fate < recipe.mask), replacement.mask_id, ids)
    becomes_random = masked & (fate >= recipe.mask) & (fate < recipe.mask + recipe.random)
    return np.where(becomes_random, drawn, changed).astype(np.int32), labels


def _units(text: Marked, strategy: str) -> Ints:
    """Number, from 0, what is masked in one piece, (n,); -1: never masked."""
    maskable = text.words >= 0
    if strategy == "uniform":
        key = np.arange(len(text))
    else:
        key = text.words.astype(np.int64)
        if strategy == "entity":
            key = np.where(text.entities >= 0, text.words.max() + 1 + text.entities, key)
        key = key * len(text) + _place_in_run(key) // LONGEST
    units = np.full(len(text), -1, np.int32)
    units[maskable] = np.unique(key[maskable], return_inverse=True)[1]
    return units


def _place_in_run(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal values stand directly before each, (n,)."""
    places = np.arange(len(key))
    starts = np.where(np.append(True, key[1:] != key[:-1]), places, 0)
    return np.asarray(places - np.maximum.accumulate(starts), np.int64)


def _weights(text: Marked, units: Ints, strategy: str, recipe: MaskRecipe) -> NDArray[np.float64]:
    """Weight of each unit, that of its first token."""
    _, first = np.unique(units[units >= 0], return_index=True)
    if strategy == "rare":
        return np.asarray((text.counts[units >= 0][first] + 1.0) ** -recipe.rarity, np.float64)
    if strategy == "entity":
        return np.where(text.entities[units >= 0][first] >= 0, recipe.preference, 1.0)
    return np.ones(len(first))


def between(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside of its bounds.

    Raises:
        InputError: Names the setting, the value and the bounds.
    """
    if not (low <= value <= high and math.isfinite(value)):
        expected = f"{low:g} to {high:g}" if math.isfinite(high) else f"a number of at least {low:g}"
        raise InputError(f"found {name} = {value}, expected {expected}.")


def as_mask_recipe(value: MaskRecipe | Mapping[str, Any]) -> MaskRecipe:
    """A recipe as it is, or made from a table of a TOML file."""
    from towers.train.sources import checked

    return value if isinstance(value, MaskRecipe) else checked(MaskRecipe, value, where="masks")
