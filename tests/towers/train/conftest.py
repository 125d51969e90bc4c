"""A tiny checkpoint and the graphs made from it, once for all tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.golden.make_tiny import save_checkpoint
from towers.train.base import load_tower
from towers.train.exporting.export import TowerGraph, export_graph


@pytest.fixture(scope="session", autouse=True)
def offline() -> None:
    """No test may reach a model hub. The variable is read when the hub client is imported."""
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """A model 16 wide gains nothing from a second thread, and loses a lot when tests run side by side."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers checkpoint of 2 layers, 16 wide."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def tower(checkpoint: Path) -> Any:
    return load_tower(checkpoint, max_tokens=32).eval()


@pytest.fixture(scope="session")
def tower_graph(tower: Any) -> onnx.ModelProto:
    """The tower's float32 graph."""
    return export_graph(TowerGraph(tower), output="vectors", max_tokens=32)
