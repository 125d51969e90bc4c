from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.conftest import TINY
from towers import Bundle, InputError
from towers.bundle import LAYOUT

words = st.sampled_from(["red", "electroencephalography", "今天", "天气", "é", "①", "😀", "  ", "x" * 50])
texts = st.lists(words, max_size=60).map(" ".join)


@pytest.fixture(scope="module")
def uncut() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(TINY / LAYOUT.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@given(text=texts)
def test_tokens_are_those_of_a_tokenizer_that_never_cuts(
    tiny_bundle: Bundle, uncut: Tokenizer, text: str
) -> None:
    """The bundle's own cuts at 32 tokens; what it cut off is put together again."""
    expected = uncut.encode(text)
    tokens = tiny_bundle.tokens(text)
    assert [token.id for token in tokens] == expected.ids
    assert [token.special for token in tokens] == [bool(mask) for mask in expected.special_tokens_mask]
    inner = [token for token in tokens if not token.special]
    assert [(token.start, token.stop) for token in inner] == [
        place for place, mask in zip(expected.offsets, expected.special_tokens_mask, strict=True) if not mask
    ]
    assert all(token.text == text[token.start : token.stop] for token in inner)
    assert [token.text for token in tokens if token.special] == ["[CLS]", "[SEP]"]


@given(several=st.lists(texts, max_size=4))
def test_full_counts_are_those_of_the_tokens(tiny_bundle: Bundle, several: list[str]) -> None:
    """Of whole texts, while `count_tokens` says what the towers read of them."""
    counts = tiny_bundle.full_counts(several)
    assert counts == [len(tiny_bundle.tokens(text)) for text in several]
    assert [min(count, tiny_bundle.max_tokens) for count in counts] == [
        tiny_bundle.count_tokens(text) for text in several
    ]


def test_half_a_surrogate_pair_is_refused(tiny_bundle: Bundle) -> None:
    """As everywhere else where a text comes in."""
    with pytest.raises(InputError, match="surrogate"):
        tiny_bundle.tokens("\ud800")
    with pytest.raises(InputError, match="text 1 "):
        tiny_bundle.full_counts(["red", "\ud800"])
