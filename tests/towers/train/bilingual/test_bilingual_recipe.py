from __future__ import annotations

from typing import Any

import pytest

from towers.errors import InputError
from towers.train.bilingual.recipe import BilingualRecipe
from towers.train.sources import checked


@pytest.mark.parametrize(
    "values",
    [
        {"shares": {"imitate": 1.0}},
        {"shares": {"imitate": 1.0, "contrast": 0.5, "order": 0.5, "guess": 1.0}},
        {"shares": {"imitate": 1.0, "contrast": -0.5, "order": 0.5}},
        {"shares": {"imitate": float("nan"), "contrast": 0.5, "order": 0.5}},
        {"shares": {"imitate": 0, "contrast": 0, "order": 0}},
        {"steps": 0},
        {"batch_texts": 1},
        {"short_dim": 0},
        {"max_tokens": 2},
        {"train_tokens": 2},
        {"words": -1},
        {"english": 0},
        {"chinese": 0},
        {"entries": 0},
        {"save_steps": 0},
        {"learning_rate": 0.0},
        {"warmup": 1.0},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    """The error names the value that was found and what was expected."""
    with pytest.raises(InputError, match=r"bilingual: found .* expected"):
        checked(BilingualRecipe, values, where="[bilingual]")


def test_a_recipe_from_toml_is_the_same_recipe() -> None:
    """Lists become tuples; what is not said is the default."""
    assert checked(BilingualRecipe, {"layers": [0, 2, 5]}, where="[bilingual]") == BilingualRecipe()


def test_a_kind_of_lesson_may_be_left_out() -> None:
    """A share of 0 is no lesson and no error."""
    shares = {"imitate": 1.0, "contrast": 0.0, "order": 0.0}
    assert checked(BilingualRecipe, {"shares": shares}, where="[bilingual]").shares == shares
