"""What a teacher says of texts: its vectors or logits, computed once for each text and kept on disk.

A text's file depends on the teacher, on how texts are cut, and on the texts that share the file. So an interrupted run
goes on after the last finished file, and students that learn from the same texts in the same order share them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.errors import InputError
from towers.tokens import Ids, batches_by_length, pad
from towers.train.bodies import is_tower, layer_stack
from towers.train.exporting.export import TowerGraph

_FILE_TEXTS = 2048  # some 6 s of a six-layer teacher on 2 cores: what an interruption can cost
_BATCH_TOKENS = 2048  # padded tokens of a batch; guess, untested

Halves = NDArray[np.float16]


def answer(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return a tower's vectors (n, dim) of length 1, or a classifier's logits (n, classes); float32 in any autocast."""
    if is_tower(model):
        return nn.functional.normalize(
            TowerGraph(cast(Any, model))(input_ids, attention_mask).float(), dim=-1
        )
    return cast(Tensor, model(input_ids=input_ids, attention_mask=attention_mask).logits.float())


def token_ids(tokenizer: Any, texts: Sequence[str], *, max_tokens: int) -> list[Ids]:
    """Return the ids of each text, int64 (length,), special tokens included, cut at `max_tokens`."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return [np.asarray(ids, np.int64) for ids in encoded]


class LayerMeans:
    """Catches the hidden states behind some layers of a model and averages them over each text's tokens.

    Hooks, because towers and heads of our own do not hand hidden states out.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int]) -> None:
        self._stack = [layer_stack(model)[layer] for layer in layers] if layers else []
        self._caught: list[Tensor] = []

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Listen while the block runs."""
        hooks = [layer.register_forward_hook(self._catch) for layer in self._stack]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def take(self, attention_mask: Tensor) -> Tensor:
        """Return the means of the last forward pass, float32 (n, layers, width), and forget them."""
        share = attention_mask[..., None].float()
        share = share / share.sum(dim=1, keepdim=True)
        means = [(states.float() * share).sum(dim=1) for states in self._caught]
        self._caught.clear()
        return torch.stack(means, dim=1)

    def _catch(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        self._caught.append(output[0] if isinstance(output, tuple) else output)


def matched_layers(student: int, teacher: int) -> tuple[int, ...]:
    """Return which of the teacher's layers each of the student's layers learns from.

    Evenly spaced, the last from the last (Jiao et al. 2020, TinyBERT, section 3.1, the uniform mapping).

    Raises:
        InputError: The student has more layers.
    """
    if student > teacher:
        raise InputError(
            f"found a student of {student} layers and a teacher of {teacher}; hidden states can be matched only where "
            "the student has no more. Set hidden = 0."
        )
    return tuple((i + 1) * teacher // student - 1 for i in range(student))


def ask(
    teacher: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_tokens: int,
    layers: Sequence[int] = (),
    cache: Path,
) -> Halves:
    """Return what a teacher says of each text, from the cache where it is there.

    Args:
        teacher: A tower or a classifier; its mode stays as it is.
        tokenizer: Its transformers tokenizer.
        texts: n texts.
        max_tokens: Longer texts are cut there.
        layers: Layers whose mean hidden states are wanted as well.
        cache: Folder of the files.

    Returns:
        float16 (n, width): the vector or the logits, then the mean hidden states, one layer after the other.
    """
    key = hashlib.sha256(f"{model_key(teacher)} {max_tokens} {list(layers)}".encode())
    parts = []
    for start in range(0, len(texts), _FILE_TEXTS):
        part = texts[start : start + _FILE_TEXTS]
        name = key.copy()
        name.update("\0".join(part).encode())
        path = cache / f"{name.hexdigest()[:32]}.npy"
        if not path.is_file():
            _write(path, _said(teacher, token_ids(tokenizer, part, max_tokens=max_tokens), layers))
        parts.append(np.load(path, allow_pickle=False))
    return np.concatenate(parts)


def model_key(model: nn.Module) -> str:
    """Return the SHA-256 of a model's names, shapes and weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _said(teacher: nn.Module, rows: Sequence[Ids], layers: Sequence[int]) -> Halves:
    means, training = LayerMeans(teacher, layers), teacher.training
    device = next(teacher.parameters()).device
    said: list[tuple[list[int], NDArray[np.float32]]] = []
    teacher.eval()
    with torch.inference_mode(), means.catching():
        for batch in batches_by_length(rows, tokens=_BATCH_TOKENS):
            ids, mask = (torch.from_numpy(part).to(device) for part in pad([rows[i] for i in batch]))
            found = answer(teacher, ids, mask)
            if layers:
                found = torch.cat([found, means.take(mask).flatten(1)], dim=1)
            said.append((batch, found.cpu().numpy()))
    teacher.train(training)
    every = np.empty((len(rows), said[0][1].shape[1]), np.float16)
    for batch, values in said:
        every[batch] = values
    return every


def _write(path: Path, values: Halves) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    with temporary.open("wb") as file:
        np.save(file, values)
    temporary.replace(path)
