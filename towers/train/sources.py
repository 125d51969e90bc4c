"""Recipes: which data a bundle is made from, and where it comes from. A TOML file, checked before any work starts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from towers.errors import InputError

DEFAULT_RECIPE = Path(__file__).with_name("default.toml")
# Stated licences that forbid training weights which are given away.
_RESTRICTED = ("academic", "research", "non-commercial", "noncommercial")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    r"""One file of training data.

    Attributes:
        file: Path, relative to the folder given with --data.
        licence: The licence that its source states.
        origin: Where it comes from.
        unescape: Turn the letters \\u002c into the comma that they stand for, as some collections of tweets need.
    """

    file: str
    licence: str
    origin: str
    unescape: bool = False

    @property
    def name(self) -> str:
        """The file's name without its endings."""
        return file_stem(self.file)


@dataclass(frozen=True)
class BundleRecipe:
    """A whole recipe.

    Attributes:
        base: Checkpoint, as in `base.resolve_checkpoint`; "" for the packaged all-MiniLM-L6-v2.
        base_licence: SPDX identifier of the checkpoint's licence.
        licence: SPDX identifier of the bundle.
        pairs: Sources of pairs for the scorer (and the towers, unless they are frozen).
        texts: Sources of labelled texts for the sentiment head; none leaves it out.
        fit: Settings of `fit.FitRecipe`.
        sentiment: Settings of `sentiment.SentimentRecipe`.
        precision: Settings of `export.Precision`.
        bilingual: Settings of `bilingual.recipe.BilingualRecipe`; empty: the base stays as it is, in one language.
        unlabelled: Sources of texts for a bilingual tower, in either language.
        triples: Sources of a query, a title, and a title that does not match, for the same.
        translated: A set of pairs in English, and the same pairs in Chinese, for the same.
        notes: What users should know of the bundle, for its model card.
    """

    base: str
    base_licence: str
    licence: str
    pairs: tuple[Source, ...]
    texts: tuple[Source, ...]
    fit: Mapping[str, Any]
    sentiment: Mapping[str, Any]
    precision: Mapping[str, Any]
    bilingual: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: tuple[Source, ...] = ()
    triples: tuple[Source, ...] = ()
    translated: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """All of them, of any use."""
        return (*self.pairs, *self.texts, *self.unlabelled, *self.triples, *self.translated)


def file_stem(file: str | Path) -> str:
    """Return a file's name without its endings: "sst5_train.jsonl.gz" is sst5_train."""
    return Path(file).name.split(".")[0]


def read_recipe(path: Path) -> BundleRecipe:
    """Read and check a recipe.

    Raises:
        InputError: No TOML, an unknown or missing key, or data whose licence forbids the use.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise InputError(f"cannot read the recipe {path}: {exc}") from exc
    for kind in ("pairs", "texts", "unlabelled", "triples", "translated"):
        entries = content.get(kind, [])
        content[kind] = tuple(checked(Source, entry, where=f"{path}, [[{kind}]]") for entry in entries)
        for source in content[kind]:
            _check_licence(source, path)
    content["notes"] = tuple(content.get("notes", ()))
    for table in ("fit", "sentiment", "precision"):
        content.setdefault(table, {})
    return checked(BundleRecipe, content, where=str(path))


def checked(kind: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Make a dataclass from a table.

    Raises:
        InputError: Names the keys that are unknown or missing.
    """
    known = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{where}: unknown {', '.join(unknown)}; expected some of {', '.join(known)}")
    try:
        return kind(**values)
    except TypeError as exc:
        raise InputError(f"{where}: {exc}; expected {', '.join(known)}") from exc


def unescape(text: str) -> str:
    r"""Turn escapes that were never decoded, such as the six letters \u002c, into the characters they stand for."""

    def decoded(match: re.Match[str]) -> str:
        units = bytes.fromhex(match.group().replace("\\u", ""))
        return units.decode("utf-16-be", errors="replace")

    return _ESCAPES.sub(decoded, text).replace('\\"', '"')


def _check_licence(source: Source, path: Path) -> None:
    stated = source.licence.lower()
    if any(word in stated for word in _RESTRICTED):
        raise InputError(
            f"{path}: {source.file} states the licence '{source.licence}', which a bundle that is given away may "
            "not be trained on. Remove it from the recipe."
        )
