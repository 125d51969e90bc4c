"""A made-up dictionary and the vocabulary that goes with the tiny tower."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from towers.train.bilingual.dictionary import Entry
from towers.train.bilingual.student import bilingual_student
from towers.train.bilingual.vocabulary import Vocabulary, kept_pieces


@pytest.fixture(scope="session")
def dictionary() -> list[Entry]:
    """Every translation is made of words that the tiny tower knows."""
    return [
        Entry("手机", "手機", ("phone", "headphones")),
        Entry("订单", "訂單", ("order",)),
        Entry("取消", "取消", ("to cancel",)),
        Entry("红", "紅", ("red",)),
        Entry("鞋", "鞋", ("shoes",)),
        Entry("蓝", "藍", ("blue",)),
    ]


@pytest.fixture(scope="session")
def vocabulary(tower: Any) -> Vocabulary:
    ids = tower.tokenizer.get_vocab()
    return Vocabulary(
        pieces=kept_pieces(sorted(ids, key=ids.__getitem__)),
        characters=tuple("手机订单取消红鞋蓝的"),
        words=("手机", "订单", "取消", "取消订单"),
    )


@pytest.fixture
def student(tower: Any, vocabulary: Vocabulary, dictionary: list[Entry]) -> Any:
    """A tower with both layers of the tiny one, in its own space, in evaluation mode; a test may train it."""
    identity = np.eye(16, dtype=np.float32)
    return bilingual_student(
        tower, vocabulary, dictionary, layers=(0, 1), max_tokens=16, rotation=identity
    ).eval()
