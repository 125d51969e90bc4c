from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index.ids import MAX_ID_BYTES
from index.intake import BadRows, Columns, read_titles
from index.titles import Title
from towers.errors import InputError


def read(path: Path, *, columns: Columns | None = None) -> tuple[list[Title], list[tuple[int, str]]]:
    """The titles, and the bad rows with their reasons."""
    bad_file = path.with_name("bad.jsonl")
    with BadRows(bad_file) as bad:
        titles = list(read_titles(path, columns=columns or Columns(), bad=bad))
    rows = [json.loads(line) for line in bad_file.read_text().splitlines()]
    assert len(rows) == bad.count
    return titles, [(row["row"], row["reason"]) for row in rows]


def test_the_formats_give_the_same_titles(tmp_path: Path) -> None:
    """csv, tsv, json lines, gzip and parquet lead to the same titles."""
    rows = [{"id": "a", "title": "红色 鞋", "brand": "HP"}, {"id": "b", "title": "shoe", "brand": "x"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "t.jsonl").write_text(lines)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "t.csv").write_text("id,title,brand\n" + "".join(",".join(r.values()) + "\n" for r in rows))
    (tmp_path / "t.tsv").write_text(
        "id\ttitle\tbrand\n" + "".join("\t".join(r.values()) + "\n" for r in rows)
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    expected = [Title(row["id"], row["title"], {"brand": row["brand"]}) for row in rows]
    for path in sorted(tmp_path.iterdir()):
        assert read(path) == (expected, []), path.name


def test_a_txt_has_its_line_numbers_as_ids(tmp_path: Path) -> None:
    """Lines of a .txt are titles; the id is the line as an editor counts, blank ones included."""
    (tmp_path / "t.txt").write_text("first\n\nthird\n")
    assert read(tmp_path / "t.txt")[0] == [Title("1", "first", {}), Title("3", "third", {})]


def test_columns_are_selectable(tmp_path: Path) -> None:
    """The id, the title and the kept fields can have any name, also that of another's default."""
    (tmp_path / "t.csv").write_text("id,sku,name,brand,note\n1,a,shoe,HP,x\n")
    columns = Columns(id="sku", title="name")
    assert read(tmp_path / "t.csv", columns=columns)[0] == [
        Title("a", "shoe", {"id": "1", "brand": "HP", "note": "x"})
    ]
    columns = Columns(id="sku", title="name", kept=("brand",))
    assert read(tmp_path / "t.csv", columns=columns)[0] == [Title("a", "shoe", {"brand": "HP"})]
    columns = Columns(id="sku", title="name", kept=())
    assert read(tmp_path / "t.csv", columns=columns)[0] == [Title("a", "shoe", {})]


@pytest.mark.parametrize(
    "columns", [Columns(id="sku"), Columns(title="name"), Columns(kept=("brand", "nope"))]
)
def test_a_missing_column_is_named_at_once(tmp_path: Path, columns: Columns) -> None:
    """A table without a column is refused with the names it has, before any row is judged."""
    (tmp_path / "t.csv").write_text("id,title,brand\n1,,HP\n")
    with pytest.raises(InputError, match="found 'id', 'title', 'brand'"):
        read(tmp_path / "t.csv", columns=columns)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "a", "title": "again"}, "the id 'a' is already that of row 1"),
        ({"id": "b", "title": " \t"}, "the title (column 'title') is empty"),
        ({"id": "b", "title": None}, "the title (column 'title') is empty"),
        ({"id": "b", "title": ["x"]}, "the title (column 'title') is ['x'], expected text"),
        ({"id": "b", "title": True}, "the title (column 'title') is True, expected text"),
        ({"id": "", "title": "x"}, "the id (column 'id') is empty"),
        ({"title": "x"}, "no column 'id' (it has 'title')"),
        ({"id": None, "title": "x"}, "the id (column 'id') is empty"),
        ({"id": 1.5, "title": "x"}, "the id (column 'id') is 1.5, expected text"),
        ({"id": False, "title": "x"}, "the id (column 'id') is False, expected text"),
        ({"id": "x" * 600, "title": "x"}, f"has 600 bytes, at most {MAX_ID_BYTES}"),
        ({"id": "b", "name": "x"}, "no column 'title' (it has 'id', 'name')"),
    ],
)
def test_a_bad_row_has_its_number_and_a_reason(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    """Every row that cannot be a title is reported with its number, and the rows around it are read."""
    rows = [{"id": "a", "title": "first"}, row, {"id": "c", "title": "last"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles, bad = read(tmp_path / "t.jsonl")
    assert [title.id for title in titles] == ["a", "c"]
    assert bad[0][0] == 2
    assert reason in bad[0][1]


def test_rows_that_are_broken_in_the_file_are_bad_rows(tmp_path: Path) -> None:
    """What the reader of tables cannot parse is reported with the others, in order."""
    (tmp_path / "t.jsonl").write_bytes(
        b'{"id": "a", "title": "x"}\n{oops\n{"id": "b", "title": ""}\n\xff\xfe{}\n{"id": "c", "title": "y"}\n'
    )
    titles, bad = read(tmp_path / "t.jsonl")
    assert [title.id for title in titles] == ["a", "c"]
    assert [number for number, _ in bad] == [2, 3, 4]


def test_a_duplicate_on_the_same_line_is_found(tmp_path: Path) -> None:
    """In a .json list several rows can have one line number; they still may not have one id."""
    (tmp_path / "t.json").write_text('[{"id": "a", "title": "x"}, {"id": "a", "title": "y"}]')
    titles, bad = read(tmp_path / "t.json")
    assert (len(titles), len(bad)) == (1, 1)


def test_numbers_are_taken_as_ids_and_titles(tmp_path: Path) -> None:
    """A number in a typed file means its digits; a whole number that became a float is a whole number."""
    pq.write_table(pa.table({"id": [7.0, 8.0], "title": [1984, 2001]}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")[0] == [Title("7", "1984", {}), Title("8", "2001", {})]


def test_kept_values_become_json(tmp_path: Path) -> None:
    """Dates become ISO text, gaps and NaN are absent, nested values stay; bytes are refused."""
    row = {
        "id": "a",
        "title": "x",
        "when": datetime.date(2024, 2, 3),
        "gap": None,
        "nan": float("nan"),
        "l": [1],
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")[0] == [Title("a", "x", {"when": "2024-02-03", "l": [1]})]
    pq.write_table(pa.Table.from_pylist([{**row, "raw": b"\0"}]), tmp_path / "b.parquet")
    assert "'raw' holds bytes" in read(tmp_path / "b.parquet")[1][0][1]


def test_the_refusal_shows_the_first_rows_and_counts_all(tmp_path: Path) -> None:
    """The error has ten rows with numbers, says how many there are, and names both ways out."""
    rows = [{"id": "a", "title": "good"}] + [{"id": "a", "title": "bad"}] * 12
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with BadRows(None) as bad:
        list(read_titles(tmp_path / "t.jsonl", columns=Columns(), bad=bad))
    text = str(bad.refusal(tmp_path / "t.jsonl"))
    assert "12 bad rows" in text
    assert "row 11: " in text
    assert "row 12: " not in text
    assert "2 more" in text
    assert "--on-bad-row skip" in text


def test_a_file_that_ends_too_early_says_so_beside_its_bad_rows(tmp_path: Path) -> None:
    """A truncated file is an error of its own, not one more bad row that could be left out."""
    lines = b'{"id": "a", "title": ""}\n' + b"".join(b'{"id": "%d", "title": "x"}\n' % i for i in range(9999))
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
    with pytest.raises(InputError, match=r"cannot be read to its end(.|\n)*row 1: the title"):
        read(tmp_path / "t.jsonl.gz")


def test_when_no_row_is_usable_the_reasons_are_shown(tmp_path: Path) -> None:
    """A file of nothing but broken rows is refused with the rows, not with 'no rows'."""
    (tmp_path / "t.jsonl").write_text("{oops\n")
    with pytest.raises(InputError, match="row 1: not JSON"):
        read(tmp_path / "t.jsonl")
