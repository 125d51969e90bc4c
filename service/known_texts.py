"""From a text to the published title that has it: clients of other services send texts alone, and know no ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from index.titles import DIGEST_BYTES, digest_of

# Titles. Reading all texts takes 5 µs a title (two cores, 2.5 GHz) in a thread that requests have to share, so that
# taking a release into use would be felt for longer than a second.
MOST = 200_000


class Digested(Protocol):
    """The part of index.release.Release that is needed here."""

    @property
    def count(self) -> int:
        """The number of titles."""

    def digests(self) -> np.ndarray:
        """S16 (count,): equal where texts are equal."""


class KnownTexts:
    """The rows of titles by their texts, in 24 bytes a title. Of a very large release it knows none."""

    def __init__(self, release: Digested) -> None:
        digests = release.digests() if release.count <= MOST else np.empty(0, f"S{DIGEST_BYTES}")
        self._rows = np.argsort(digests)
        self._digests = digests[self._rows]

    def rows_of(self, texts: Sequence[str]) -> np.ndarray:
        """The row of a title with each text, int64 (n,); -1 where there is none."""
        if not len(self._digests):
            return np.full(len(texts), -1)
        wanted = np.array([digest_of(text.encode()) for text in texts], self._digests.dtype)
        places = np.searchsorted(self._digests, wanted).clip(max=len(self._digests) - 1)
        found: np.ndarray = np.where(self._digests[places] == wanted, self._rows[places], -1)
        return found
