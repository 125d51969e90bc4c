"""What a bilingual tower is made from: labelled pairs, texts of two languages, and translations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from towers.errors import InputError
from towers.tables import read_rows
from towers.train.bilingual.vocabulary import is_han
from towers.train.data import PairSet, Split, read_pair_set, split_pairs, text_key
from towers.train.short_texts import COLUMNS, distinct_texts
from towers.train.sources import BundleRecipe, Source


@dataclass(frozen=True)
class Material:
    """What a bilingual tower is made from.

    Attributes:
        sets: Labelled pairs; those in Chinese teach the tower.
        splits: Which pairs of each set are for training, and which are held out.
        triples: Query, title, and a title that does not match.
        english: Texts without labels.
        chinese: Texts without labels.
        translated: Two labelled sets of pairs, the English one and its Chinese translation, by rows.
    """

    sets: Sequence[PairSet]
    splits: Sequence[Split]
    triples: Sequence[tuple[str, str, str]]
    english: Sequence[str]
    chinese: Sequence[str]
    translated: tuple[PairSet, PairSet] | None = None

    @property
    def training(self) -> list[PairSet]:
        """The pairs of each set that are for training."""
        return [pairs.take(split.train) for pairs, split in zip(self.sets, self.splits, strict=True)]

    @cached_property
    def dev_texts(self) -> set[str]:
        """The keys of all texts of dev pairs."""
        dev = [pairs.take(split.dev) for pairs, split in zip(self.sets, self.splits, strict=True)]
        return {text_key(text) for pairs in dev for text in (*pairs.queries, *pairs.titles)}

    def unseen(self, texts: Sequence[str]) -> list[str]:
        """Return the different ones of some texts that are in no dev pair."""
        return [text for text in distinct_texts(texts) if text_key(text) not in self.dev_texts]

    @property
    def unseen_triples(self) -> list[tuple[str, ...]]:
        """The triples of which no text is in a dev pair."""
        return [triple for triple in self.triples if not self.dev_texts & set(map(text_key, triple))]

    @property
    def key(self) -> str:
        """The SHA-256 of all of it."""
        digest = hashlib.sha256(json.dumps([self.triples, self.english, self.chinese]).encode())
        for pairs in (*self.sets, *(self.translated or ())):
            digest.update(
                json.dumps([pairs.name, pairs.queries, pairs.titles, pairs.labels.tolist()]).encode()
            )
        for split in self.splits:
            digest.update(split.train.tobytes() + split.dev.tobytes())
        return digest.hexdigest()


def read_material(
    recipe: BundleRecipe, sets: Sequence[PairSet], *, split: Mapping[str, Any], data: Path
) -> tuple[Material, list[dict[str, Any]]]:
    """Read all that a recipe names, and what a manifest says of it.

    Args:
        recipe: Names the sources.
        sets: Its labelled pairs.
        split: How `fit` will split them, so that its dev pairs stay unseen: the arguments of `split_pairs`.
        data: Folder to which the recipe's files are relative.

    Returns:
        The material, and name, rows and licence of each set in it that teaches the tower.

    Raises:
        InputError: A file is unreadable or lacks a column, or `translated` names another number of sets than two.
    """
    texts = {source: read_texts_of([source], data) for source in recipe.unlabelled}
    languages = [(text, is_chinese([text])) for found in texts.values() for text in found]
    translated = [read_pair_set(data / source.file, licence=source.licence) for source in recipe.translated]
    if len(translated) not in (0, 2):
        raise InputError(
            f"found {len(translated)} sets as [[translated]], expected none or two: the English one and the Chinese one"
        )
    material = Material(
        sets=sets,
        splits=split_pairs(sets, **split),
        triples=read_triples(recipe.triples, data),
        english=[text for text, chinese in languages if not chinese],
        chinese=[text for text, chinese in languages if chinese],
        translated=(translated[0], translated[1]) if translated else None,
    )
    used = [(source.name, len(found), source.licence) for source, found in texts.items()]
    used += [(source.name, len(read_triples([source], data)), source.licence) for source in recipe.triples]
    used += [(pairs.name, pairs.rows, pairs.licence) for pairs in translated]
    used += [(pairs.name, pairs.rows, pairs.licence) for pairs in sets if is_chinese(pairs.queries[:200])]
    return material, [{"name": name, "rows": rows, "licence": licence} for name, rows, licence in used]


def read_texts_of(sources: Sequence[Source], data: Path, *, columns: Sequence[str] = COLUMNS) -> list[str]:
    """Read all texts of some columns, whatever stands beside them."""
    found = []
    for source in sources:
        for _, row in read_rows(data / source.file):
            found += [row[column] for column in columns if isinstance(row.get(column), str)]
    return found


def read_triples(sources: Sequence[Source], data: Path) -> list[tuple[str, str, str]]:
    """Read rows of query, title and negative.

    Raises:
        InputError: A row lacks one of them.
    """
    return [
        _triple(row, f"{data / source.file}, {place}")
        for source in sources
        for place, row in read_rows(data / source.file)
    ]


def _triple(row: Mapping[str, Any], place: str) -> tuple[str, str, str]:
    query, title, negative = (row.get(column) for column in ("query", "title", "negative"))
    if not (isinstance(query, str) and isinstance(title, str) and isinstance(negative, str)):
        raise InputError(
            f"{place}: found the columns {', '.join(map(str, row))}, expected texts in query, title and negative"
        )
    return query, title, negative


def is_chinese(texts: Iterable[str]) -> bool:
    """Say whether most of some texts have Chinese characters."""
    found = [any(map(is_han, text)) for text in texts]
    return sum(found) * 2 > len(found)
