from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.golden.make_tiny import WORDS
from towers.errors import InputError
from towers.train.base import load_classifier
from towers.train.bodies import body_of, layer_stack, width_of
from towers.train.distillation.distil import DistilRecipe, distil_tower
from towers.train.distillation.teacher import model_key
from towers.train.exporting.export import SentimentGraph, TowerGraph, export_graph, parity, run_graph
from towers.train.sources import checked
from towers.train.structures.narrow import NarrowRecipe, narrow
from towers.train.structures.narrow_weights import Inputs, Units, choose_units, copy_units, fit_linear

NOUNS = [word for word in WORDS if not word.startswith("##")]
HALF = NarrowRecipe(width=8, layers=1)
IDS, MASK = torch.tensor([[2, 9, 30, 3], [2, 11, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def phrases(count: int, *, seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(NOUNS, rng.integers(1, 7))) for _ in range(count)]


def likeness(student: Any, teacher: Any, texts: list[str]) -> float:
    """Correlation of both towers' vectors about their means, which a tiny random model's vectors are all close to."""
    vectors = [np.asarray(m.encode(texts, show_progress_bar=False)) for m in (student, teacher)]
    return float(np.corrcoef(*((rows - rows.mean(axis=0)).ravel() for rows in vectors))[0, 1])


def test_a_narrow_tower_gives_vectors_of_the_old_width(tower: Any) -> None:
    """Half as wide and half as deep inside, its vectors are as wide as before, and the given tower is untouched."""
    before = model_key(tower)
    student = narrow(tower, HALF)
    assert (width_of(student), len(layer_stack(student))) == (8, 1)
    assert body_of(student).config.num_attention_heads == 1
    assert body_of(student).config.intermediate_size == 16
    assert student.get_embedding_dimension() == 16
    assert student.max_seq_length == tower.max_seq_length
    assert model_key(tower) == before


def test_what_is_there_twice_is_not_missed(tower: Any) -> None:
    """Of a model whose dimensions, heads and inner units each come twice, half is enough to say almost everything."""
    wide = copy.deepcopy(tower)
    _double(body_of(wide))
    student = narrow(wide, NarrowRecipe(width=8, layers=2), texts=phrases(300))
    assert likeness(student, wide, phrases(30, seed=2)) > 0.99


def _double(body: Any) -> None:
    """Make every second unit a copy of the one before it, and the second head one of the first."""
    even, odd = torch.arange(0, 16, 2), torch.arange(1, 16, 2)
    first, second = torch.arange(8), torch.arange(8, 16)
    with torch.no_grad():
        for name, parameter in body.named_parameters():
            if "_embeddings" in name:
                parameter[:, odd] = parameter[:, even]
            elif ".self." in name:
                parameter[second] = parameter[first]
            elif "intermediate" in name:
                parameter[1::2] = parameter[::2]
            else:
                parameter[odd] = parameter[even]


def test_weights_that_are_fitted_start_closer(tower: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitting the weights to real texts beats made-up texts, and the bare weights of the units that stay."""
    unseen, texts, recipe = phrases(60, seed=2), phrases(300), NarrowRecipe(width=8, layers=2)
    fitted = likeness(narrow(tower, recipe, texts=texts), tower, unseen)
    made_up = likeness(narrow(tower, recipe), tower, unseen)
    monkeypatch.setattr("towers.train.structures.narrow.refit", lambda *_: None)
    bare = likeness(narrow(tower, recipe, texts=texts), tower, unseen)
    assert fitted > max(made_up, bare), (fitted, made_up, bare)


def test_a_narrow_tower_learns_from_the_wide_one(tower: Any, tmp_path: Path) -> None:
    """Distillation goes on from the narrow start."""
    student, unseen = narrow(tower, HALF, texts=phrases(200)), phrases(40, seed=2)
    before = likeness(student, tower, unseen)
    recipe = DistilRecipe(steps=80, batch_size=16, learning_rate=2e-3)
    distil_tower(student, tower, phrases(300), recipe=recipe, work=tmp_path)
    assert likeness(student, tower, unseen) > before + 0.02


def test_a_narrow_tower_exports(tower: Any) -> None:
    """The graph, Dense and normalisation inside, gives torch's vectors."""
    student = narrow(tower, HALF)
    graph = export_graph(TowerGraph(student), output="vectors", max_tokens=32)
    with torch.no_grad():
        expected = TowerGraph(student).eval()(IDS, MASK).numpy()
    assert expected.shape == (2, 16)
    assert parity(expected, run_graph(graph, [(IDS, MASK)]))["greatest_difference"] < 1e-4


def test_a_narrow_classifier(checkpoint: Path) -> None:
    """Of the same class, with as many classes, it exports; with all layers its logits follow the wide one's."""
    torch.manual_seed(3)
    model, tokenizer = load_classifier(checkpoint)
    with torch.no_grad():
        model.classifier.weight.mul_(20)
    student = narrow(model, NarrowRecipe(width=8, layers=2), texts=phrases(300), tokenizer=tokenizer)
    assert type(student) is type(model)
    assert width_of(student) == 8
    encoded = tokenizer(phrases(60, seed=2), padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    with torch.no_grad():
        logits = [m.eval()(input_ids=ids, attention_mask=mask).logits.flatten() for m in (student, model)]
    assert float(torch.corrcoef(torch.stack(logits))[0, 1]) > 0.6
    graph = export_graph(SentimentGraph(student, temperature=1.0), output="probabilities", max_tokens=32)
    with torch.no_grad():
        expected = SentimentGraph(student, temperature=1.0).eval()(ids, mask).numpy()
    assert np.allclose(run_graph(graph, [(ids, mask)]), expected, atol=1e-4)


def test_units_are_copied_to_their_places(tower: Any) -> None:
    """Each weight of the narrow model is the wide one's between the same two units."""
    wide = copy.deepcopy(body_of(tower))
    inputs = Inputs(IDS, MASK)
    units = choose_units(wide, inputs, width=8, head_size=8, intermediate=16)
    config = copy.deepcopy(wide.config)
    config.hidden_size, config.intermediate_size, config.num_attention_heads = 8, 16, 1
    ours = type(wide)(config)
    copy_units(wide, ours, units)
    layer, old = ours.encoder.layer[1], wide.encoder.layer[1]
    h, heads, inner = units.hidden, units.heads[1], units.inner[1]
    assert torch.equal(layer.attention.self.key.weight, old.attention.self.key.weight[heads][:, h])
    assert torch.equal(layer.attention.output.dense.weight, old.attention.output.dense.weight[h][:, heads])
    assert torch.equal(layer.intermediate.dense.bias, old.intermediate.dense.bias[inner])
    assert torch.equal(layer.output.dense.weight, old.output.dense.weight[h][:, inner])
    assert torch.equal(layer.output.LayerNorm.weight, old.output.LayerNorm.weight[h])
    assert torch.equal(ours.embeddings.word_embeddings.weight, wide.embeddings.word_embeddings.weight[:, h])


def test_heads_stay_whole(tower: Any) -> None:
    """The places that stay in an attention's output are those of whole heads."""
    units: Units = choose_units(body_of(tower), Inputs(IDS, MASK), width=8, head_size=8, intermediate=16)
    for places in units.heads:
        assert places.tolist() in (list(range(8)), list(range(8, 16)))


def test_a_linear_layer_is_fitted_by_least_squares() -> None:
    """What a linear layer can give exactly it gives, whatever it started from."""
    rng = torch.Generator().manual_seed(1)
    found, weight = torch.randn(500, 4, generator=rng), torch.randn(3, 4, generator=rng)
    wanted = found @ weight.T + 2.0
    linear = nn.Linear(4, 3)
    fit_linear(linear, found, wanted)
    assert torch.allclose(linear(found), wanted, atol=0.1)
    by_numpy, *_ = np.linalg.lstsq(np.c_[found.numpy(), np.ones(500)], wanted.numpy(), rcond=None)
    assert np.allclose(linear.weight.detach().numpy(), by_numpy[:4].T, atol=0.05)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (NarrowRecipe(width=16, layers=1), "multiple of the head size 8 below 16"),
        (NarrowRecipe(width=12, layers=1), "multiple of the head size 8 below 16"),
        (NarrowRecipe(width=8, layers=3), "layers = 3, expected at most 2"),
        (NarrowRecipe(width=8, layers=1, intermediate=64), "intermediate = 64, expected at most 32"),
    ],
)
def test_sizes_that_the_model_does_not_have_are_refused(
    tower: Any, recipe: NarrowRecipe, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        narrow(tower, recipe)


def test_what_is_not_built_like_bert_is_refused(tower: Any, checkpoint: Path) -> None:
    """Unknown units, a head that is not ours to resize, and texts that nobody can tokenise are errors."""
    from transformers import AlbertConfig, AlbertModel

    other = copy.deepcopy(tower)
    sizes = {"vocab_size": 300, "embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2}
    other[0].model = AlbertModel(AlbertConfig(**sizes, num_hidden_layers=1, intermediate_size=32))
    with pytest.raises(InputError, match="AlbertModel"):
        narrow(other, HALF)
    headed = copy.deepcopy(tower)
    headed[1] = nn.Identity()
    with pytest.raises(InputError, match="found Identity behind the transformer"):
        narrow(headed, HALF)
    model, _ = load_classifier(checkpoint)
    with pytest.raises(InputError, match="found texts and no tokenizer"):
        narrow(model, HALF, texts=phrases(9))


@pytest.mark.parametrize("values", [{"width": 0}, {"layers": 0}, {"texts": 0}, {"intermediate": -1}])
def test_a_recipe_that_makes_no_sense_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"narrow: found .* expected"):
        checked(NarrowRecipe, values, where="[narrow]")
