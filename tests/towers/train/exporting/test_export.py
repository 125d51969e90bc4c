"""Exported graphs compute what torch computes; int8 stays near; nothing of the machine is inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from towers import InputError
from towers.bundle import LAYOUT
from towers.train.base import load_classifier
from towers.train.exporting.export import (
    Precision,
    SentimentGraph,
    export_graph,
    parity,
    quantize,
    run_graph,
    tokenizer_json,
)

TEXTS = [
    "red shoes",
    "怎么取消订单",
    "the delivery of my large blue winter coat is late, when do you ship it?",
    "",
    "a",
]


def batch(tower: Any, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = tower.tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def test_float_graph_equals_torch(tower: Any, tower_graph: onnx.ModelProto) -> None:
    """Vectors from the graph are those of sentence-transformers, for any batch size and length."""
    expected = tower.encode(TEXTS)
    found = run_graph(
        tower_graph, [batch(tower, TEXTS[:3]), batch(tower, TEXTS[3:4]), batch(tower, TEXTS[4:])]
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("embedding", ["int4", "int8", "float32"])
def test_int8_graph_stays_near_torch(tower: Any, tower_graph: onnx.ModelProto, embedding: str) -> None:
    """Quantised weights turn vectors a little; the less, the more bits the embeddings keep."""
    graph = quantize(tower_graph, Precision(embedding=embedding))
    found = parity(tower.encode(TEXTS), run_graph(graph, [batch(tower, TEXTS)]))
    assert found["least_cosine"] > 0.97
    assert len(graph.SerializeToString()) < len(tower_graph.SerializeToString())


def test_quantizing_leaves_the_float_graph_alone(tower_graph: onnx.ModelProto) -> None:
    before = tower_graph.SerializeToString(deterministic=True)
    quantize(tower_graph, Precision())
    assert tower_graph.SerializeToString(deterministic=True) == before


def test_int8_weights_use_seven_bits(tower_graph: onnx.ModelProto) -> None:
    """AVX2 adds pairs of products in 16 bits: only weights within +-64 can never overflow them."""
    graph = quantize(tower_graph, Precision())
    weights = [
        onnx.numpy_helper.to_array(t) for t in graph.graph.initializer if t.data_type == onnx.TensorProto.INT8
    ]
    large = [array for array in weights if array.size > 100]
    assert large
    assert max(int(np.abs(array.astype(int)).max()) for array in large) <= 64


@pytest.mark.parametrize("kind", ["DistilBert", "MPNet"])
def test_relatives_of_bert_survive_the_export(kind: str, tmp_path: Path) -> None:
    """Other architectures come out right as well; a table too narrow for 4-bit blocks stays in float32."""
    import transformers

    from tests.golden.make_tiny import tiny_tokenizer
    from towers.train.base import load_tower
    from towers.train.exporting.export import TowerGraph

    sizes = {
        "DistilBert": {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64},
        "MPNet": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
    }
    tokenizer = tiny_tokenizer()
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), max_position_embeddings=66, **sizes[kind]
    )
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tower = load_tower(tmp_path, max_tokens=32).eval()
    graph = export_graph(TowerGraph(tower), output="vectors", max_tokens=32)
    expected, inputs = tower.encode(TEXTS), [batch(tower, TEXTS)]
    np.testing.assert_allclose(run_graph(graph, inputs), expected, atol=1e-5)
    assert parity(expected, run_graph(quantize(graph, Precision()), inputs))["least_cosine"] > 0.97


def test_sentiment_graph_holds_softmax_and_temperature(tower: Any, checkpoint: Path) -> None:
    torch.manual_seed(1)
    classifier, _ = load_classifier(checkpoint)
    graph = export_graph(SentimentGraph(classifier, temperature=2.0), output="probabilities", max_tokens=32)
    ids, mask = batch(tower, TEXTS)
    with torch.inference_mode():
        expected = torch.softmax(classifier.eval()(input_ids=ids, attention_mask=mask).logits / 2.0, dim=-1)
    np.testing.assert_allclose(run_graph(graph, [(ids, mask)]), expected.numpy(), atol=1e-5)


def test_no_path_of_the_machine_is_inside(tower_graph: onnx.ModelProto) -> None:
    """The exporter notes source files beside every node; none of it is kept."""
    raw = tower_graph.SerializeToString()
    assert b".py" not in raw
    assert b"site-packages" not in raw


def test_tokenizer_file_neither_pads_nor_cuts(tower: Any) -> None:
    """How long texts may be is the manifest's business, padding is the batch's."""
    text = tokenizer_json(tower.tokenizer)
    assert '"truncation":null' in text
    assert '"padding":null' in text


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(InputError, match=r"object has no fast form \(tokenizer\.json\)"):
        tokenizer_json(object())


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision int3 for matrices"):
        Precision(matmul="int3")


def test_tiny_bundle_is_what_its_script_makes(tmp_path: Path, tiny_bundle_path: Path) -> None:
    """The committed bundle and a fresh one agree: the export path that made it still does what it did."""
    from tests.golden.make_tiny import make
    from towers import open_bundle

    make(tmp_path / "tiny")
    fresh, kept = open_bundle(tmp_path / "tiny"), open_bundle(tiny_bundle_path)
    assert (fresh.encode_titles(TEXTS) * kept.encode_titles(TEXTS)).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(fresh.sentiment(TEXTS), kept.sentiment(TEXTS), atol=0.01)
    assert set(fresh.manifest.files) == set(kept.manifest.files) >= {LAYOUT.encoder, LAYOUT.weights}
