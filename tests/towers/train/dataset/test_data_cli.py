"""`dualtower data`, on real files, with the tiny bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dualtower
from tests.towers.train.made_up_data import sentences
from towers.tables import read_rows
from towers.train.dataset.negation import negations

EXAMPLES = Path(__file__).parents[4] / "examples"


def rows_of(path: Path) -> list[dict[str, object]]:
    return [row for _, row in read_rows(path)]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)[-1])
    return found


def write_texts(path: Path, texts: list[str], labels: list[int]) -> Path:
    lines = [
        json.dumps({"id": i, "text": t, "label": x})
        for i, (t, x) in enumerate(zip(texts, labels, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_clean_keeps_every_row_in_one_of_two_files(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all their columns; the removed ones say their line, why, and against which line."""
    texts, labels = sentences()
    texts, labels = [*texts[:200], texts[3].upper(), texts[4]], [*labels[:200], labels[3], -labels[4]]
    labels = [-x if i in (50, 60, 70, 80, 90, 100) else x for i, x in enumerate(labels)]
    source, out = write_texts(tmp_path / "texts.jsonl", texts, labels), tmp_path / "kept.jsonl"
    command = ["data", "clean", str(source), "--out", str(out), "--bundle", str(tiny_bundle_path)]
    assert dualtower.main(command) == 0
    told = last_line(capsys)
    kept, removed = rows_of(out), rows_of(tmp_path / "kept.removed.jsonl")
    assert sorted([row["id"] for row in [*kept, *removed]]) == list(range(202))
    assert {
        row["id"]: (row["removed_reason"], row["removed_partner"])
        for row in removed
        if row["id"] in (4, 200, 201)
    } == {
        4: ("conflicting label", 202),
        200: ("exact duplicate", 4),
        201: ("conflicting label", 5),
    }
    assert all(row["removed_line"] == row["id"] + 1 for row in removed)  # type: ignore[operator]
    assert told["kept"] == len(kept)
    assert told["kind"] == "texts"
    assert sum(
        told[name]
        for name in ("exact duplicate", "conflicting label", "likely label error", "near duplicate")
    ) == len(removed)  # type: ignore[misc]
    assert len({row["id"] for row in removed} & {50, 60, 70, 80, 90, 100}) >= 3
    assert dualtower.main(command) == 2
    assert "exists" in capsys.readouterr().err
    assert dualtower.main([*command, "--replace", "--no-label-errors"]) == 0
    assert last_line(capsys)["likely label error"] == 0


def test_clean_finds_out_that_these_are_pairs(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the columns; the format is that of the name, and a recipe's settings stand unless an option says else."""
    (tmp_path / "r.toml").write_text("[clean]\nconflicts = 'drop'\nratio = 0.1\n", encoding="utf-8")
    out = tmp_path / "kept.csv.gz"
    command = [
        "data",
        "clean",
        str(EXAMPLES / "pairs.tsv"),
        "--out",
        str(out),
        "--bundle",
        str(tiny_bundle_path),
    ]
    assert dualtower.main([*command, "--recipe", str(tmp_path / "r.toml"), "--ratio", "0.2"]) == 0
    told = last_line(capsys)
    assert (told["kind"], told["rows"]) == ("pairs", 240)
    assert told["recipe"]["conflicts"] == "drop"  # type: ignore[index]
    assert told["recipe"]["ratio"] == 0.2  # type: ignore[index]
    removed = sum(1 for _ in read_rows(tmp_path / "kept.removed.csv.gz")) if told["kept"] != 240 else 0
    assert len(rows_of(out)) + removed == 240


@pytest.mark.parametrize("name", ["pairs.tsv", "sentiment.tsv"])
def test_augment_writes_the_rows_and_new_ones_after_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Labels and other columns kept, negations too; the same command writes the same bytes."""
    outs = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    for out in outs:
        assert dualtower.main(["data", "augment", str(EXAMPLES / name), "--out", str(out)]) == 0
    told = last_line(capsys)
    given, made = rows_of(EXAMPLES / name), rows_of(outs[0])
    assert made[: len(given)] == given
    assert len(made) == len(given) + told["new"]  # type: ignore[operator]
    assert outs[0].read_bytes() == outs[1].read_bytes()
    texts = ("query", "title") if name == "pairs.tsv" else ("text",)
    for row in made[len(given) :]:
        unchanged = {column: value for column, value in row.items() if column not in texts}
        assert any(unchanged.items() <= old.items() and said(row, texts) == said(old, texts) for old in given)


def said(row: dict[str, object], columns: tuple[str, ...]) -> object:
    return negations(" ".join(str(row[column]) for column in columns))


def test_augment_with_a_teacher_recombines_pairs(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A saved CrossEncoder labels them; texts cannot be recombined."""
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(checkpoint), num_labels=1, device="cpu").save_pretrained(str(tmp_path / "teacher"))
    command = ["data", "augment", str(EXAMPLES / "pairs.tsv"), "--teacher", str(tmp_path / "teacher")]
    (tmp_path / "r.toml").write_text("[augment]\ncertain = 0.5\n", encoding="utf-8")
    assert (
        dualtower.main([*command, "--out", str(tmp_path / "p.csv"), "--recipe", str(tmp_path / "r.toml")])
        == 0
    )
    told = last_line(capsys)
    assert told["scored"] == 240
    assert len(rows_of(tmp_path / "p.csv")) == 240 + told["new"]  # type: ignore[operator]
    command[2] = str(EXAMPLES / "sentiment.tsv")
    assert dualtower.main([*command, "--out", str(tmp_path / "s.csv")]) == 2
    assert "expected pairs" in capsys.readouterr().err


def test_mine_writes_labelled_pairs(
    tmp_path: Path, tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Query, title, label 0 and cosine; none of them is in the table."""
    out = tmp_path / "negatives.csv"
    command = ["data", "mine", str(EXAMPLES / "pairs.tsv"), "--titles", str(EXAMPLES / "titles.tsv")]
    assert (
        dualtower.main([*command, "--out", str(out), "--bundle", str(tiny_bundle_path), "--count", "2"]) == 0
    )
    told = last_line(capsys)
    mined = rows_of(out)
    assert len(mined) == told["hard negatives"] > 0  # type: ignore[operator]
    assert list(mined[0]) == ["query", "title", "label", "cosine"]
    assert {row["label"] for row in mined} == {"0"}
    known = {(row["query"], row["title"]) for row in rows_of(EXAMPLES / "pairs.tsv")}
    assert not known & {(row["query"], row["title"]) for row in mined}
    assert max(sum(row["query"] == query for row in mined) for query in {row["query"] for row in mined}) <= 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["clean", "pairs.tsv", "--out", "pairs.tsv"], "expected files other than"),
        (["clean", "pairs.tsv", "--out", "x.xlsx"], "found .xlsx"),
        (["clean", "pairs.tsv", "--out", "x.csv", "--conflicts", "maybe"], "majority"),
        (["clean", "titles.tsv", "--out", "x.csv"], "found the columns"),
        (["augment", "pairs.tsv", "--out", "x.csv", "--operations", "delete,rewrite"], "expected some of"),
        (["mine", "sentiment.tsv", "--out", "x.csv"], "expected pairs"),
        (["clean", "pairs.tsv", "--out", "x.csv", "--recipe", "no.toml"], "cannot read the recipe"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    """Status 2, one message, no file."""
    for name in ("pairs.tsv", "titles.tsv", "sentiment.tsv"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    placed = [str(tmp_path / x) if "." in x else x for x in arguments]
    assert dualtower.main(["data", *placed]) == 2
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.tsv", "sentiment.tsv", "titles.tsv"]
