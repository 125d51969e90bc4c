"""A BERT with its masked-LM head: load it, start a head that is missing, predict masked tokens, measure by class."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from towers.errors import InputError
from towers.train.base import load_tower, resolve_checkpoint
from towers.train.pretraining.marking import CLASSES, Ints, check_tokenizer
from towers.train.pretraining.masking import NOT_MASKED

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PROBE_BATCH = 64


@dataclass
class MaskedModel:
    """What pretraining works on.

    Attributes:
        model: A transformers model with a masked-LM head whose decoder is tied to the embeddings.
        tokenizer: Its fast tokenizer.
        fresh_head: Whether the checkpoint had no head, so that this one has seen nothing.
        tower: The sentence-transformers model around the same body, None for a plain checkpoint.
    """

    model: Any
    tokenizer: Any
    fresh_head: bool
    tower: SentenceTransformer | None

    @property
    def head(self) -> list[nn.Parameter]:
        """The parameters of the head that are not the body's too."""
        body = {id(x) for x in self.model.base_model.parameters()}
        return [x for x in self.model.parameters() if id(x) not in body]

    @property
    def max_tokens(self) -> int:
        """Most tokens that the body has positions for, special ones included."""
        config = self.model.config
        # RoBERTa counts positions from behind its padding id; its tokenizer knows what is left
        positions = int(getattr(config, "max_position_embeddings", 512))
        return min(positions, int(self.tokenizer.model_max_length))

    def save(self, directory: Path) -> None:
        """Save in the form that the checkpoint had: sentence-transformers, or plain with the head."""
        self.model.to("cpu")
        if self.tower is not None:
            self.tower.save(str(directory), create_model_card=False)
            return
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


def load_masked(checkpoint: str | Path | None) -> MaskedModel:
    """Load a checkpoint for masked-LM; a tower's body is given a fresh head, a plain checkpoint keeps its own.

    Raises:
        InputError: The checkpoint cannot be loaded, has no masked-LM form or no fitting tokenizer.
    """
    from sentence_transformers.util import is_sentence_transformer_model

    name = resolve_checkpoint(checkpoint)
    if Path(name, "modules.json").is_file() or (
        not Path(name).is_dir() and is_sentence_transformer_model(name)
    ):
        tower = load_tower(name)
        check_tokenizer(tower.tokenizer)
        return MaskedModel(_with_head(tower[0].auto_model, name), tower.tokenizer, True, tower)
    return _load_plain(name)


def start_head(loaded: MaskedModel, counts: NDArray[np.int64]) -> None:
    """Let a fresh head start from how often tokens occur, instead of from nothing.

    The decoder's bias becomes the logarithm of the tokens' frequencies. On product titles all-MiniLM-L6-v2 then starts
    at 7.4 nats instead of 10.6, and after 60 steps of the head alone is at 6.6 instead of 7.4. (A tenth of the head's
    scale brings the start down to 6.8, and the body learns half as fast from then on.)

    Args:
        loaded: The model; its head is changed.
        counts: How often each token occurs in the texts, (vocabulary,).
    """
    bias = getattr(loaded.model.get_output_embeddings(), "bias", None)
    if bias is None:
        return
    with torch.no_grad():
        frequencies = torch.ones(len(bias))  # a token that never occurs counts as one that did once
        frequencies[: len(counts)] += torch.from_numpy(counts)[: len(bias)]
        bias.copy_((frequencies / frequencies.sum()).log())


def masked_logits(model: Any, batch: dict[str, torch.Tensor], masked: torch.Tensor) -> torch.Tensor:
    """Return the logits (m, vocabulary) at the masked places alone.

    The head works on each token by itself and its decoder costs as much as a small body, so it is shown only the tokens
    whose prediction counts: one in seven.

    Args:
        model: As in `MaskedModel`.
        batch: input_ids and attention_mask, (n, t).
        masked: Where to predict, bool (n, t).
    """

    def keep_masked(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[masked][None]
        return output

    hook = model.base_model.register_forward_hook(keep_masked)
    try:
        logits: torch.Tensor = model(**batch).logits[0]
    finally:
        hook.remove()
    return logits.float()


def masked_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean cross-entropy over a batch's masked tokens; 0 where it has none.

    Args:
        model: As in `MaskedModel`.
        batch: As `padded` makes it.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    masked = batch["labels"] != NOT_MASKED
    logits = masked_logits(model, inputs, masked)
    total = nn.functional.cross_entropy(logits, batch["labels"][masked], reduction="sum")
    return total / masked.sum().clamp(min=1)


def padded(rows: Sequence[dict[str, Ints]], pad_id: int) -> dict[str, torch.Tensor]:
    """Join texts of different lengths into tensors (n, t), int64.

    Args:
        rows: For each text input_ids and labels (and classes), all (tokens,).
        pad_id: Id of the padding token.
    """
    fill = {"input_ids": pad_id, "labels": NOT_MASKED, "classes": 0}
    width = max(len(row["input_ids"]) for row in rows)
    batch = {
        name: np.stack(
            [np.pad(row[name], (0, width - len(row[name])), constant_values=fill[name]) for row in rows]
        )
        for name in rows[0]
    }
    batch["attention_mask"] = np.stack([np.arange(width) < len(row["input_ids"]) for row in rows])
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in batch.items()}


class Probe:
    """Held-out texts with masks that never change, on which every model is measured in the same way."""

    def __init__(self, rows: Sequence[dict[str, Ints]], pad_id: int) -> None:
        """Make a probe.

        Args:
            rows: For each text input_ids, labels and classes (indices into `CLASSES`).
            pad_id: Id of the padding token.
        """
        ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
        self._batches = [
            padded(ordered[i : i + _PROBE_BATCH], pad_id) for i in range(0, len(ordered), _PROBE_BATCH)
        ]
        kinds = [row["classes"][row["labels"] != NOT_MASKED] for row in rows]
        found = np.bincount(np.concatenate(kinds), minlength=len(CLASSES))
        self.counts = {name: int(n) for name, n in zip(CLASSES, found, strict=True) if n}
        """Masked tokens of each class that occurs."""

    def losses(self, model: Any) -> dict[str, float]:
        """Return the mean cross-entropy of each class, and of "all", in nats."""
        sums = torch.zeros(len(CLASSES), dtype=torch.float64)
        training = model.training
        model.eval()
        with torch.inference_mode():
            for batch in self._batches:
                kinds, losses = _token_losses(model, batch)
                sums.index_add_(0, kinds, losses)
        model.train(training)
        by_class = {name: float(sums[CLASSES.index(name)]) / n for name, n in self.counts.items()}
        return {"all": float(sums.sum()) / sum(self.counts.values())} | by_class


def _token_losses(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    masked = batch["labels"] != NOT_MASKED
    here = next(model.parameters()).device
    inputs = {name: batch[name].to(here) for name in ("input_ids", "attention_mask")}
    logits = masked_logits(model, inputs, masked.to(here)).cpu()
    losses = nn.functional.cross_entropy(logits, batch["labels"][masked], reduction="none")
    return batch["classes"][masked], losses.double()


def _with_head(body: Any, name: str) -> Any:
    """A masked-LM model, with a new head, around a body that is there already."""
    from transformers import AutoModelForMaskedLM

    try:
        model = AutoModelForMaskedLM.from_config(body.config)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError) as exc:
        raise InputError(_no_head(name, body)) from exc
    return _around(model, body, name)


def _around(model: Any, body: Any, name: str) -> Any:
    """Put a body into a masked-LM model; unlike the model's own it has its pooler, which classifiers start from."""
    if not isinstance(body, type(model.base_model)):
        raise InputError(_no_head(name, body))
    setattr(model, model.base_model_prefix, body)
    model.tie_weights()
    return model


def _load_plain(name: str) -> MaskedModel:
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(name)
            check_tokenizer(tokenizer)
            model, told = AutoModelForMaskedLM.from_pretrained(name, output_loading_info=True)
            model = _around(model, AutoModel.from_pretrained(name), name)
    except InputError:
        raise
    except (
        Exception
    ) as exc:  # transformers, hub client and safetensors raise types of their own, a dozen of them
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise InputError(f"cannot load {name} for masked-LM: {reason}") from exc
    body = f"{model.base_model_prefix}."
    missing = [key for key in told["missing_keys"] if not key.startswith(body)]
    return MaskedModel(model, tokenizer, bool(missing), None)


def _no_head(name: str, body: nn.Module) -> str:
    kind = type(body).__name__
    return f"{name}: {kind} has no masked-LM form; expected a BERT-like encoder of transformers. Choose another --base."


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers tell errors only: that a new head, or a tied matrix, is not in a checkpoint is no news."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
