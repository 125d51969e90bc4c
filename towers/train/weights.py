"""Keeping trained weights beside a recipe that rebuilds the structure they belong to.

Models with a head or a body of ours cannot be saved as a sentence-transformers checkpoint: it would name classes that
only this package has, and refuse to load without `trust_remote_code`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

_WEIGHTS = "weights.safetensors"


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


def keeping_weights(trainer_class: type) -> type:
    """Return the Trainer class with checkpoints that hold weights, which fit a model of any structure."""

    class WeightKeeper(trainer_class):  # type: ignore[misc]
        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            save_weights(self.model, Path(output_dir or self.args.output_dir) / _WEIGHTS)

        def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
            load_weights(self.model, Path(checkpoint) / _WEIGHTS)

    return WeightKeeper


def after_training(model: nn.Module) -> None:
    """Bring a model that a Trainer has trained back to the CPU and to its own forward pass.

    With bf16 the Trainer leaves the model computing in bfloat16 for good: what is measured or exported afterwards would
    be off in the third digit.
    """
    for name in ("forward", "_original_forward"):
        vars(model).pop(name, None)
    model.to("cpu")
