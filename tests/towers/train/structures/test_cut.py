from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from towers.errors import InputError
from towers.train.bodies import layer_stack
from towers.train.exporting.export import TowerGraph, export_graph, parity, run_graph
from towers.train.sources import checked
from towers.train.structures.cut import CutRecipe, cut


@pytest.mark.parametrize(
    ("recipe", "total", "layers"),
    [
        (CutRecipe(keep=3), 6, (0, 2, 5)),
        (CutRecipe(keep=2), 6, (0, 5)),
        (CutRecipe(), 6, (0, 2, 5)),
        (CutRecipe(), 12, (0, 2, 4, 6, 8, 11)),
        (CutRecipe(keep=4), 12, (0, 3, 7, 11)),
        (CutRecipe(keep=3, how="first"), 6, (0, 1, 2)),
        (CutRecipe(layers=(1, 4)), 6, (1, 4)),
        (CutRecipe(), 1, (0,)),
    ],
)
def test_the_layers_that_stay(recipe: CutRecipe, total: int, layers: tuple[int, ...]) -> None:
    """A spread goes from the first layer to the last; the default is half of them."""
    assert recipe.chosen(total) == layers


@given(st.integers(1, 48).flatmap(lambda total: st.tuples(st.integers(1, total), st.just(total))))
def test_a_spread_has_as_many_layers_as_asked(numbers: tuple[int, int]) -> None:
    """Any number of layers can be kept of any stack, each once, in order, and the gaps differ by at most one."""
    keep, total = numbers
    chosen = CutRecipe(keep=keep).chosen(total)
    assert len(set(chosen)) == keep
    assert list(chosen) == sorted(chosen)
    if keep > 1:
        gaps = np.diff(chosen)
        assert (chosen[0], chosen[-1]) == (0, total - 1)
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    "values",
    [
        {"layers": [2, 0]},
        {"layers": [0, 0]},
        {"layers": [-1, 2]},
        {"layers": [0.5]},
        {"keep": -1},
        {"keep": 2, "layers": [0, 1]},
        {"how": "last"},
        {"where": "title"},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    """Layers out of order, named twice or in two ways, and unknown words are errors that say what was expected."""
    with pytest.raises(InputError, match=r"cut: found .* expected"):
        checked(CutRecipe, values, where="[cut]")


@pytest.mark.parametrize("recipe", [CutRecipe(keep=7), CutRecipe(layers=(0, 6))])
def test_layers_that_the_model_does_not_have_are_refused(recipe: CutRecipe) -> None:
    """More layers than there are, or the seventh of six, is an error and not a shorter model."""
    with pytest.raises(InputError, match="cut: found"):
        recipe.chosen(6)


def test_a_list_from_toml_is_the_same_recipe() -> None:
    assert checked(CutRecipe, {"layers": [0, 2, 5]}, where="[cut]") == CutRecipe(layers=(0, 2, 5))


def test_a_cut_tower_runs_through_the_layers_that_stay(tower: Any) -> None:
    """Removing a layer gives what the remaining ones give when called by hand; the original is untouched."""
    student = copy.deepcopy(tower)
    cut(student, (1,))
    ids, mask = torch.tensor([[2, 9, 30, 3]]), torch.ones((1, 4), dtype=torch.int64)
    body = tower[0].auto_model
    with torch.no_grad():
        hidden = body.encoder.layer[1](body.embeddings(input_ids=ids))
        by_hand = torch.nn.functional.normalize((hidden[0] if isinstance(hidden, tuple) else hidden).mean(1))
        assert torch.allclose(TowerGraph(student).eval()(ids, mask), by_hand, atol=1e-6)
    assert len(layer_stack(tower)) == 2


def test_a_cut_tower_exports(tower: Any) -> None:
    """The graph of a cut tower gives torch's vectors."""
    student = copy.deepcopy(tower)
    cut(student, (0,))
    graph = export_graph(TowerGraph(student), output="vectors", max_tokens=32)
    ids = torch.tensor([[2, 9, 30, 3], [2, 11, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        expected = TowerGraph(student).eval()(ids, mask).numpy()
    assert parity(expected, run_graph(graph, [(ids, mask)]))["greatest_difference"] < 1e-4


def test_a_classifier_is_cut_and_remembers_it(checkpoint: Any, tmp_path: Any) -> None:
    """Saved and loaded, a cut classifier still has the layers that stayed: its configuration counts them."""
    from towers.train.base import load_classifier

    model, tokenizer = load_classifier(checkpoint)
    cut(model, (1,))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = load_classifier(tmp_path)
    ids = torch.tensor([[2, 9, 30, 3]])
    with torch.no_grad():
        assert torch.allclose(again.eval()(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


def test_a_body_without_layers_of_its_own_is_refused(tower: Any) -> None:
    """ALBERT's layers are one and the same: there is nothing to cut."""
    from transformers import AlbertConfig, AlbertModel

    student = copy.deepcopy(tower)
    config = AlbertConfig(
        vocab_size=60, embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2
    )
    student[0].model = AlbertModel(config)
    with pytest.raises(InputError, match="layers of their own"):
        cut(student, (0,))
