from __future__ import annotations

from pathlib import Path

import pytest

from towers.errors import InputError
from towers.train.recipe import RECIPES, TASKS, find_recipes, read_recipes, shipped_recipes

HEAD = 'title = "t"\ntechnique = 1\nsource = "s"\ncost = "c"\navoid = "a"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return path


@pytest.mark.parametrize("recipe", shipped_recipes(), ids=lambda recipe: f"{recipe.task}:{recipe.name}")
def test_every_shipped_recipe_says_where_it_comes_from_and_when_not_to_use_it(recipe: object) -> None:
    """A recipe without its source, its cost and its limits is hearsay."""
    assert min(len(getattr(recipe, name)) for name in ("title", "source", "cost", "avoid")) > 3


@pytest.mark.parametrize("task", TASKS)
def test_the_shipped_recipes_hold_all_ten_techniques(task: str) -> None:
    """Nothing on the list is left out; the cross-encoder is a question of pairs, early exit one of texts."""
    found = {recipe.technique for recipe in shipped_recipes() if recipe.task == task}
    assert found == set(range(11)) - ({4} if task == "match" else {2})


def test_what_a_shipped_recipe_names_exists() -> None:
    """What a row goes on from, learns from or is compared with is a row of the same task."""
    known = {(recipe.task, recipe.name) for recipe in shipped_recipes()}
    for recipe in shipped_recipes():
        for name in (recipe.start, recipe.teacher, recipe.against):
            assert name in ("", "base") or (recipe.task, name) in known, recipe.name


def test_every_recipe_file_is_read() -> None:
    """A file that no recipe comes from would be dead."""
    assert {recipe.name for recipe in shipped_recipes()} == {path.stem for path in RECIPES.glob("*.toml")}


def test_what_differs_between_the_tasks_stands_in_a_table_of_its_own(tmp_path: Path) -> None:
    """[sentiment.tune] and keys of [sentiment] hold for that task alone."""
    path = written(tmp_path, '[cut]\nkeep = 2\n[sentiment]\nstart = "base"\n[sentiment.tune]\nsteps = 3\n')
    match, sentiment = read_recipes(path)
    assert (match.start, set(match.stages)) == ("full", {"cut"})
    assert (sentiment.start, set(sentiment.stages)) == ("base", {"cut", "tune"})
    assert sentiment.stages["tune"].steps == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cutt]\nkeep = 2\n", r"found \[cutt\], expected for match some of"),
        ("[cut]\nlayer = 2\n", "unknown layer; expected some of layers"),
        ("[exits]\nsteps = 3\n", r"found \[exits\], expected for match"),
        ("[narrow]\n[albert]\n", "each make a body of their own"),
        ("[adversarial]\n", r"\[tune\], which is missing"),
        ("[lstm]\n[cut]\nkeep = 1\n", "no layers to cut"),
        ('engine = "jax"\n', "found the engine 'jax', expected one of onnx"),
        ("tasks = []\n", "expected a list of match and sentiment"),
        ("[cut\n", "cannot read the recipe"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Before any training, with the file, what was found and what was expected."""
    with pytest.raises(InputError, match=message):
        read_recipes(written(tmp_path, text))


def test_recipes_are_found_by_name_task_and_file(tmp_path: Path) -> None:
    """A name stands for both tasks, task:name for one, a path for a file; others are listed in the error."""
    assert {recipe.task for recipe in find_recipes(["int8"])} == set(TASKS)
    assert [recipe.task for recipe in find_recipes(["match:int8", "match:int8"])] == ["match"]
    assert [recipe.name for recipe in find_recipes([str(written(tmp_path, ""))])] == ["mine", "mine"]
    assert len(find_recipes([])) == len(shipped_recipes())
    with pytest.raises(InputError, match="found no recipe 'int9', expected one of albert"):
        find_recipes(["int9"])
