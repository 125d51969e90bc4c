"""Keeping trained weights beside a recipe that rebuilds the structure they belong to.

Models with a head or a body of ours cannot be saved as a sentence-transformers checkpoint: it would name classes that
only this package has, and refuse to load without `trust_remote_code`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch import nn


def save_weights(model: nn.Module, path: Path) -> None:
    """Save a model's weights as safetensors, whole or not at all; tensors that are one are stored once."""
    from safetensors.torch import save_model

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_model(model, str(temporary))
    temporary.replace(path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load saved weights into a model of the same structure, in place."""
    from safetensors.torch import load_model

    load_model(model, str(path))


def trained_once(model: nn.Module, path: Path, train: Callable[[], object]) -> None:
    """Train a model in place and keep its weights; load them instead where they are kept already."""
    if path.is_file():
        load_weights(model, path)
        return
    train()
    save_weights(model, path)
