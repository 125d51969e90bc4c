"""Recipes are checked before any work starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from towers import InputError
from towers.train.sources import DEFAULT_RECIPE, read_recipe, unescape

GOOD = """
base = ""
base_licence = "Apache-2.0"
licence = "Apache-2.0"
[[pairs]]
file = "pairs.tsv"
licence = "Apache-2.0"
origin = "here"
"""


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_the_default_recipe_is_sound() -> None:
    """The shipped recipe reads, and every setting in it is one that the trainers know."""
    from towers.train.bilingual.recipe import BilingualRecipe
    from towers.train.build import fit_settings, sentiment_settings
    from towers.train.exporting.export import Precision
    from towers.train.sources import checked

    default = read_recipe(DEFAULT_RECIPE)
    fit_settings(default.fit)
    sentiment_settings(default.sentiment)
    for kind, values in ((BilingualRecipe, default.bilingual), (Precision, default.precision)):
        checked(kind, values, where="default.toml")
    assert default.pairs
    assert default.texts


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("base = ", "cannot read the recipe"),
        (GOOD + "colour = 1\n", r"unknown colour; expected some of file, licence"),
        ("colour = 1\n" + GOOD, r"recipe\.toml: unknown colour"),
        (
            GOOD.replace('licence = "Apache-2.0"\norigin', "origin"),
            r"missing .*'licence'; expected file, licence",
        ),
        (
            GOOD.replace('tsv"\nlicence = "Apache-2.0"', 'tsv"\nlicence = "academic use"'),
            "may not be trained",
        ),
        (
            GOOD.replace('tsv"\nlicence = "Apache-2.0"', 'tsv"\nlicence = "CC-BY-NC, Non-Commercial"'),
            "Remove it",
        ),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_recipe(recipe(tmp_path, text))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the recipe .*absent\.toml"):
        read_recipe(tmp_path / "absent.toml")


def test_escapes_become_characters() -> None:
    r"""Letters that say \u002c are a comma, pairs of surrogates an emoji, half a pair the replacement character."""
    assert unescape(r"a\u002c b \ud83d\ude0a it\u2019s \"so\" C:\users") == 'a, b 😊 it’s "so" C:\\users'
    assert unescape(r"\ud83d") == "�"
