"""Layers of matrices, told from the graph's form, are those that the exporter's names tell."""

from __future__ import annotations

import copy
import re
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import torch

from tests.golden.make_tiny import tiny_tokenizer
from towers.train.base import load_tower
from towers.train.exporting.export import SentimentGraph, TowerGraph, export_graph
from towers.train.exporting.matrices import layers_of, matrix_layers

SIZES: dict[str, dict[str, int]] = {
    "DistilBert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "Albert": {
        "hidden_size": 16,
        "embedding_size": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
}


def graph_of(tower: Any) -> onnx.ModelProto:
    """The graph of a copy whose tensors all differ: equal ones, as zero biases, would have one name."""
    tower = copy.deepcopy(tower)
    draw = torch.Generator().manual_seed(0)
    for parameter in tower.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    return export_graph(TowerGraph(tower), output="vectors", max_tokens=32)


def relative(kind: str, folder: Path) -> Any:
    import transformers

    tokenizer = tiny_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 66, **SIZES[kind]}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_tower(folder, max_tokens=32)


def named_layers(graph: onnx.ModelProto) -> dict[str, int]:
    """The stupid twin: the number in the name of the bias that is added to a product."""
    biased = {}
    for node in graph.graph.node:
        for name in node.input if node.op_type == "Add" else ():
            if found := re.search(r"layers?\.(\d+)\.", name):
                biased.update(dict.fromkeys(node.input, int(found.group(1))))
    products = (node for node in graph.graph.node if node.op_type == "MatMul")
    return {node.name: biased[node.output[0]] for node in products if node.output[0] in biased}


def test_layers_are_those_of_the_names(tower: Any) -> None:
    """BERT: six matrices a layer, each where its bias's name says."""
    graph = graph_of(tower)
    assert matrix_layers(graph) == named_layers(graph)
    assert Counter(matrix_layers(graph).values()) == {0: 6, 1: 6}


def test_relatives_of_bert_are_understood(tmp_path: Path) -> None:
    """DistilBERT's layers are named otherwise and have the same form."""
    graph = graph_of(relative("DistilBert", tmp_path))
    assert matrix_layers(graph) == named_layers(graph)
    assert layers_of(graph) == [0, 1, 2]


def test_shared_layers_count_each_time_they_are_used(tmp_path: Path) -> None:
    """ALBERT's one set of matrices makes three layers; the widening of its embeddings belongs to none."""
    graph = graph_of(relative("Albert", tmp_path))
    assert Counter(matrix_layers(graph).values()) == {None: 1, 0: 6, 1: 6, 2: 6}


def test_a_later_stage_counts_from_its_first_layer(tower_graph: onnx.ModelProto) -> None:
    assert set(matrix_layers(tower_graph, first_layer=4).values()) == {4, 5}


def test_a_classifier_has_the_layers_of_its_transformer(checkpoint: Path) -> None:
    """The softmax at the end is no attention; pooler and head work on one row a text and are not listed."""
    from towers.train.base import load_classifier

    classifier: Any = load_classifier(checkpoint)[0]
    graph = export_graph(SentimentGraph(classifier, temperature=1.0), output="probabilities", max_tokens=32)
    assert Counter(matrix_layers(graph).values()) == {0: 6, 1: 6}
