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


def test_what_the_weights_do_not_say_is_traced_apart(checkpoint: Path) -> None:
    """Two temperatures are two graphs, though all weights are the same."""
    model, _ = load_classifier(checkpoint)
    templates = Templates()
    for temperature in (1.0, 3.0):
        module = SentimentGraph(model, temperature=temperature)
        graph = templates.export(module, output="probabilities", max_tokens=32)
        with torch.inference_mode():
            expected = module.eval()(*batch()[0]).numpy()
        np.testing.assert_allclose(run_graph(graph, batch()), expected, atol=1e-5)
