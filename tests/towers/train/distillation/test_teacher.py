from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from towers.errors import InputError
from towers.train.bodies import body_of
from towers.train.distillation import teacher as module
from towers.train.distillation.teacher import ask, matched_layers, model_key

TEXTS = ["red running shoes", "wireless headphones with warm milk", "a", "怎么取消信用卡", "blue bank card"]


def one_by_one(tower: Any, text: str, layers: tuple[int, ...]) -> np.ndarray:
    """Vector and mean hidden states of a text, from transformers' own hidden states."""
    encoded = tower.tokenizer([text], return_tensors="pt")
    with torch.no_grad():
        states = body_of(tower).eval()(**encoded, output_hidden_states=True).hidden_states
    parts = [states[layer + 1][0].mean(dim=0).numpy() for layer in layers]
    return np.concatenate([tower.encode([text], show_progress_bar=False)[0], *parts])


def test_a_teacher_says_what_it_says_alone(tower: Any, tmp_path: Path) -> None:
    """Vectors and mean hidden states from padded batches are those of each text alone, to half precision."""
    said = ask(tower, tower.tokenizer, TEXTS, max_tokens=32, layers=(0, 1), cache=tmp_path)
    alone = np.stack([one_by_one(tower, text, (0, 1)) for text in TEXTS])
    assert said.dtype == np.float16
    assert np.allclose(said, alone, atol=4e-3)


def test_finished_files_are_not_made_again(
    tower: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first file, a teacher goes on with the second; more texts only add files."""
    monkeypatch.setattr(module, "_FILE_TEXTS", 2)
    whole = ask(tower, tower.tokenizer, TEXTS, max_tokens=32, cache=tmp_path / "whole")
    ask(tower, tower.tokenizer, TEXTS[:2], max_tokens=32, cache=tmp_path / "parts")
    asked: list[int] = []
    hook = body_of(tower).register_forward_pre_hook(
        lambda _, __, inputs: asked.append(len(inputs["input_ids"])), with_kwargs=True
    )
    again = ask(tower, tower.tokenizer, TEXTS, max_tokens=32, cache=tmp_path / "parts")
    hook.remove()
    assert sum(asked) == 3
    assert np.array_equal(again, whole)


def test_another_teacher_or_cut_is_another_file(tower: Any, tmp_path: Path) -> None:
    """Changed weights and another length are never answered from the old files."""
    ask(tower, tower.tokenizer, TEXTS, max_tokens=32, cache=tmp_path)
    other = copy.deepcopy(tower)
    with torch.no_grad():
        body_of(other).embeddings.word_embeddings.weight[7, 0] += 1
    assert model_key(other) != model_key(tower)
    ask(other, tower.tokenizer, TEXTS, max_tokens=32, cache=tmp_path)
    ask(tower, tower.tokenizer, TEXTS, max_tokens=3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_matched_layers() -> None:
    """Evenly spaced, and the last learns from the last."""
    assert matched_layers(3, 6) == (1, 3, 5)
    assert matched_layers(2, 6) == (2, 5)
    assert matched_layers(6, 6) == (0, 1, 2, 3, 4, 5)
    assert matched_layers(4, 6) == (0, 2, 3, 5)
    with pytest.raises(InputError, match="student of 7 layers and a teacher of 6"):
        matched_layers(7, 6)
