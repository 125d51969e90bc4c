"""Short texts without labels, for distillation: queries and titles as they are, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from towers.errors import InputError
from towers.tables import read_rows
from towers.train.data import text_key

COLUMNS = ("query", "title", "text")
LONGEST = (
    300  # characters: some 70 tokens; longer ones are no queries or titles, and cost as much as five of these
)


def read_short_texts(
    sources: Sequence[Path],
    *,
    columns: Sequence[str] = COLUMNS,
    longest: int = LONGEST,
    without: Iterable[str] = (),
) -> list[str]:
    """Read the texts of tables or of .txt files, whatever labels stand beside them.

    Args:
        sources: csv, tsv, json lines, json, parquet or txt files.
        columns: Columns to take; a table must have one of them at least.
        longest: Longer texts, in characters, are left out.
        without: Texts to leave out, those of an evaluation for example.

    Raises:
        InputError: A file without any of the columns, or no text at all.
    """
    read = (text for path in sources for text in _texts_of(path, columns))
    texts = distinct_texts(read, longest=longest, without=without)
    if not texts:
        raise InputError(
            f"found no text of 1 to {longest} characters in {', '.join(str(path) for path in sources) or 'no file'}, "
            "expected queries or titles"
        )
    return texts


def distinct_texts(texts: Iterable[str], *, longest: int = LONGEST, without: Iterable[str] = ()) -> list[str]:
    """Return the texts in their order, without repeats (other case or spaces is the same text) and empty ones."""
    left_out = {text_key(text) for text in without} | {""}
    first: dict[str, str] = {}
    for text in texts:
        key = text_key(text)
        if len(text) <= longest and key not in left_out:
            first.setdefault(key, text)
    return list(first.values())


def _texts_of(path: Path, columns: Sequence[str]) -> Iterator[str]:
    for place, row in read_rows(path):
        taken = [row[column] for column in columns if isinstance(row.get(column), str)]
        if not taken:
            raise InputError(
                f"{path}, {place}: found the columns {', '.join(map(str, row))}, expected text in one of "
                f"{', '.join(columns)}"
            )
        yield from taken
