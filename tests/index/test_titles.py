from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.ids import MAX_ID_BYTES, hash_ids
from index.titles import Title, TitleStore, write_titles
from towers.errors import InputError

# Anything that UTF-8 can hold; lone surrogates are refused where the input is read.
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
values = st.recursive(
    texts | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
titles = st.builds(Title, id=texts, title=texts, fields=st.dictionaries(texts, values, max_size=3))


def stored(directory: Path, ids: list[str]) -> TitleStore:
    write_titles(directory, [Title(name, f"title of {name}", {}) for name in ids])
    return TitleStore(directory)


@settings(deadline=None, max_examples=25)  # each example writes and syncs files
@given(st.lists(titles, min_size=1, max_size=20, unique_by=lambda title: title.id), texts)
def test_titles_and_ids_survive_the_disk(written: list[Title], other: str) -> None:
    """What is written is read again, whatever the characters, and ids lead to rows as in a dict."""
    with tempfile.TemporaryDirectory() as name:
        write_titles(Path(name), written)
        store = TitleStore(Path(name))
        assert store.titles(range(len(written))) == written
        rows = {title.id: row for row, title in enumerate(written)}
        asked = [title.id for title in reversed(written)] + [other, other + "\0", "", "x" * 5000, "\ud800"]
        assert store.rows_of(asked) == [rows.get(name) for name in asked]


def test_two_ids_with_one_hash_are_two_ids(tmp_path: Path) -> None:
    """A collision of 64-bit hashes never answers with the wrong row.

    The hash goes word by word, so that a second word can be computed which makes up for another first word.
    """
    rng = np.random.default_rng(0)
    first = rng.integers(ord("A"), ord("Z") + 1, (2_000_000, 8), dtype=np.uint8)
    first[:, 0] = ord('"')
    states = hash_ids([row.tobytes() for row in first])
    ending = np.frombuffer(b'0123456"', np.int64)[0]
    endings = (states ^ states[0] ^ ending).view(np.uint8).reshape(-1, 8)
    good = (endings[:, :7] > 34) & (endings[:, :7] < 127) & (endings[:, :7] != ord("\\"))
    others = np.flatnonzero(good.all(axis=1) & (endings[:, 7] == ord('"')))
    different = [i for i in others if (first[i] != first[0]).any()]
    one, two = ((first[i].tobytes() + endings[i].tobytes())[1:-1].decode() for i in (0, different[0]))
    assert one != two
    assert hash_ids([f'"{one}"'.encode()]) == hash_ids([f'"{two}"'.encode()])

    store = stored(tmp_path, ["before", one, two, "after"])
    assert store.rows_of([two, one, "after"]) == [2, 1, 3]
    (tmp_path / "only").mkdir()
    assert stored(tmp_path / "only", [one]).rows_of([two, one]) == [None, 0]


def test_the_hash_of_an_id_does_not_depend_on_its_neighbours() -> None:
    """Ids of any length can be hashed in one call."""
    names = [b"a", b"12345678", b"123456789", b"x" * 100]
    assert [int(hash_ids([name])[0]) for name in names] == hash_ids(names).tolist()
    assert len(set(hash_ids(names).tolist())) == len(names)


def test_an_id_of_the_greatest_length_is_found(tmp_path: Path) -> None:
    """The bound on the length of ids is inclusive."""
    longest = "é" * (MAX_ID_BYTES // 2)
    assert stored(tmp_path, ["a", longest]).row_of(longest) == 1
    assert stored(tmp_path, ["a", longest]).row_of(longest + "é") is None


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_does_not_exist_is_an_error(tmp_path: Path, row: int) -> None:
    """A row outside of the release is an InputError that says which rows there are."""
    with pytest.raises(InputError, match="from 0 to 1"):
        stored(tmp_path, ["a", "b"]).title(row)


def test_the_same_titles_are_the_same_bytes(tmp_path: Path) -> None:
    """Writing depends on the titles alone."""
    written = [Title(f"{i}", f"title {i}", {"colour": "red", "size": i}) for i in range(50)]
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
        write_titles(directory, iter(written))
    one, two = ({path.name: path.read_bytes() for path in directory.iterdir()} for directory in directories)
    assert one == two
