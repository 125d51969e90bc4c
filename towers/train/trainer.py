"""What all our runs of a Trainer have in common: its settings, its checkpoints, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from towers.train.weights import load_weights, save_weights

_WEIGHTS = "weights.safetensors"


def common_arguments(recipe: Any, checkpoints: Path) -> dict[str, Any]:
    """Return the TrainingArguments that no recipe decides otherwise.

    Args:
        recipe: A training recipe with steps, seed, bf16 and save_steps; 0 steps go by the epochs given beside these.
        checkpoints: Folder that the Trainer owns.
    """
    return {
        "output_dir": str(checkpoints),
        "max_steps": recipe.steps or -1,
        "seed": recipe.seed,
        "bf16": recipe.bf16,
        "save_steps": recipe.save_steps,
        "save_total_limit": 2,
        "logging_steps": 100,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "use_cpu": not torch.cuda.is_available(),
    }


def planned_arguments(recipe: Any, checkpoints: Path) -> dict[str, Any]:
    """Return the TrainingArguments of a run over batches that were planned before it, each an item of its own.

    Args:
        recipe: As for `common_arguments`, with learning_rate and warmup.
        checkpoints: Folder that the Trainer owns.
    """
    return common_arguments(recipe, checkpoints) | {
        "per_device_train_batch_size": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup,  # below 1 it is a ratio
        "remove_unused_columns": False,
    }


def newest_checkpoint(checkpoints: Path) -> str | None:
    """Return the Trainer's newest checkpoint in a folder; None if there is none, or no folder."""
    from transformers.trainer_utils import get_last_checkpoint

    if not checkpoints.is_dir():
        return None
    return cast("str | None", get_last_checkpoint(str(checkpoints)))  # type: ignore[no-untyped-call]


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
