from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.errors import InputError
from towers.tables import read_rows
from towers.train.dataset.row_files import Columns, read_row_file, write_row_file

NAMES = ["query", "title", "label"]
# What a file of lines cannot hold is left out: control characters, ends of lines, lone surrogates.
cells = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """In every format: quotes, commas, Chinese, spaces at the ends."""
    folder = tmp_path_factory.mktemp("formats")
    content = [{"query": a, "title": b, "label": "1"} for a, b in rows]
    for ending in ("csv", "tsv", "jsonl", "json", "csv.gz", "jsonl.gz", "parquet"):
        path = folder / f"rows.{ending}"
        write_row_file(path, content, NAMES)
        assert [row for _, row in read_rows(path)] == content, ending


def test_other_columns_and_types_stay(tmp_path: Path) -> None:
    """A number stays a number in JSON; a column that some rows lack is empty in a table."""
    rows = [{"query": "a", "title": "b", "label": 1, "id": 7}, {"query": "c", "title": "d", "label": 0.5}]
    write_row_file(tmp_path / "x.jsonl", rows, [*NAMES, "id"])
    assert [row for _, row in read_rows(tmp_path / "x.jsonl")] == rows
    write_row_file(tmp_path / "x.csv", rows, [*NAMES, "id"])
    assert (tmp_path / "x.csv").read_text() == "query,title,label,id\na,b,1,7\nc,d,0.5,\n"


def test_the_columns_say_what_a_table_is(tmp_path: Path) -> None:
    """Pairs, texts, or neither, which is told with what was found."""
    for name, head, kind in (("p", "query,title,label", "pairs"), ("t", "text,label,lang", "texts")):
        path = tmp_path / f"{name}.csv"
        path.write_text(f"{head}\na,1,0\n", encoding="utf-8")
        assert read_row_file(path).kind == kind
    (tmp_path / "n.csv").write_text("question,answer\na,b\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"found the columns 'question', 'answer'.*--query-column"):
        read_row_file(tmp_path / "n.csv")
    (tmp_path / "m.csv").write_text("question,answer,ok\na,b,1\n", encoding="utf-8")
    table = read_row_file(tmp_path / "m.csv", Columns(query="question", title="answer", label="ok"))
    assert (table.texts("question"), table.labels) == (["a"], [1.0])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("query,title,label\na,b,maybe\n", "line 2: found 'maybe' as label, expected a number"),
        ("text,label\na,1\nb,\n", "line 3: found '' as label, expected a label"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, text: str, told: str) -> None:
    """With the line as an editor shows it."""
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=told):
        _ = read_row_file(tmp_path / "x.csv").labels


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    """A tab in a .tsv, an unknown ending, a missing folder; and nothing is left behind."""
    rows = [{"query": "a\tb", "title": "c", "label": 1}]
    for name, told in (("x.tsv", "tab or a line break"), ("x.xlsx", r"found \.xlsx"), ("no/x.csv", "folder")):
        with pytest.raises(InputError, match=told):
            write_row_file(tmp_path / name, rows, NAMES)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Killed before the rename: the file is what it was, whole."""
    path = tmp_path / "x.csv"
    path.write_text("old\n", encoding="utf-8")
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from towers.train.dataset import row_files\n"
        "def wait(*names): print('writing', flush=True); time.sleep(60)\n"
        "row_files.os.replace = wait\n"
        "row_files.write_row_file(Path(sys.argv[1]), [{'a': 'b'}] * 1000, ['a'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    assert path.read_text(encoding="utf-8") == "old\n"
    write_row_file(path, [{"a": "b"}], ["a"])
    assert path.read_text(encoding="utf-8") == "a\nb\n"
