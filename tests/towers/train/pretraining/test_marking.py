from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.make_tiny import tiny_tokenizer
from towers.errors import InputError
from towers.train.pretraining.entities import EntityFinder
from towers.train.pretraining.marking import CLASSES, Marked, Marker, check_tokenizer
from towers.train.pretraining.segment import Segmenter, count_words

SEGMENTER = Segmenter()
TINY = tiny_tokenizer()
CORPUS = ["red shoes are red and blue shoes are blue"] * 5 + ["红 鞋 手机"] * 5 + ["jacket, coat"]


def byte_level_tokenizer() -> Any:
    """A tokenizer like RoBERTa's and GPT's: pieces of bytes, whose offsets hold the space before the word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip


def marker(tokenizer: Any = TINY, *, entities: tuple[str, ...] = (), max_tokens: int = 32) -> Marker:
    counts = count_words(CORPUS, SEGMENTER, rare_share=0.0)
    return Marker(tokenizer, SEGMENTER, EntityFinder(SEGMENTER, entities), counts, max_tokens)


def described(text: Marked, tokenizer: Any = TINY) -> list[tuple[str, int, str, int]]:
    pieces = tokenizer.convert_ids_to_tokens(text.ids.tolist())
    rows = zip(pieces, text.words, text.classes, text.counts, strict=True)
    return [(piece, int(word), CLASSES[kind], int(n)) for piece, word, kind, n in rows if word >= 0]


def test_every_token_knows_its_word_class_and_count() -> None:
    """Pieces of a word share its number; what is special, unknown words included, has none."""
    (text,) = marker(entities=("gift card",)).mark(["red jackets, 手机 gift card 12 龘"])
    assert described(text) == [
        ("red", 0, "common", 10),
        *((piece, 1, "rare", 0) for piece in ("jacket", "##s")),
        (",", 2, "punctuation", 1),
        *((piece, 3, "piece", 5) for piece in "手机"),
        ("gift", 4, "entity", 0),
        ("card", 5, "entity", 0),
        *((piece, 6, "number", 0) for piece in ("1", "##2")),
    ]
    assert [TINY.convert_ids_to_tokens(int(x)) for x in text.ids[text.words < 0]] == [
        "[CLS]",
        "[UNK]",
        "[SEP]",
    ]
    assert text.entities[text.words >= 0].tolist() == [-1, -1, -1, -1, -1, -1, 0, 0, 1, 1]


def test_it_works_with_byte_level_tokenizers() -> None:
    """Offsets that count the space before a word, and bytes of one character, are understood."""
    tokenizer = byte_level_tokenizer()
    (text,) = marker(tokenizer).mark(["red shoes 龘 blue"])
    spelled: dict[int, str] = {}
    for piece, word, _, _ in described(text, tokenizer):
        spelled[word] = spelled.get(word, "") + piece
    assert [spelled[0], spelled[1], spelled[3]] == ["Ġred", "Ġshoes", "Ġblue"]
    assert (text.words < 0).sum() == 1  # a space that became a token of its own is of no word
    assert (text.words == 2).sum() >= 3  # the character's bytes


def test_long_texts_are_cut_into_stretches() -> None:
    """No stretch is longer than allowed, no token is lost, and words keep their class; an empty text gives none."""
    words = ["red", "blue", "jacket", "手机"] * 10
    texts = marker(max_tokens=10).mark([" ".join(words), "  ", "龘"])
    assert texts.lengths.max() == 10
    whole = described(marker(max_tokens=64).mark([" ".join(words)])[0])
    cut = [row for text in texts for row in described(text)]
    assert [row[0] for row in cut] == [row[0] for row in whole] == ["red", "blue", "jacket", "手", "机"] * 10


@given(st.lists(st.text(alphabet="abred12 ,手机龘\t", max_size=30), max_size=5))
def test_marking_together_is_marking_one_by_one(texts: list[str]) -> None:
    """The common table gives back what each text gives alone."""
    together = list(marker().mark(texts))
    alone = [x for text in texts for x in marker().mark([text])]
    assert len(together) == len(alone)
    for left, right in zip(together, alone, strict=True):
        for name in ("ids", "words", "entities", "counts", "classes"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_tokens_are_counted_where_they_may_be_masked() -> None:
    """Special tokens are never predicted, so they count nothing."""
    texts = marker().mark(["red red blue", "red"])
    counts = texts.token_counts(len(TINY))
    assert {TINY.convert_ids_to_tokens(int(i)): counts[i] for i in np.flatnonzero(counts)} == {
        "red": 3,
        "blue": 1,
    }


def test_tokenizers_that_cannot_be_used_are_refused() -> None:
    """Without offsets or a mask token there is an error that says so."""
    with pytest.raises(InputError, match="expected a fast tokenizer"):
        check_tokenizer(SimpleNamespace(is_fast=False))
    with pytest.raises(InputError, match="has no mask token"):
        check_tokenizer(SimpleNamespace(is_fast=True, mask_token_id=None))
