"""ALBERT really shares its layer, its factorised embeddings are exact where they can be, and its checkpoints work."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.golden.make_tiny import tiny_tokenizer
from tests.towers.train.structures.test_heads import TEXTS, batch
from towers import InputError, open_bundle
from towers.bundle import LAYOUT
from towers.train.base import load_classifier, load_tower
from towers.train.bodies import body_of, layer_stack
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.export import (
    Precision,
    SentimentGraph,
    TowerGraph,
    export_graph,
    parity,
    quantize,
    run_graph,
)
from towers.train.sources import checked
from towers.train.structures.albert import AlbertRecipe, to_albert
from towers.train.structures.factorise import factorised
from towers.train.structures.heads import HeadRecipe, with_head
from towers.train.write import write_bundle

WHOLE = AlbertRecipe(embedding=16)  # as wide as the tiny BERT: nothing is lost in its embeddings


def shared_layer(model: Any) -> nn.Module:
    found: nn.Module = body_of(model).encoder.albert_layer_groups[0].albert_layers[0]
    return found


def hidden(model: Any, texts: list[str]) -> torch.Tensor:
    ids, mask = batch(tiny_tokenizer(), texts)
    with torch.inference_mode():
        states: torch.Tensor = body_of(model)(input_ids=ids, attention_mask=mask).last_hidden_state
    return states[mask.bool()]


@pytest.fixture(scope="module")
def classifier(checkpoint: Path) -> Any:
    torch.manual_seed(4)
    return load_classifier(checkpoint)[0].eval()


@pytest.fixture(scope="module")
def deep(tower: Any) -> Any:
    """An ALBERT tower that applies its one layer seven times."""
    return to_albert(tower, AlbertRecipe(embedding=16, layers=7)).eval()


@pytest.fixture(scope="module")
def deep_graph(deep: Any) -> onnx.ModelProto:
    return export_graph(TowerGraph(deep), output="vectors", max_tokens=32)


# What it starts from.


@given(embeddings=st.integers(0, 2**31), ids=st.lists(st.lists(st.integers(0, 29), min_size=1), max_size=3))
@settings(max_examples=20)
def test_embeddings_of_full_width_are_exact(embeddings: int, ids: list[list[int]]) -> None:
    """Whatever the tables and the normalisation are, E = H gives BERT's embeddings, with any counts of tokens."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertEmbeddings

    torch.manual_seed(embeddings)
    bert = BertEmbeddings(BertConfig(vocab_size=30, hidden_size=12, max_position_embeddings=9)).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.copy_(torch.randn_like(parameter))
    factors = factorised(bert, 12, ids=[row[:9] for row in ids])
    numbers = torch.randint(0, 30, (2, 9))
    tables = {name.partition(".")[0]: table for name, table in factors.tables.items()}
    rows = (
        tables["word_embeddings"][numbers]
        + tables["position_embeddings"]
        + tables["token_type_embeddings"][0]
    )
    found = nn.functional.linear(nn.functional.layer_norm(rows, (12,)), **factors.mapping)
    torch.testing.assert_close(found, bert(numbers), atol=1e-3, rtol=1e-3)


def test_embeddings_lose_little_where_the_texts_are(tower: Any) -> None:
    """Counts of tokens move the loss to rows that nobody reads."""
    ids = tower.tokenizer(TEXTS)["input_ids"]
    padded, mask = batch(tower.tokenizer, TEXTS)

    def kept(recipe_ids: Any) -> float:
        body = body_of(to_albert(tower, AlbertRecipe(embedding=8), ids=recipe_ids)).eval()
        with torch.inference_mode():
            found = body.encoder.embedding_hidden_mapping_in(body.embeddings(padded))
            exact = body_of(tower).embeddings(padded)
        return float(torch.cosine_similarity(found, exact, dim=-1)[mask.bool()].mean())

    assert kept(ids) > kept(()) + 0.03


@pytest.mark.parametrize("layer", [0, 1])
def test_one_layer_and_whole_embeddings_compute_what_bert_did(tower: Any, layer: int) -> None:
    """The stupid twin: a BERT cut to the one layer that the ALBERT was made from."""
    cut = copy.deepcopy(tower)
    body_of(cut).encoder.layer = nn.ModuleList([layer_stack(tower)[layer]])
    body_of(cut).config.num_hidden_layers = 1
    ours = to_albert(tower, AlbertRecipe(embedding=16, layer=layer, layers=1)).eval()
    torch.testing.assert_close(hidden(ours, TEXTS), hidden(cut, TEXTS), atol=1e-4, rtol=1e-4)


def test_the_mean_of_the_layers(tower: Any) -> None:
    first, second = (layer.intermediate.dense.weight for layer in layer_stack(tower))
    torch.testing.assert_close(shared_layer(to_albert(tower, WHOLE)).ffn.weight, (first + second) / 2)


def test_the_given_model_stays(tower: Any) -> None:
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    seed = torch.random.get_rng_state()
    to_albert(tower, WHOLE)
    assert all(torch.equal(tower.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(torch.random.get_rng_state(), seed)


@pytest.mark.parametrize("kind", ["DistilBert", "Roberta"])
def test_relatives_of_bert_can_be_shared_too(kind: str, tmp_path: Path) -> None:
    """DistilBERT has no token types, RoBERTa counts positions from 2 on: both come out exact."""
    import transformers

    sizes = {
        "DistilBert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
        "Roberta": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "type_vocab_size": 1,
            "pad_token_id": 0,
        },
    }
    tokenizer = tiny_tokenizer()
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), max_position_embeddings=40, **sizes[kind]
    )
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tower = load_tower(tmp_path, max_tokens=32).eval()
    torch.testing.assert_close(
        hidden(to_albert(tower, WHOLE).eval(), TEXTS), hidden(tower, TEXTS), atol=1e-4, rtol=1e-4
    )


# Sharing.


def test_the_layer_is_held_once(tower: Any, deep: Any) -> None:
    """Seven applications read the same memory, and more of them add no parameter."""
    once = to_albert(tower, AlbertRecipe(embedding=16, layers=1))
    count = sum(p.numel() for p in deep.parameters())
    assert count == sum(p.numel() for p in once.parameters())
    width, inner, pieces = 16, 32, len(tiny_tokenizer())
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    assert count == (pieces + 64 + 2) * 16 + 2 * 16 + 16 * width + width + layer

    read: list[int] = []
    shared_layer(deep).ffn.register_forward_hook(lambda module, *_: read.append(module.weight.data_ptr()))
    deep.encode(["red shoes"])
    assert len(read) == 7
    assert len(set(read)) == 1


def test_every_application_teaches_the_one_layer(tower: Any) -> None:
    """The gradient of the shared matrix is the sum of those that a copy for each application would get."""
    ours = to_albert(tower, AlbertRecipe(embedding=16, layers=3)).eval()
    apart = copy.deepcopy(ours)
    groups = body_of(apart).encoder.albert_layer_groups
    groups.extend(copy.deepcopy(groups[0]) for _ in range(2))
    body_of(apart).config.num_hidden_groups = 3
    ids, mask = batch(tower.tokenizer, TEXTS)
    for model in (ours, apart):
        TowerGraph(model)(ids, mask)[:, 0].sum().backward()
    copies = [group.albert_layers[0].ffn.weight.grad for group in groups]
    torch.testing.assert_close(shared_layer(ours).ffn.weight.grad, sum(copies), atol=1e-6, rtol=1e-4)


def test_the_checkpoint_holds_it_once(deep: Any, tmp_path: Path) -> None:
    """A file of about four bytes a parameter, which loads as any sentence-transformers checkpoint."""
    deep.save(str(tmp_path))
    size = (tmp_path / "model.safetensors").stat().st_size
    count = sum(p.numel() for p in deep.parameters())
    assert 4 * count <= size < 4 * count + 4096  # names and shapes
    again = load_tower(tmp_path)
    np.testing.assert_allclose(again.encode(TEXTS), deep.encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize("precision", [None, Precision(), Precision(embedding="int8")])
def test_the_graph_holds_it_once(deep: Any, deep_graph: onnx.ModelProto, precision: Precision | None) -> None:
    """In float32, int8 and int4 there is one tensor for each matrix, read seven times."""
    graph = deep_graph if precision is None else quantize(deep_graph, precision)
    shapes = [tuple(t.dims) for t in graph.graph.initializer if len(t.dims) == 2 and min(t.dims) >= 16]
    assert shapes.count((16, 32)) == 1
    assert shapes.count((32, 16)) == 1
    assert shapes.count((16, 16)) == 1 + 4  # the mapping; query, key, value, dense
    contents = [t.raw_data for t in graph.graph.initializer if len(t.raw_data) >= 256]
    assert len(set(contents)) == len(contents)
    products = [node for node in graph.graph.node if node.op_type in ("MatMul", "MatMulInteger", "Gemm")]
    assert len(products) == 1 + 7 * 8  # the mapping, and six matrices and two products of attention each time


def test_graphs_compute_what_torch_does(deep: Any, deep_graph: onnx.ModelProto) -> None:
    expected = deep.encode(TEXTS)
    rows = [
        batch(deep.tokenizer, TEXTS[:3]),
        batch(deep.tokenizer, TEXTS[3:4]),
        batch(deep.tokenizer, TEXTS[4:]),
    ]
    np.testing.assert_allclose(run_graph(deep_graph, rows), expected, atol=1e-5)
    small = quantize(deep_graph, Precision(embedding="int8"))
    assert parity(expected, run_graph(small, rows))["mean_cosine"] > 0.9


# Classifiers.


def test_a_classifier_becomes_transformers_own(tower: Any, classifier: Any, tmp_path: Path) -> None:
    """Classes and trained top layers stay; the checkpoint is an ordinary one."""
    classifier = copy.deepcopy(classifier)
    classifier.config.id2label = {0: "bad", 1: "so so", 2: "good"}
    ours = to_albert(classifier, WHOLE).eval()
    assert type(ours).__name__ == "AlbertForSequenceClassification"
    assert ours.config.id2label == classifier.config.id2label
    torch.testing.assert_close(ours.classifier.weight, classifier.classifier.weight)
    torch.testing.assert_close(ours.albert.pooler.weight, classifier.bert.pooler.dense.weight)
    tower.tokenizer.save_pretrained(tmp_path)
    ours.save_pretrained(tmp_path)
    again = load_classifier(tmp_path)[0].eval()
    ids, mask = batch(tower.tokenizer, TEXTS)
    torch.testing.assert_close(
        again(input_ids=ids, attention_mask=mask).logits, ours(input_ids=ids, attention_mask=mask).logits
    )


def test_one_layer_gives_the_same_logits(classifier: Any, tower: Any) -> None:
    """The whole classifier, not its body alone, is what it was where nothing is lost."""
    cut = copy.deepcopy(classifier)
    cut.bert.encoder.layer = nn.ModuleList([layer_stack(classifier)[0]])
    cut.config.num_hidden_layers = 1
    ids, mask = batch(tower.tokenizer, TEXTS)
    for model in (cut, with_head(cut, HeadRecipe("mean")).eval()):
        expected = model(input_ids=ids, attention_mask=mask).logits
        found = to_albert(model, AlbertRecipe(embedding=16, layer=0)).eval()(
            input_ids=ids, attention_mask=mask
        )
        torch.testing.assert_close(found.logits, expected, atol=1e-4, rtol=1e-4)


# Plain ALBERT checkpoints.


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain ALBERT checkpoint with random weights; wide enough for the exporter to treat it as it does large ones."""
    from transformers import AlbertConfig, AlbertModel

    torch.manual_seed(6)
    folder, tokenizer = tmp_path_factory.mktemp("albert"), tiny_tokenizer()
    config = AlbertConfig(
        vocab_size=len(tokenizer),
        embedding_size=16,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=192,
        max_position_embeddings=64,
        initializer_range=0.15,
    )
    AlbertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_plain_albert_becomes_a_bundle(plain: Path, tmp_path: Path) -> None:
    """Loaded, trained a step, exported in int8 and 4 bits, and opened: its titles are near what torch says.

    All matrices of all applications are in int8, and stored once.
    """
    tower = load_tower(plain, max_tokens=32)
    ids, mask = batch(tower.tokenizer, TEXTS)
    steps = torch.optim.SGD(tower.parameters(), lr=0.01)
    vectors = TowerGraph(tower.train())(ids, mask)
    (vectors[0] - vectors[1]).square().sum().backward()
    steps.step()
    tower.eval()
    parts = tower_parts(tower, base=str(plain), base_licence="CC0-1.0", licence="CC0-1.0")
    kinds = [node.op_type for node in parts.graphs[LAYOUT.encoder].graph.node]
    assert kinds.count("MatMulInteger") == 1 + 3 * 6
    assert len(parts.graphs[LAYOUT.encoder].SerializeToString()) < 2 * sum(
        p.numel() for p in tower.parameters()
    )
    write_bundle(tmp_path / "bundle", parts)
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.dim == 96
    assert (bundle.encode_titles(TEXTS) * tower.encode(TEXTS)).sum(axis=1).mean() > 0.95


def test_a_plain_albert_becomes_a_classifier(plain: Path) -> None:
    """It learns a step, and its graph's probabilities are torch's."""
    model, tokenizer = load_classifier(plain)
    ids, mask = batch(tokenizer, TEXTS)
    model.train()(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 2, 0, 1])).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    model.eval()
    graph = export_graph(SentimentGraph(model, temperature=1.0), output="probabilities", max_tokens=32)
    with torch.inference_mode():
        expected = torch.softmax(model(input_ids=ids, attention_mask=mask).logits, dim=-1).numpy()
    np.testing.assert_allclose(run_graph(graph, [(ids, mask)]), expected, atol=1e-5)


def test_a_unigram_albert_loads_with_its_own_tokenizer(plain: Path, tmp_path: Path) -> None:
    """The published ALBERTs have a SentencePiece tokenizer: its fast form reaches the bundle."""
    from transformers import AlbertModel, AlbertTokenizer

    pieces = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "▁red", "▁shoes", "▁", "a", "e", "s", "h"]
    tokenizer = AlbertTokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)])
    AlbertModel.from_pretrained(plain).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    tower = load_tower(tmp_path / "base", max_tokens=32).eval()
    parts = tower_parts(tower, base=None, base_licence="CC0-1.0", licence="CC0-1.0", texts=["red shoes", "a"])
    bundle = write_bundle(tmp_path / "bundle", parts)
    assert bundle.count_tokens("red shoes") == 4
    assert (bundle.encode_titles(["red shoes"]) @ tower.encode(["red shoes"]).T).item() > 0.95


# What is refused.


def test_a_recipe_is_checked() -> None:
    with pytest.raises(InputError, match="found layer 'last', expected 'mean' or the number of a layer"):
        AlbertRecipe(layer="last")
    with pytest.raises(InputError, match="found embedding 1 and layers 0"):
        AlbertRecipe(embedding=1)
    assert checked(AlbertRecipe, {"layer": 2}, where="[albert]") == AlbertRecipe(layer=2)


def test_what_does_not_fit_is_refused(tower: Any, plain: Path) -> None:
    """Each refusal names what was found and what there is."""
    with pytest.raises(InputError, match="found layer 2, expected 0 to 1 or 'mean'"):
        to_albert(tower, AlbertRecipe(embedding=16, layer=2))
    with pytest.raises(InputError, match="found embedding 128, expected at most 16, the width of the model"):
        to_albert(tower, AlbertRecipe())
    with pytest.raises(InputError, match="found an ALBERT, whose layers share their weights already"):
        to_albert(load_tower(plain), AlbertRecipe(embedding=16))


@pytest.mark.parametrize("layers", [1, 3])
def test_an_albert_has_no_layers_to_cut_or_freeze(tower: Any, layers: int) -> None:
    """With one application as with many: its layer is no layer of its own."""
    with pytest.raises(InputError, match="only BERT-like encoders with layers of their own can be cut"):
        layer_stack(to_albert(tower, AlbertRecipe(embedding=8, layers=layers)))
