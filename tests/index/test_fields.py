from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.fields import MAX_VALUE_CHARACTERS, MAX_VALUES, FieldFilter, FieldWriter
from towers.errors import InputError


def written(directory: Path, rows: list[dict[str, Any]]) -> FieldWriter:
    writer = FieldWriter()
    for row in rows:
        writer.add(row)
    writer.write(directory)
    return writer


short = st.text(st.characters(codec="utf-8"), max_size=5)
scalars = short | st.integers(-3, 3) | st.booleans() | st.sampled_from([0.5, 1.0])


@settings(deadline=None, max_examples=25)  # each example writes and syncs files
@given(st.lists(st.dictionaries(st.sampled_from("abc"), scalars), min_size=1, max_size=20))
def test_a_filter_finds_the_rows_with_the_value(rows: list[dict[str, Any]]) -> None:
    """For every field and every value, the rows found are those that have it, as text."""
    with tempfile.TemporaryDirectory() as name:
        written(Path(name), rows)
        found = FieldFilter(Path(name))
        as_text = [
            {key: str(v).lower() if isinstance(v, bool) else str(v) for key, v in row.items()} for row in rows
        ]
        for field in found.names:
            for value in {row[field] for row in as_text if field in row}:
                expected = [i for i, row in enumerate(as_text) if row.get(field) == value]
                assert found.rows_where(field, value).tolist() == expected
            assert found.rows_where(field, "a value that is too long").tolist() == []


def test_values_of_other_types_are_compared_as_text(tmp_path: Path) -> None:
    """A filter may give a number or a truth value as itself or as text."""
    written(tmp_path, [{"n": 5, "ok": True}, {"n": "5", "ok": "true"}, {"n": 6}])
    found = FieldFilter(tmp_path)
    assert found.rows_where("n", 5).tolist() == found.rows_where("n", "5").tolist() == [0, 1]
    assert found.rows_where("ok", True).tolist() == [0, 1]
    assert found.rows_where("n", [5]).tolist() == []


def test_types_are_named() -> None:
    """Each kept field has one type, or is mixed."""
    writer = FieldWriter()
    writer.add({"a": "x", "b": 1, "c": [1], "d": 1.5, "e": True})
    writer.add({"a": "y", "b": "1", "c": [], "f": {"k": 1}})
    assert writer.types == {
        "a": "string", "b": "mixed", "c": "list", "d": "number", "e": "boolean", "f": "object",
    }  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    [
        [{"x": str(i)} for i in range(MAX_VALUES + 1)],
        [{"x": "y" * (MAX_VALUE_CHARACTERS + 1)}, {"x": "y"}],
        [{"x": "y"}, {"x": ["a", "list"]}],
    ],
    ids=["too many values", "too long a value", "a list"],
)
def test_a_field_that_does_not_suit_is_no_filter(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Fields with many, long or nested values are kept but not filterable, and the error names those that are."""
    written(tmp_path, [{**row, "brand": "HP"} for row in rows])
    found = FieldFilter(tmp_path)
    assert found.names == ("brand",)
    with pytest.raises(InputError, match="cannot filter on 'x': this release filters on brand"):
        found.rows_where("x", "y")


def test_as_many_values_as_allowed(tmp_path: Path) -> None:
    """The bound on the number of values is inclusive, and repeating a value is no new one."""
    written(tmp_path, [{"x": str(i)} for i in [*range(MAX_VALUES), *range(MAX_VALUES)]])
    assert FieldFilter(tmp_path).rows_where("x", "7").tolist() == [7, MAX_VALUES + 7]


def test_no_fields(tmp_path: Path) -> None:
    """A release without kept fields has no filters, and says so."""
    written(tmp_path, [{}, {}])
    with pytest.raises(InputError, match="filters on no field"):
        FieldFilter(tmp_path).rows_where("brand", "HP")
