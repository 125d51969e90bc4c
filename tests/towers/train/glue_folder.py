"""Writes tiny files of all nine GLUE tasks in the official layouts, with their odd ways."""

from __future__ import annotations

from pathlib import Path

GOOD, BAD = ["good", "great", "love", "soft"], ["bad", "terrible", "late", "lost"]
THINGS = ["coat", "shoes", "tea", "phone", "card", "hat", "dress", "book", "shirt", "kids"]


def sentence(i: int, good: bool) -> str:
    return f"the {(GOOD if good else BAD)[i % 4]} {THINGS[i % 10]} {i}"


def write_glue(root: Path, *, rows: int = 24) -> Path:
    """Write the folder of the official archive; returns it."""
    cola(root / "CoLA", rows)
    plain = {
        "SST-2": (["sentence", "label"], lambda i: [sentence(i, i % 2 == 1), str(i % 2)]),
        "QQP": (
            ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
            lambda i: [str(i), "7", "8", *pair(i), str(i % 2)],
        ),
        "QNLI": (["index", "question", "sentence", "label"], lambda i: [str(i), *pair(i), inferred(i)]),
        "RTE": (["index", "sentence1", "sentence2", "label"], lambda i: [str(i), *pair(i), inferred(i)]),
        "WNLI": (["index", "sentence1", "sentence2", "label"], lambda i: [str(i), *pair(i), str(i % 2)]),
        "STS-B": (
            [
                "index",
                "genre",
                "filename",
                "year",
                "old_index",
                "source1",
                "source2",
                "sentence1",
                "sentence2",
                "score",
            ],
            lambda i: [
                str(i),
                "g",
                "f",
                "2012",
                "0",
                "s",
                "s",
                *pair(i),
                f"{5 * (i % 2) - (i % 3) / 10 * (i % 2):.3f}",
            ],
        ),
    }
    for folder, (header, make) in plain.items():
        made = [make(i) for i in range(rows)]
        write(root / folder / "train.tsv", [header, *made])
        write(root / folder / "dev.tsv", [header, *made[: rows // 2]])
        write_test(root / folder / "test.tsv", header, made)
    with (root / "QQP" / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("99\t1\t2\ta question without the rest\n")  # as the real file has some
    mnli(root / "MNLI", rows)
    mrpc(root / "MRPC", rows)
    return root


def pair(i: int) -> tuple[str, str]:
    """Two texts that go together where i is odd; a quote that is never closed stands in some."""
    quote = '"' if i % 5 == 0 else ""
    return f"{quote}new {THINGS[i % 10]} {i}", f"{THINGS[(i + (i % 2 == 0)) % 10]} for sale"


def inferred(i: int) -> str:
    return "entailment" if i % 2 else "not_entailment"


def cola(folder: Path, rows: int) -> None:
    """No header, four columns; the test file has a header and two."""
    made = [["gj04", str(i % 2), "" if i % 2 else "*", sentence(i, i % 2 == 1)] for i in range(rows)]
    write(folder / "train.tsv", made)
    write(folder / "dev.tsv", made[: rows // 2])
    write(folder / "test.tsv", [["index", "sentence"], *([str(i), row[3]] for i, row in enumerate(made[:5]))])


def mnli(folder: Path, rows: int) -> None:
    """Two dev and two test sets; "-" where annotators did not agree."""
    labels = ["entailment", "neutral", "contradiction"]
    header = [
        "index",
        "promptID",
        "pairID",
        "genre",
        "sentence1_parse",
        "sentence1",
        "sentence2",
        "label1",
        "gold_label",
    ]
    made = [
        [str(i), "p", "q", "fiction", "( x )", *pair(i), labels[i % 3], labels[i % 3]] for i in range(rows)
    ]
    write(folder / "train.tsv", [header, *made, [*made[0][:-1], "-"]])
    for name in ("matched", "mismatched"):
        some = made[: rows // 2] if name == "matched" else made[rows // 2 :]
        write(folder / f"dev_{name}.tsv", [header, *some])
        write(folder / f"test_{name}.tsv", [header[:-2], *(row[:-2] for row in some[:5])])


def mrpc(folder: Path, rows: int) -> None:
    """Microsoft's two files with a byte order mark and line ends of its own, and GLUE's list of dev ids."""
    header = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    made = [[str(i % 2), str(100 + i), str(200 + i), *pair(i)] for i in range(rows)]
    folder.mkdir(parents=True)
    for name, some in (("train", made), ("test", made[:6])):
        lines = "".join("\t".join(row) + "\r\n" for row in [header, *some])
        (folder / f"msr_paraphrase_{name}.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    write(folder / "dev_ids.tsv", [row[1:3] for row in made[: rows // 3]])


def write(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def write_test(path: Path, header: list[str], made: list[list[str]]) -> None:
    """The first five rows without their labels, numbered."""
    numbered = header[0] in ("index", "id")
    rows = [row[:-1] if numbered else [str(i), *row[:-1]] for i, row in enumerate(made[:5])]
    write(path, [header[:-1] if numbered else ["index", *header[:-1]], *rows])
