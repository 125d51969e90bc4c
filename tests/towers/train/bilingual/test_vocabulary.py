from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.golden.make_tiny import CHARACTERS, WORDS
from towers.tokens import TokenReader
from towers.train.bilingual.vocabulary import (
    SPECIAL,
    Vocabulary,
    chosen_characters,
    chosen_words,
    is_han,
    kept_pieces,
    tokenizer_with,
)

LETTERS = [
    *"abcdefghijklmnopqrstuvwxyz0123456789.,?!'-€",
    *(f"##{x}" for x in "abcdefghijklmnopqrstuvwxyz0123456789"),
]
ENGLISH = [
    "red shoes",
    "How do I cancel my ORDER, please?",
    "café à la carte: 12.50€!",
    "running coats' pockets - reset2reset",
    "a pneumonoultramicroscopic \t word\n",
    "",
]


def base_tokenizer(*, template: bool) -> Tokenizer:
    """A BERT's tokenizer whose special tokens do not have the ids that a bilingual one gives them."""
    pieces = dict.fromkeys(["[PAD]", "[unused0]", *LETTERS, *WORDS, *CHARACTERS, "я", "##я", "の", *SPECIAL])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    base = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    base.normalizer = normalizers.BertNormalizer()
    base.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first, last = (("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"]))
    base.post_processor = (
        processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [first, last])
        if template
        else processors.BertProcessing(last, first)
    )
    base.add_special_tokens(list(SPECIAL))
    base.enable_truncation(8)
    base.enable_padding(length=8)
    return base


BASE = base_tokenizer(template=True)
MADE = Vocabulary(
    pieces=kept_pieces(sorted(BASE.get_vocab(), key=BASE.get_vocab().__getitem__)),
    characters=tuple("取消订单手机红鞋子"),
    words=("取消", "取消订单", "手机", "订单手机", "鞋子"),
)
CONTENT = tokenizer_with(MADE, BASE.to_str())
TOKENIZER = Tokenizer.from_str(CONTENT)


@pytest.fixture(scope="module", params=[True, False], ids=["template", "bert"])
def content(request: pytest.FixtureRequest) -> str:
    return tokenizer_with(MADE, base_tokenizer(template=request.param).to_str())


@pytest.fixture(scope="module")
def reader(content: str, tmp_path_factory: pytest.TempPathFactory) -> TokenReader:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    return TokenReader(path, max_tokens=64)


def names(reader: TokenReader, text: str) -> list[str]:
    return [MADE.tokens[token.id] for token in reader.tokens(text)]


def test_pieces_in_latin_letters_digits_and_signs_stay() -> None:
    """Special tokens come first; other scripts and places that were never used go; the order stays."""
    found = [
        "[PAD]",
        "[unused7]",
        "!",
        "[CLS]",
        "shoe",
        "##s",
        "café",
        "12",
        "я",
        "##я",
        "の",
        "红",
        "€",
        "ß",
        "[UNK]",
    ]
    assert kept_pieces(found) == (*SPECIAL, "!", "shoe", "##s", "café", "12", "€", "ß")


def test_a_tokens_place_is_its_id(content: str) -> None:
    """In the file as in the vocabulary: pieces, characters, words; padding is 0."""
    ids = Tokenizer.from_str(content).get_vocab()
    assert [token for token, _ in sorted(ids.items(), key=lambda entry: entry[1])] == list(MADE.tokens)
    assert sorted(ids.values()) == list(range(len(MADE.tokens)))
    assert ids["[PAD]"] == 0


def test_special_tokens_stand_around_a_text(reader: TokenReader) -> None:
    """With their new ids, around one text and around two."""
    first, last = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
    one, two = reader.ids(["red 手机"])[0].tolist(), reader.ids(["red"], ["手机"])[0].tolist()
    red, phone = MADE.tokens.index("red"), MADE.tokens.index("手机")
    assert one == [first, red, phone, last]
    assert two == [first, red, last, phone, last]
    assert [token.special for token in reader.tokens("red 手机")] == [True, False, False, True]


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_cut_as_before(reader: TokenReader, text: str) -> None:
    """The base tokenizer's tokens, whatever their ids are now."""
    base = base_tokenizer(template=True)
    base.no_padding()
    base.no_truncation()
    assert names(reader, text) == base.encode(text).tokens


def test_the_file_neither_pads_nor_cuts(content: str) -> None:
    assert json.loads(content)["padding"] is json.loads(content)["truncation"] is None


def by_hand(text: str) -> list[str]:
    """The longest word at each place, else a character."""
    found = []
    while text:
        here = max((word for word in MADE.words if text.startswith(word)), key=len, default=text[0])
        found.append(here if here in MADE.tokens else "[UNK]")
        text = text[len(here) :]
    return found


@settings(max_examples=60)
@given(st.text("取消订单手机红鞋子大", max_size=20))
def test_words_are_found_from_the_left_the_longest_first(text: str) -> None:
    """And what they leave falls to characters; those that are no token are unknown."""
    assert TOKENIZER.encode(text, add_special_tokens=False).tokens == by_hand(text)


ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MIXED = st.lists(st.one_of(ANY, st.sampled_from([*MADE.words, *SPECIAL, "red", " ", "##s"])), max_size=6)


def test_any_text_has_tokens(tmp_path: Path) -> None:
    """Whatever a text holds, reading it does not fail, ids exist and places lie inside the text, in order."""
    path = tmp_path / "tokenizer.json"
    path.write_text(CONTENT, encoding="utf-8")
    reader = TokenReader(path, max_tokens=16)

    @settings(max_examples=60)
    @given(MIXED.map("".join))
    def holds(text: str) -> None:
        places: list[Any] = [(t.start, t.stop) for t in reader.tokens(text) if not t.special]
        assert all(0 <= start <= stop <= len(text) for start, stop in places)
        assert places == sorted(places)
        [ids] = reader.ids([text])
        assert 2 <= len(ids) <= 16
        assert 0 <= ids.min() <= ids.max() < len(MADE.tokens)

    holds()


def test_a_word_is_one_token_between_other_scripts(reader: TokenReader) -> None:
    """No space is needed beside it, and English next to it stays whole."""
    assert names(reader, "red手机case")[1:-1] == ["red", "手机", "case"]


def test_frequent_characters_are_chosen() -> None:
    """Those that occur often enough, the most frequent first; nothing but Chinese characters."""
    assert chosen_characters(["红红鞋", "红鞋 red aaa 。。。", "单"], at_least=2) == ("红", "鞋")


@pytest.mark.parametrize(
    ("text", "han"), [("红", True), ("紅", True), ("a", False), ("。", False), ("红鞋", False), ("", False)]
)
def test_a_chinese_character(text: str, han: bool) -> None:
    assert is_han(text) is han


def test_frequent_words_are_chosen() -> None:
    """Words of two to four Chinese characters that occur often enough, the most frequent first, at most so many."""
    texts = ["手机 手机 手机 订单 订单 鞋 鞋 鞋 red", "2024 订单 手机"]
    assert chosen_words(texts, most=5, at_least=3) == ("手机", "订单")
    assert chosen_words(texts, most=5, at_least=4) == ("手机",)
    assert chosen_words(texts, most=1, at_least=1) == ("手机",)
