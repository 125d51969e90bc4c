from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.titles import Title, TitleStore, digest_of, write_titles
from service import known_texts
from service.known_texts import KnownTexts


class Texts:
    """A release of which only the texts matter."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.count = len(texts)

    def digests(self) -> np.ndarray:
        return np.array([digest_of(text.encode()) for text in self.texts], "S16")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), st.lists(st.text("ab")))
def test_it_finds_what_a_dictionary_finds(titles: list[str], others: list[str]) -> None:
    """A row with the text, whichever of equal ones; -1 for texts that no title has."""
    rows = KnownTexts(Texts(titles)).rows_of([*titles, *others])
    for text, row in zip([*titles, *others], rows.tolist(), strict=True):
        assert (titles[row] == text) if text in titles else row == -1


def test_the_texts_of_a_release_are_found(tmp_path: Path) -> None:
    """By the digests that a title store reads from its file."""
    titles = [Title(f"t-{number}", f"蓝牙 headset {number}", {}) for number in range(50)]
    write_titles(tmp_path, titles)

    class Release:
        count = len(titles)
        digests = TitleStore(tmp_path).digests

    known = KnownTexts(Release())
    assert known.rows_of([title.title for title in reversed(titles)]).tolist() == [*range(49, -1, -1)]


def test_of_a_very_large_release_it_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its texts are not even read."""
    monkeypatch.setattr(known_texts, "MOST", 1)
    assert KnownTexts(Texts(["red", "blue"])).rows_of(["red", "green"]).tolist() == [-1, -1]
    assert KnownTexts(Texts(["red"])).rows_of(["red", "green"]).tolist() == [0, -1]
