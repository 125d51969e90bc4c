"""Small labelled data that reads like real data, and errors to plant in it."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Sequence

import numpy as np

_THINGS = [
    "kettle",
    "hotel",
    "charger",
    "jacket",
    "restaurant",
    "headset",
    "novel",
    "mattress",
    "app",
    "courier",
]
_GOOD = ["wonderful", "excellent", "lovely", "perfect", "superb", "delightful"]
_BAD = ["awful", "terrible", "useless", "dreadful", "horrible", "disgusting"]
_FRAMES = [
    "The {thing} was {word} and I told everybody about it.",
    "What {word} service from the people who sold me this {thing}!",
    "My sister ordered a {thing} as well, it turned out {word} too.",
    "After three weeks with the {thing} I can say it is simply {word}.",
]
_THINGS_ZH = ["水壶", "酒店", "充电器", "外套", "餐厅", "耳机", "小说", "床垫", "快递", "手机壳"]
_GOOD_ZH = ["非常满意", "特别喜欢", "超级好用", "十分完美"]
_BAD_ZH = ["非常失望", "特别讨厌", "质量太差", "十分糟糕"]
_FRAMES_ZH = ["这个{thing}用了两个星期，感觉{word}。", "给妈妈买的{thing}，她说{word}，已经告诉邻居了。"]


def sentences(*, seed: int = 0) -> tuple[list[str], list[int]]:
    """640 different English and Chinese opinions, 1 or -1, in a drawn order."""
    rows = []
    for things, good, bad, frames in (
        (_THINGS, _GOOD, _BAD, _FRAMES),
        (_THINGS_ZH, _GOOD_ZH, _BAD_ZH, _FRAMES_ZH),
    ):
        for thing, frame in itertools.product(things, frames):
            rows += [(frame.format(thing=thing, word=word), 1) for word in good]
            rows += [(frame.format(thing=thing, word=word), -1) for word in bad]
    random.Random(seed).shuffle(rows)
    return [text for text, _ in rows], [label for _, label in rows]


def word_vectors(texts: Sequence[str], *, dim: int = 64) -> np.ndarray:
    """What a tower would say that knows words alone: hashed 3-grams, rows of length 1."""
    vectors = np.zeros((len(texts), dim), np.float32)
    for i, text in enumerate(texts):
        low = f" {text.lower()} "
        for j in range(len(low) - 2):
            vectors[i, zlib.crc32(low[j : j + 3].encode()) % dim] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
