"""The cross-encoder's graph says what torch says; its cost is told beside that of towers, in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden.make_tiny import save_checkpoint
from towers import InputError, open_bundle
from towers.train.cross.cross_cost import cost_per_thousand
from towers.train.cross.cross_encoder import cross_scores, load_cross
from towers.train.cross.cross_graph import CrossGraphRunner
from towers.train.exporting.export import Precision

QUERIES = ["red shoes", "warm milk", "手机", ""]
TITLES = ["red shoe", "a lost bank card with a large yellow bag", "订单", "a"]


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cross-encoder that tells its two texts apart by their types, as BERT's do."""
    torch.manual_seed(3)
    model = load_cross(save_checkpoint(tmp_path_factory.mktemp("cross")), max_tokens=32)
    model.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return model


def test_the_graph_equals_torch(cross: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 scores are those of sentence-transformers, although the graph finds the title by itself."""
    runner = CrossGraphRunner(cross, precision=Precision("float32", "float32"))
    expected = cross_scores(cross, QUERIES, TITLES)
    np.testing.assert_allclose(runner.scores(QUERIES, TITLES), expected, atol=1e-5)
    monkeypatch.setattr(cross.tokenizer, "model_input_names", ["input_ids", "attention_mask"])
    assert np.abs(cross_scores(cross, QUERIES, TITLES) - expected).max() > 1e-4  # so types do count


def test_every_way_has_its_cost(cross: Any, tiny_bundle_path: Path) -> None:
    """Cached vectors cost less than encoding the titles, whatever the machine does meanwhile: they are part of it."""
    found = cost_per_thousand(open_bundle(tiny_bundle_path), cross, "red shoes", TITLES, rounds=1)
    names = [
        f"s per 1,000 titles, {name}" for name in ("towers, vectors cached", "towers, vectors not cached")
    ]
    assert set(found) == {
        *names,
        "s per 1,000 titles, cross-encoder, int8",
        "s per 1,000 titles, cross-encoder, torch",
    }
    assert 0 < found[names[0]] < found[names[1]]
    with pytest.raises(InputError, match="found 0 titles and 3 rounds"):
        cost_per_thousand(open_bundle(tiny_bundle_path), cross, "red shoes", [])
