"""GLUE's nine tasks: the official files with their odd ways, the hub's form, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.towers.train.glue_folder import pair, sentence, write_glue
from towers import InputError
from towers.train.classifiers.examples import TaskData
from towers.train.classifiers.glue import GLUE, load_glue, load_glue_tests, load_hub, submission

ROWS = 24
TRAINED = dict.fromkeys(GLUE, ROWS) | {"mrpc": ROWS - ROWS // 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"), rows=ROWS)


@pytest.mark.parametrize("name", GLUE)
def test_official_files_are_read(folder: Path, name: str) -> None:
    """Each task's files give its texts and labels, whatever the file calls them."""
    data = load_glue(name, folder)
    assert data.task == GLUE[name].task(name)
    assert len(data.train) == TRAINED[name]
    second = data.train.pairs
    shift = ROWS // 3 if name == "mrpc" else 0
    for i in range(len(data.train)):
        if second is None:
            assert data.train.texts[i] == sentence(i, i % 2 == 1)
        else:
            assert (data.train.texts[i], second[i]) == pair(i + shift)
    if name == "stsb":
        assert data.train.labels.dtype == np.float32
        assert data.train.labels[:4].tolist() == pytest.approx([0, 4.9, 0, 5])
    elif name == "mnli":
        assert data.train.labels[:4].tolist() == [0, 1, 2, 0]
    elif name in ("qnli", "rte"):
        assert data.train.labels[:4].tolist() == [1, 0, 1, 0]  # entailment is their first class
    else:
        assert data.train.labels[:4].tolist() == [0, 1, 0, 1]
    assert data.left_out == (name in ("qqp", "mnli"))


def test_mnli_has_two_dev_sets_and_the_matched_one_decides(folder: Path) -> None:
    data = load_glue("mnli", folder)
    assert list(data.dev) == ["validation_matched", "validation_mismatched"]
    assert data.deciding is data.dev["validation_matched"]


def test_mrpc_comes_in_three_ways(folder: Path, tmp_path: Path) -> None:
    """With GLUE's dev ids, without them (the test set is held out), and as converted tsv files."""
    with_ids = load_glue("mrpc", folder)
    assert list(with_ids.dev) == ["validation"]
    assert len(with_ids.deciding) == ROWS // 3
    bare = tmp_path / "bare"
    bare.mkdir()
    for kind in ("train", "test"):
        name = f"msr_paraphrase_{kind}.txt"
        (bare / name).write_bytes((folder / "MRPC" / name).read_bytes())
    without = load_glue("mrpc", bare)
    assert (len(without.train), list(without.dev), len(without.deciding)) == (ROWS, ["test"], 6)
    converted = tmp_path / "MRPC"
    converted.mkdir()
    for kind in ("train", "dev"):
        (converted / f"{kind}.tsv").write_bytes((bare / "msr_paraphrase_train.txt").read_bytes())
    assert load_glue("mrpc", tmp_path).train.texts == without.train.texts


@pytest.mark.parametrize("name", GLUE)
def test_tests_have_no_labels(folder: Path, name: str) -> None:
    """Test sets are read whole, and answers to them go into the files that GLUE takes."""
    tests = load_glue_tests(name, folder)
    assert list(tests) == (["MNLI-m", "MNLI-mm"] if name == "mnli" else [GLUE[name].folder])
    for examples in tests.values():
        assert len(examples) == (6 if name == "mrpc" else 5)
        assert not len(examples.labels)
        assert (examples.pairs is None) == (name in ("cola", "sst2"))
    task = GLUE[name].task(name)
    outputs = np.eye(task.outputs, dtype=np.float32)[[0, -1]]
    first, last = {"stsb": ("1.000", "1.000"), "mnli": ("entailment", "contradiction")}.get(name, ("0", "1"))
    if name in ("qnli", "rte"):
        first, last = "entailment", "not_entailment"
    assert submission(task, outputs) == f"index\tprediction\n0\t{first}\n1\t{last}\n"


def test_the_folder_of_one_task_will_do(folder: Path, tmp_path: Path) -> None:
    """Given is the task's folder or the one above, in any writing."""
    (tmp_path / "sst_2").mkdir()
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / "sst_2" / name).write_bytes((folder / "SST-2" / name).read_bytes())
    above, own = load_glue("SST-2", tmp_path), load_glue("sst2", folder / "SST-2")
    assert above.train.texts == own.train.texts


def test_what_is_no_such_folder_is_named(folder: Path, tmp_path: Path) -> None:
    """Errors say what was found and what was expected there."""
    with pytest.raises(InputError, match=r"found the task 'ax', expected one of GLUE's: cola, sst2"):
        load_glue("ax", folder)
    with pytest.raises(InputError, match="is no folder"):
        load_glue("sst2", tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"holds 'notes.txt', expected SST-2/train.tsv"):
        load_glue("sst2", tmp_path)
    with pytest.raises(
        InputError, match=r"begins with 'gj04', '0'.*expected the columns 'sentence', 'label'"
    ):
        load_glue("sst2", folder / "CoLA")
    with pytest.raises(InputError, match=r"begins with 'sentence', 'label', expected the columns 'question'"):
        load_glue("qnli", folder / "SST-2")
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_bytes((folder / "RTE" / "train.tsv").read_bytes())
    with pytest.raises(InputError, match=r"dev.tsv does not exist, expected GLUE's official file"):
        load_glue("rte", tmp_path)
    lines = (folder / "RTE" / "train.tsv").read_text().replace("\tentailment", "\tmaybe", 1)
    (tmp_path / "RTE" / "train.tsv").write_text(lines)
    with pytest.raises(
        InputError, match=r"line 3: found the label 'maybe', expected entailment, not_entailment"
    ):
        load_glue("rte", tmp_path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` keeps what it has read under the folder's name and not its path: each test has a cache of its own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("cache")
def test_the_hub_form_is_the_same_task(folder: Path, tmp_path: Path) -> None:
    """A data set with the tasks as configurations, loaded by `datasets`, gives what the official files give."""
    official = load_glue("mnli", folder)
    hub = as_hub(tmp_path / "hub", official, columns=("premise", "hypothesis"))
    loaded = load_hub("mnli", str(hub))
    assert loaded.task == official.task
    assert (loaded.train.texts, loaded.train.pairs) == (official.train.texts, official.train.pairs)
    np.testing.assert_array_equal(loaded.train.labels, official.train.labels)
    assert list(loaded.dev) == list(official.dev)


@pytest.mark.usefixtures("cache")
def test_a_hub_that_does_not_deliver_is_told_from_a_wrong_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot load sst2 of .*give the folder of the official files with --data"
    ):
        load_hub("sst2", str(tmp_path / "nowhere"))
    hub = as_hub(tmp_path / "hub", load_glue("mnli", folder), columns=("text", "other"))
    with pytest.raises(
        InputError, match=r"train has no column 'premise', 'hypothesis': found 'text', 'other'"
    ):
        load_hub("mnli", str(hub))


def as_hub(folder: Path, data: TaskData, *, columns: tuple[str, str]) -> Path:
    """Write a task as a data set on disk that `datasets` loads by configuration; a test row has the label -1."""
    (folder / "data").mkdir(parents=True)
    files = []
    for split, rows in {"train": data.train, **data.dev}.items():
        lines = [
            json.dumps({columns[0]: text, columns[1]: second, "label": label})
            for text, second, label in zip(rows.texts, rows.pairs or (), rows.labels.tolist(), strict=True)
        ]
        lines.append(json.dumps({columns[0]: "unlabelled", columns[1]: "row", "label": -1}))
        (folder / "data" / f"{split}.jsonl").write_text("\n".join(lines))
        files.append(f"  - split: {split}\n    path: data/{split}.jsonl\n")
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {data.task.name}\n  data_files:\n{''.join(files)}---\n"
    )
    return folder
