from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from towers.train.base import load_classifier
from towers.train.exporting import template
from towers.train.exporting.export import SentimentGraph, TowerGraph, export_graph, run_graph
from towers.train.exporting.template import Templates


def batch() -> list[tuple[torch.Tensor, torch.Tensor]]:
    ids = torch.tensor([[2, 60, 61, 62, 3], [2, 63, 3, 0, 0]])
    return [(ids, (ids > 0).long())]


def shaken(model: Any, seed: int) -> Any:
    twin = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return twin


def test_other_weights_of_one_structure_are_not_traced_again(
    tower: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A structure is traced once; graphs of other weights are what tracing them would have given."""
    traced = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        traced.append(args)
        return export_graph(*args, **kwargs)

    monkeypatch.setattr(template, "export_graph", counted)
    templates = Templates()
    graphs = []
    for seed in range(3):
        one = shaken(tower, seed)
        graph = templates.export(TowerGraph(one), output="vectors", max_tokens=32)
        graphs.append(run_graph(graph, batch()))
        with torch.inference_mode():
            expected = TowerGraph(one).eval()(*batch()[0]).numpy()
        np.testing.assert_allclose(graphs[-1], expected, atol=1e-5)
    assert len(traced) == 1
    assert np.abs(graphs[0] - graphs[1]).max() > 0.01


def test_classifiers_that_differ_in_temperature_or_origin_are_not_traced_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a checkpoint lay and how sharp its answers are is no structure; each graph answers as its own module."""
    traced = []
    monkeypatch.setattr(template, "export_graph", lambda *a, **k: traced.append(a) or export_graph(*a, **k))
    model, tokenizer = load_classifier(checkpoint)
    for saved in (model, tokenizer):
        saved.save_pretrained(tmp_path / "other")
    other, _ = load_classifier(tmp_path / "other")
    templates = Templates()
    for chosen, temperature in ((model, 1.0), (model, 3.0), (other, 0.5)):
        module = SentimentGraph(chosen, temperature=temperature)
        graph = templates.export(module, output="probabilities", max_tokens=32)
        with torch.inference_mode():
            expected = module.eval()(*batch()[0]).numpy()
        np.testing.assert_allclose(run_graph(graph, batch()), expected, atol=1e-5)
    assert len(traced) == 1
