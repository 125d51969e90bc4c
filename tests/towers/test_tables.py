"""Reading files of rows: every format, every way in which a row can be broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.errors import InputError
from towers.tables import read_rows, require_columns

ROWS = [
    (2, {"id": "a", "title": "red shoe"}),
    (3, {"id": "b", "title": "蓝色的鞋"}),
]


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def read_with_bad(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str, str]]]:
    bad: list[tuple[int, str, str]] = []
    rows = list(read_rows(path, on_bad_row=lambda number, raw, reason: bad.append((number, raw, reason))))
    return rows, bad


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "id,title\na,red shoe\nb,蓝色的鞋\n"),
        ("t.tsv", "id\ttitle\na\tred shoe\nb\t蓝色的鞋\n"),
        ("t.jsonl", '\n{"id": "a", "title": "red shoe"}\n{"id": "b", "title": "蓝色的鞋"}\n'),
        ("t.ndjson", '\n{"id": "a", "title": "red shoe"}\n{"id": "b", "title": "蓝色的鞋"}'),
        ("t.json", '[\n{"id": "a", "title": "red shoe"},\n{"id": "b", "title": "蓝色的鞋"}\n]\n'),
        ("t.json", '\n{"id": "a", "title": "red shoe"}\n{"id": "b", "title": "蓝色的鞋"}\n'),
        ("T.CSV", "id,title\na,red shoe\nb,蓝色的鞋\n"),
    ],
)
def test_every_text_format_gives_rows_with_line_numbers(
    tmp_path: Path, name: str, content: str, gz: str
) -> None:
    """The same rows are read from each format, compressed or not, numbered as an editor numbers lines."""
    assert list(read_rows(written(tmp_path, name + gz, content))) == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.jsonl"])
def test_line_ends_of_every_system_and_a_byte_order_mark_are_accepted(
    tmp_path: Path, name: str, end: str
) -> None:
    """Unix, Windows and old Macintosh line ends give the same rows; a UTF-8 byte order mark is dropped."""
    lines = {
        "t.csv": ["title", "red", "blue"],
        "t.tsv": ["title", "red", "blue"],
        "t.txt": ["", "red", "blue"],
        "t.jsonl": ["", '{"title": "red"}', '{"title": "blue"}'],
    }[name]
    path = written(tmp_path, name, b"\xef\xbb\xbf" + end.join(lines).encode())
    assert list(read_rows(path)) == [(2, {"title": "red"}), (3, {"title": "blue"})]


def test_parquet_rows_are_numbered_from_one(tmp_path: Path) -> None:
    """A parquet row's number is its position, and values keep their types."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"title": ["a", None], "price": [1.5, 2.0], "tags": [["x"], []]}), path)
    assert list(read_rows(path)) == [
        (1, {"title": "a", "price": 1.5, "tags": ["x"]}),
        (2, {"title": None, "price": 2.0, "tags": []}),
    ]


def test_a_broken_parquet_string_costs_its_row(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 in one parquet string do not take the other rows of the batch with them."""
    path = tmp_path / "t.parquet"
    titles = pa.array([b"a", b"\xff\xfe", b"c"], type=pa.binary()).view(pa.string())
    pq.write_table(pa.table({"title": titles}), path)
    rows, bad = read_with_bad(path)
    assert rows == [(1, {"title": "a"}), (3, {"title": "c"})]
    assert [number for number, _, _ in bad] == [2]
    with pytest.raises(InputError, match=r"t.parquet, row 2: not UTF-8"):
        list(read_rows(path))


def test_csv_quotes_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    """A quoted field may hold anything; the row after it is numbered by the line it stands on."""
    content = 'id,title\n1,"two\nlines, ""quoted"""\n\n2,plain\n'
    assert list(read_rows(written(tmp_path, "t.csv", content))) == [
        (2, {"id": "1", "title": 'two\nlines, "quoted"'}),
        (5, {"id": "2", "title": "plain"}),
    ]


def test_tsv_keeps_quotes_that_belong_to_the_text(tmp_path: Path) -> None:
    """A .tsv undoes a spreadsheet's quotes and leaves inches, and quotes around one word, as they are."""
    content = 'a\tb\n27" screen\t"Best" buy\n"27"" screen"\t"\n'
    assert list(read_rows(written(tmp_path, "t.tsv", content))) == [
        (2, {"a": '27" screen', "b": '"Best" buy'}),
        (3, {"a": '27" screen', "b": '"'}),
    ]


BROKEN = [
    ("t.csv", b"id,title\n1,a\n2\n3,c\n", 3, "1 columns, but the header has 2"),
    ("t.csv", b"id,title\n1,a\n2,b,c\n3,c\n", 3, "3 columns"),
    ("t.csv", b"id,title\n1,a\n2,b\xff\n3,c\n", 3, "byte 4 (0xff) is not UTF-8"),
    ("t.csv", b"id,title\n1,a\n2,b\0\n3,c\n", 3, "byte 4 is NUL"),
    ("t.csv", b'id,title\n1,a\n2,"27 inch\n3,c\n', 3, "broken quoting"),
    ("t.csv", b'id,title\n1,a\n2,"b"x\n3,c\n', 3, "broken quoting"),
    ("t.tsv", b"id\ttitle\n1\ta\n2\tb\tx\n3\tc\n", 3, "3 columns"),
    ("t.tsv", b"id\ttitle\n1\ta\n2\t\xc4\xe3\n3\tc\n", 3, "byte 3 (0xc4) is not UTF-8"),
    ("t.jsonl", b'\n{"id": "1", "title": "a"}\n{"id": 2\n{"id": "3", "title": "c"}\n', 3, "not JSON"),
    ("t.jsonl", b'\n{"id": "1", "title": "a"}\n[1, 2]\n{"id": "3", "title": "c"}\n', 3, "found list"),
    ("t.jsonl", b'\n{"id": "1", "title": "a"}\n{"t": "\xff"}\n{"id": "3", "title": "c"}\n', 3, "(0xff)"),
    (
        "t.jsonl",
        b'\n{"id": "1", "title": "a"}\n{"t": "\\ud800"}\n{"id": "3", "title": "c"}\n',
        3,
        "surrogate",
    ),
    (
        "t.jsonl",
        b'\n{"id": "1", "title": "a"}\n' + b"[" * 9**6 + b'\n{"id": "3", "title": "c"}\n',
        3,
        "not JSON",
    ),
    ("t.json", b'[\n{"id": "1", "title": "a"},\n7,\n{"id": "3", "title": "c"}]\n', 3, "found int"),
    ("t.json", b'[\n{"id": "1", "title": "a"},\n{"t":"\xff"},\n{"id": "3", "title": "c"}]', 3, "(0xff)"),
]


@pytest.mark.parametrize(("name", "content", "line", "reason"), BROKEN)
def test_a_broken_row_costs_exactly_that_row(
    tmp_path: Path, name: str, content: bytes, line: int, reason: str
) -> None:
    """The rows around a broken one are read; the caller hears its line, its text and the reason."""
    rows, bad = read_with_bad(written(tmp_path, name, content))
    assert rows == [(2, {"id": "1", "title": "a"}), (4, {"id": "3", "title": "c"})]
    assert [number for number, _, _ in bad] == [line]
    assert reason in bad[0][2]
    assert (bad[0][1] + bad[0][2]).encode()


@pytest.mark.parametrize(("name", "content", "line", "reason"), BROKEN)
def test_without_a_listener_the_first_broken_row_is_refused(
    tmp_path: Path, name: str, content: bytes, line: int, reason: str
) -> None:
    """The error names the file, the line and the reason, and stays short however long the row is."""
    path = written(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        list(read_rows(path))
    message = str(caught.value)
    assert f"{path}, line {line}: " in message
    assert reason in message
    assert len(message) < 700


def test_an_unclosed_quote_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    """One stray quote costs one row even when the rows after it would fit into the open field."""
    path = written(tmp_path, "t.csv", 'title\n"open\n' + "".join(f"t{i}\n" for i in range(50)))
    rows, bad = read_with_bad(path)
    assert [row["title"] for _, row in rows] == [f"t{i}" for i in range(50)]
    assert [number for number, _ in rows] == list(range(3, 53))
    assert [(number, raw) for number, raw, _ in bad] == [(2, '"open')]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"PK", r"found \.xlsx, expected one of \.csv, \.tsv"),
        ("t.parquet.gz", b"PAR1", r"found \.parquet\.gz"),
        ("titles", b"a", "found no extension"),
        ("t.csv", b"", r"is empty \(0 bytes\)"),
        ("t.csv", b"id,title\n", "holds no usable row"),
        ("t.jsonl", b"\n\n", "holds no usable row"),
        ("t.json", b"[]", "holds no usable row"),
        ("t.txt.gz", b"", "holds no usable row"),
        ("t.csv", b"id,id\n1,2\n", "line 1: a name occurs twice"),
        ("t.csv", b"id,\xff\n1,2\n", "line 1: byte 4"),
        ("t.csv", "id,title\n1,2\n".encode("utf-16"), "line 1: byte 1 says UTF-16"),
        ("t.json", b'[{"a": 1},\n{"a": 2', "line 2: not JSON"),
        ("t.json", b'[{"a": 1}\n{"a": 2}]', "line 2: expected a JSON list of objects"),
        ("t.json", b'[{"a": 1}]\nmore', "line 1: expected a JSON list of objects"),
        ("t.json", b'"text"', "line 1: expected a JSON list of objects"),
        ("t.parquet", b"PAR1 and no more", "cannot be read as parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """What holds for the whole file is an error even when broken rows may be skipped."""
    path = written(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as caught:
        read_with_bad(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-12], lambda data: b"xx" + data, lambda data: b"plain"]
)
def test_damaged_gzip_is_refused(tmp_path: Path, damage: Any) -> None:
    """A cut or false .gz file is an error, not a short file."""
    path = tmp_path / "t.txt.gz"
    path.write_bytes(damage(gzip.compress(b"a title\n" * 1000)))
    with pytest.raises(InputError, match="cannot be read to its end"):
        list(read_rows(path))


def test_missing_files_and_directories_are_refused_at_once(tmp_path: Path) -> None:
    """The error comes from the call, before anything is read."""
    with pytest.raises(InputError, match="does not exist"):
        read_rows(tmp_path / "no.csv")
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InputError, match="is not a file"):
        read_rows(tmp_path / "dir.csv")


def test_rows_are_streamed(tmp_path: Path) -> None:
    """The first row comes before the last line has been looked at."""
    path = written(tmp_path, "t.jsonl", '{"a": 1}\n' * 10 + "broken\n")
    assert next(read_rows(path)) == (1, {"a": 1})


def test_errors_of_the_listener_pass_unchanged(tmp_path: Path) -> None:
    """A full disk met while noting a broken row is not mistaken for an unreadable input."""

    def disk_full(number: int, raw: str, reason: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(read_rows(written(tmp_path, "t.jsonl", "broken\n"), on_bad_row=disk_full))


def test_require_columns_names_both_sides_and_a_likely_misspelling() -> None:
    """The message says what was found, what was expected and what may have been meant."""
    require_columns("p.csv", ["query", "title", "label", "more"], ["query", "title"])
    with pytest.raises(InputError) as caught:
        require_columns("p.csv", ["querry", "text"], ["query", "title"])
    message = str(caught.value)
    for part in ["p.csv has no column 'query', 'title'", "found 'querry', 'text'", "Did you mean 'querry'?"]:
        assert part in message


law = settings(deadline=None)  # other work may slow this machine down: no law depends on a clock

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
names = st.lists(text.filter(lambda s: s.strip() == s and s), min_size=1, max_size=4, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, str]]:
    header = draw(names)
    return draw(st.lists(st.fixed_dictionaries(dict.fromkeys(header, text)), min_size=1, max_size=5))


def read_back(name: str, data: bytes) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return [row for _, row in read_rows(written(Path(folder), name, data))]


@law
@given(tables())
def test_csv_written_by_the_standard_library_reads_back(rows: list[dict[str, str]]) -> None:
    """Any table survives csv, whatever its fields hold."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    assert read_back("t.csv", file.getvalue().encode()) == rows


@law
@given(tables())
def test_json_lines_and_json_lists_read_back(rows: list[dict[str, str]]) -> None:
    """Any table survives json lines and an indented json list, escaped or not."""
    for ascii_only in (True, False):
        lines = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
        assert read_back("t.jsonl.gz", lines.encode()) == rows
        listed = json.dumps(rows, ensure_ascii=ascii_only, indent=1)
        assert read_back("t.json", listed.encode()) == rows


@law
@given(tables())
def test_parquet_reads_back(rows: list[dict[str, str]]) -> None:
    """Any table survives parquet."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    assert read_back("t.parquet", file.getvalue()) == rows


@law
@given(
    st.lists(st.lists(text.filter(lambda s: not set(s) & set('\t\r\n"')), min_size=2, max_size=2), min_size=1)
)
def test_plain_tsv_reads_back(rows: list[list[str]]) -> None:
    """Fields without tabs, line breaks and quotes survive tsv as they are."""
    data = "a\tb\n" + "".join("\t".join(row) + "\n" for row in rows)
    assert read_back("t.tsv", data.encode()) == [dict(zip("ab", row, strict=True)) for row in rows]


@law
@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_rows_or_an_input_error(data: bytes) -> None:
    """Whatever a file holds, reading it ends in rows or in an InputError."""
    for name in ["t.csv", "t.tsv", "t.jsonl", "t.json", "t.txt"]:
        with suppress(InputError):
            assert all(isinstance(row, dict) for row in read_back(name, data))
