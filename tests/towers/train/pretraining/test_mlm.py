from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.golden.make_tiny import tiny_config, tiny_tokenizer
from towers.errors import InputError
from towers.train.base import load_tower
from towers.train.pretraining.marking import CLASSES
from towers.train.pretraining.masking import NOT_MASKED
from towers.train.pretraining.mlm import Probe, load_masked, masked_logits, masked_loss, padded, start_head

RNG = np.random.default_rng(0)


def rows(count: int, *, masked: bool = True) -> list[dict[str, Any]]:
    """Texts of 3 to 12 random tokens, the third of each masked if any."""
    made = []
    for length in RNG.integers(3, 13, count):
        ids = RNG.integers(5, 60, length).astype(np.int32)
        labels = np.where((np.arange(length) == 2) & masked, ids, NOT_MASKED).astype(np.int32)
        made.append({"input_ids": ids, "labels": labels, "classes": (ids % len(CLASSES)).astype(np.int32)})
    return made


def masked_checkpoint(directory: Path, kind: str = "bert") -> Path:
    """A plain checkpoint with its masked-LM head, of one architecture or another."""
    import transformers

    torch.manual_seed(3)
    tokenizer = tiny_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    more = {"intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": tokenizer.pad_token_id}
    config: Any = {
        "bert": lambda: tiny_config(len(tokenizer)),
        "roberta": lambda: transformers.RobertaConfig(**sizes, **more),
        "distilbert": lambda: transformers.DistilBertConfig(
            vocab_size=len(tokenizer),
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=64,
        ),
        "albert": lambda: transformers.AlbertConfig(**sizes, **more, embedding_size=8),
        "electra": lambda: transformers.ElectraConfig(**sizes, **more, embedding_size=8),
        "mpnet": lambda: transformers.MPNetConfig(**sizes, **more),
    }[kind]()
    model = transformers.AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # wide, so that logits differ
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "albert", "electra", "mpnet"])
def test_logits_at_masked_places_are_those_of_the_whole_model(kind: str, tmp_path: Path) -> None:
    """Showing the head fewer tokens changes nothing about these, for any BERT-like model; its own head is kept."""
    from transformers import AutoModelForMaskedLM

    loaded = load_masked(masked_checkpoint(tmp_path, kind))
    assert not loaded.fresh_head
    batch = padded(rows(5), pad_id=0)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    masked = batch["labels"] != NOT_MASKED
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        expected = whole(**inputs).logits[masked]
        torch.testing.assert_close(
            masked_logits(loaded.model.eval(), inputs, masked), expected, atol=1e-5, rtol=1e-5
        )
        after = loaded.model(**inputs).logits
    assert after.shape == (*masked.shape, expected.shape[1])  # the model itself is as before


def test_a_towers_body_is_trained_in_place_with_a_tied_head(checkpoint: Path, tmp_path: Path) -> None:
    """A sentence-transformers checkpoint gets a new head; its decoder is the body's matrix of embeddings."""
    load_tower(checkpoint).save(str(tmp_path / "tower"))
    loaded = load_masked(tmp_path / "tower")
    assert loaded.tower is not None
    assert loaded.fresh_head
    body = loaded.tower[0].auto_model
    assert loaded.model.base_model is body
    assert loaded.model.get_output_embeddings().weight is body.embeddings.word_embeddings.weight
    known = {id(x) for x in body.parameters()}
    assert sum(x.numel() for x in loaded.head) == 16 * 16 + 3 * 16 + len(loaded.tokenizer)
    assert not known & {id(x) for x in loaded.head}


def test_a_new_head_starts_at_the_entropy_of_the_tokens(checkpoint: Path) -> None:
    """Its first guesses are the tokens' frequencies: far better than guessing evenly."""
    loaded = load_masked(checkpoint)
    assert loaded.fresh_head
    frequent, batch = [40, 41, 42, 43], padded(rows(40), pad_id=0)
    batch["labels"][batch["labels"] != NOT_MASKED] = torch.tensor(frequent * 10)
    counts = np.zeros(len(loaded.tokenizer), np.int64)
    counts[frequent] = 10_000
    before = masked_loss(loaded.model.eval(), batch).item()
    start_head(loaded, counts)
    assert masked_loss(loaded.model, batch).item() < before - 1
    with torch.no_grad():
        loaded.model.cls.predictions.transform.LayerNorm.weight.zero_()  # what texts say is not heard any more
    expected = math.log((40_000 + len(counts)) / 10_001)  # each token counts once more than it occurs
    assert masked_loss(loaded.model, batch).item() == pytest.approx(expected, abs=1e-4)


def test_loss_is_the_mean_over_masked_tokens(checkpoint: Path) -> None:
    """By hand from the whole model's logits; a batch without masks costs nothing, and no NaN."""
    model = load_masked(checkpoint).model.eval()
    batch = padded(rows(6), pad_id=0)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    chosen = torch.log_softmax(logits, -1).gather(-1, batch["labels"].clamp(min=0)[..., None])[..., 0]
    expected = -chosen[batch["labels"] != NOT_MASKED].mean()
    torch.testing.assert_close(masked_loss(model, batch), expected, atol=1e-5, rtol=1e-5)
    nothing = masked_loss(model, padded(rows(3, masked=False), pad_id=0))
    nothing.backward()
    assert nothing.item() == 0.0


def test_the_probe_measures_each_class_alone(checkpoint: Path) -> None:
    """Losses by class are those of one text at a time; "all" is their mean by count; the model stays in its mode."""
    model = load_masked(checkpoint).model.train()
    texts = rows(150)
    probe = Probe(texts, pad_id=0)
    sums: dict[str, list[float]] = {}
    for text in texts:
        kind = CLASSES[text["classes"][2]]
        sums.setdefault(kind, []).append(masked_loss(model.eval(), padded([text], pad_id=0)).item())
    model.train()
    losses = probe.losses(model)
    assert model.training
    assert probe.counts == {name: len(sums[name]) for name in CLASSES if name in sums}
    assert losses == pytest.approx(
        {"all": np.mean([x for values in sums.values() for x in values])}
        | {name: np.mean(values) for name, values in sums.items()},
        abs=1e-4,
    )


def test_padding_adds_what_counts_for_nothing() -> None:
    """Shorter texts end in padding that attention and loss do not see."""
    short, long = (
        {"input_ids": [7, 8], "labels": [7, -100]},
        {"input_ids": [5, 6, 9], "labels": [-100, -100, 9]},
    )
    batch = padded([{k: np.array(v, np.int32) for k, v in row.items()} for row in (short, long)], pad_id=1)
    assert batch["input_ids"].tolist() == [[7, 8, 1], [5, 6, 9]]
    assert batch["labels"].tolist() == [[7, -100, -100], [-100, -100, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert all(values.dtype == torch.int64 for values in batch.values())


def test_checkpoints_that_cannot_fill_in_words_are_refused(tmp_path: Path) -> None:
    """A decoder, or a tokenizer without a mask, is told apart from a checkpoint that is broken."""
    from transformers import GPT2Config, GPT2Model

    tokenizer = tiny_tokenizer()
    GPT2Model(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"cannot load .* for masked-LM"):
        load_masked(tmp_path)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no mask token"):
        load_masked(tmp_path)


def test_a_body_that_is_not_transformers_own_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """What took a transformer's place, an LSTM say, has no masked-LM form."""
    from towers.train.pretraining.mlm import _with_head

    body = nn.Linear(2, 2)
    body.config = load_tower(checkpoint)[0].auto_model.config  # type: ignore[assignment]
    with pytest.raises(InputError, match="Linear has no masked-LM form"):
        _with_head(body, "here")
