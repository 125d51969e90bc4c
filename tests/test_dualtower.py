"""The command line: what it imports, how it fails, and what `evaluate` and `bundle` print."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dualtower

MADE_UP = '''
import typer
from towers.errors import BundleError, InputError

app = typer.Typer()

@app.command()
def first(): print("first of a group")

@app.command()
def second(count: int): print("second", count)

def single(text: str, loud: bool = False):
    """Say something."""
    print(text.upper() if loud else text)

def fail(kind: str):
    raise {
        "input": InputError("row 3 is [bold]not[/bold] good"), "bundle": BundleError("no bundle"),
        "system": PermissionError(13, "Permission denied", "out.json"),
        "stop": KeyboardInterrupt(), "fault": RuntimeError("a fault of the program"),
    }[kind]
'''


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Commands of the three kinds, in the table beside the real ones."""
    (tmp_path / "made_up.py").write_text(MADE_UP)
    monkeypatch.syspath_prepend(tmp_path)
    for name, target in {"group": "app", "single": "single", "fail": "fail"}.items():
        monkeypatch.setitem(dualtower.COMMANDS, name, (f"made_up:{target}", "For this test."))
    yield tmp_path
    sys.modules.pop("made_up", None)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=True
    )


def test_help_imports_nothing_heavy() -> None:
    """`dualtower --help` lists every command without any package of ours or of those that they need."""
    heavy = {"torch", "faiss", "onnxruntime", "numpy", "redis", "fastapi", "towers", "index", "service"}
    code = f"import sys, dualtower; print(dualtower.main(), {heavy} & set(sys.modules))"
    for arguments in (["--help"], []):
        done = run("-c", code, *arguments)
        assert done.stdout.endswith("0 set()\n")
        assert done.stderr == ""
        for name, (_, text) in dualtower.COMMANDS.items():
            assert name in done.stdout
            assert text in done.stdout


def test_python_m_dualtower_is_the_same() -> None:
    """`python -m dualtower` runs the same command line, with the same name in its messages."""
    assert run("-m", "dualtower", "--version").stdout.startswith("dualtower ")


def test_a_misspelt_command_is_answered_with_the_likely_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors have status 2 and a hint."""
    assert dualtower.main(["evalute"]) == 2
    assert "Did you mean 'evaluate'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["single", "hello", "--loud"], "HELLO\n"),
        (["group", "first"], "first of a group\n"),
        (["group", "second", "3"], "second 3\n"),
    ],
)
def test_functions_are_commands_and_typers_are_groups(
    made_up: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str
) -> None:
    """Both kinds of object in the table can be called."""
    assert dualtower.main(arguments) == 0
    assert capsys.readouterr().out == printed


def test_only_the_called_command_is_imported(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that cannot be imported does no harm to the others or to the help."""
    (made_up / "made_up_broken.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setitem(dualtower.COMMANDS, "broken", ("made_up_broken:command", "Broken."))
    assert dualtower.main(["single", "hello"]) == 0
    assert dualtower.main(["--help"]) == 0
    with pytest.raises(RuntimeError, match="imported"):
        dualtower.main(["broken"])


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("input", 2, "dualtower: row 3 is [bold]not[/bold] good\n"),
        ("bundle", 1, "dualtower: no bundle\n"),
        ("system", 1, "dualtower: [Errno 13] Permission denied: 'out.json'\n"),
        ("stop", 130, ""),
    ],
)
def test_errors_are_a_message_and_a_status(
    made_up: Path, capsys: pytest.CaptureFixture[str], kind: str, status: int, message: str
) -> None:
    """What a person can put right, or has done, is told in one message, as it was written."""
    assert dualtower.main(["fail", kind]) == status
    assert capsys.readouterr() == ("", message)


def test_a_fault_of_the_program_keeps_its_traceback(made_up: Path) -> None:
    """What nobody foresaw is not made to look like a user's mistake."""
    with pytest.raises(RuntimeError, match="a fault of the program"):
        dualtower.main(["fail", "fault"])


@pytest.mark.parametrize(
    ("package", "way_out"), [("made_up", "dualtower"), ("towers.train", "dualtower[train]")]
)
def test_a_missing_dependency_is_named_with_the_way_out(
    made_up: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    way_out: str,
) -> None:
    """Training commands name the extra, others the package; a missing module of our own stays a fault."""
    (made_up / "needs_more.py").write_text("import surely_not_installed")
    parent = __import__(package, fromlist=["_"])
    monkeypatch.setattr(parent, "__path__", [*getattr(parent, "__path__", []), str(made_up)], raising=False)
    monkeypatch.setitem(dualtower.COMMANDS, "more", (f"{package}.needs_more:command", "Needs more."))
    monkeypatch.setitem(dualtower.COMMANDS, "gone", ("towers.gone:command", "Not there."))
    assert dualtower.main(["more"]) == 1
    told = capsys.readouterr().err
    assert "needs surely_not_installed, which is not installed" in told
    assert f"pip install '{way_out}'" in told
    with pytest.raises(ModuleNotFoundError, match=r"towers\.gone"):
        dualtower.main(["gone"])


def test_a_reader_that_has_gone_is_no_error_to_complain_about() -> None:
    """After `| head` closes the pipe there is status 1 and silence."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys, dualtower; sys.exit(dualtower.main(['--help']))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


@pytest.mark.parametrize("name", list(dualtower.COMMANDS))
def test_every_command_of_the_table_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names modules and objects that are there; help needs no bundle, release or Redis."""
    assert dualtower.main([name, "--help"]) == 0
    assert f"Usage: dualtower {name}" in capsys.readouterr().out


# evaluate and bundle, on a real small bundle.


def written(path: Path, *rows: dict[str, object]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def last_line(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, object]]:
    """What was printed before the last line, and the last line's JSON."""
    table, line = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    return table, json.loads(line)


PAIRS = [
    {"query": query, "title": title, "label": label}
    for query in ("red shoe", "蓝色的帽子", "usb cable")
    for title, label in ((query, 3), (f"{query} new", 2), ("garden hose", 0))
]


def test_evaluate_match_prints_a_table_and_a_json_line(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scorer and cosine stand side by side, and what is positive is said."""
    path = written(tmp_path / "pairs.jsonl", *PAIRS)
    assert dualtower.main(["evaluate", "match", str(path), "--bundle", str(tiny_bundle_path)]) == 0
    table, report = last_line(capsys)
    assert "9 pairs of 3 queries, labels 0 to 3; 6 pairs are positive (label 2 and above)" in table
    assert "AUC" in table
    assert "these pairs" in table
    assert report["evaluate"] == "match"
    assert report["pairs"] == 9
    score, cosine = report["score"], report["cosine"]
    assert isinstance(score, dict)
    assert isinstance(cosine, dict)
    assert score.keys() == cosine.keys()
    assert 0 <= score["auc"] <= 1


def test_evaluate_sentiment_prints_a_table_and_a_json_line(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The confusion matrix counts every text; an undefined metric is null."""
    rows = [{"body": "good", "mood": "positive"}, {"body": "坏", "mood": "negative"}]
    path = written(tmp_path / "texts.jsonl", *rows)
    options = ["--text-column", "body", "--label-column", "mood", "--bundle", str(tiny_bundle_path)]
    assert dualtower.main(["evaluate", "sentiment", str(path), *options]) == 0
    table, report = last_line(capsys)
    assert "macro recall" in table
    assert "neutral 0" in table
    confusion, recall = report["confusion"], report["recall"]
    assert isinstance(confusion, list)
    assert isinstance(recall, list)
    assert sum(map(sum, confusion)) == 2
    assert recall[1] is None


def test_evaluate_search_reads_three_files_or_a_beir_directory(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both forms give the same numbers for the same data."""
    words = ["red shoe", "blue hat", "usb cable", "garden hose"]
    titles = written(tmp_path / "corpus.jsonl", *({"_id": w, "title": "", "text": w} for w in words))
    queries = written(tmp_path / "queries.jsonl", *({"_id": f"q {w}", "text": w} for w in words))
    qrels = tmp_path / "qrels" / "test.tsv"
    qrels.parent.mkdir()
    qrels.write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q {w}\t{w}\t1\n" for w in words))
    options = ["--bundle", str(tiny_bundle_path), "--k", "1", "--k", "4"]
    assert dualtower.main(["evaluate", "search", str(tmp_path), *options]) == 0
    table, of_directory = last_line(capsys)
    files = [
        "--titles",
        str(titles),
        "--queries",
        str(queries),
        "--qrels",
        str(qrels),
        "--title-column",
        "text",
    ]
    assert dualtower.main(["evaluate", "search", *files, *options]) == 0
    _, of_files = last_line(capsys)
    assert "nDCG@10" in table
    assert of_files.pop("data") != of_directory.pop("data")
    assert of_files == of_directory
    cosine = of_files["cosine"]
    assert isinstance(cosine, dict)
    assert cosine["recall@1"] == 1
    assert cosine["recall@4"] == 1


def test_bad_labels_are_told_with_row_and_way_out(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, nothing on stdout, the row on stderr."""
    path = written(tmp_path / "pairs.jsonl", PAIRS[0], {**PAIRS[1], "label": "maybe"})
    assert dualtower.main(["evaluate", "match", str(path), "--bundle", str(tiny_bundle_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"dualtower: {path}, line 2: found 'maybe' as label, expected a number." in err


def test_a_mixture_of_directory_and_files_is_refused(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both forms of `evaluate search` are named."""
    for arguments in ([str(tmp_path), "--titles", "t.csv"], ["--titles", "t.csv"], []):
        assert dualtower.main(["evaluate", "search", *arguments, "--bundle", str(tiny_bundle_path)]) == 2
        assert "BEIR's layout (and at most --qrels), or --titles and --qrels" in capsys.readouterr().err


def test_bundle_shows_the_manifest_and_checks_the_files(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file is listed with its hash; one changed byte is refused."""
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle_path, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    assert dualtower.main(["bundle", str(copy)]) == 0
    shown = capsys.readouterr().out
    for name, entry in manifest["files"].items():
        assert name in shown
        assert entry["sha256"] in shown
    assert manifest["bundle_id"] in shown
    changed = copy / next(iter(manifest["files"]))
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    assert dualtower.main(["bundle", str(copy)]) == 1
    assert f"dualtower: {changed} has SHA-256" in capsys.readouterr().err
