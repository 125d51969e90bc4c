"""The nine tasks of GLUE (Wang et al. 2019), from the official files in a folder or from a hub.

The diagnostic set ax is no task of its own and is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from towers.errors import InputError
from towers.lines import listed
from towers.train.classifiers.examples import Examples, Raw, Task, TaskData, check_sides, encode
from towers.train.classifiers.glue_files import Fields, Official, find_folder, read_sets, read_test


@dataclass(frozen=True)
class GlueTask:
    """One task's answers and where it keeps them.

    Attributes:
        folder: Its folder in the official archive, and its name in a submission.
        files: Columns of the official files.
        hub: The hub's columns of the text and the second text, where they have other names.
        labels: Names of the classes, in the order of their numbers; empty for STS-B.
        metrics: What GLUE measures.
        dev: Name of a dev set -> its file, without ending.
        test: Name of a file of a submission -> the test file, without ending; empty: the folder's name -> "test".
        header: The columns of official files that do not name them.
    """

    folder: str
    files: Fields
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    hub: tuple[str, str] | None = None
    dev: Mapping[str, str] = field(default_factory=lambda: {"validation": "dev"})
    test: Mapping[str, str] = field(default_factory=dict)
    header: tuple[str, ...] = ()

    def task(self, name: str) -> Task:
        """What it asks."""
        return Task(name, self.labels, bool(self.files.pair), self.metrics)

    @property
    def official(self) -> Official:
        """How its files are read."""
        return Official(self.folder, self.files, self.labels, self.header)


GLUE: Mapping[str, GlueTask] = {
    "cola": GlueTask(
        "CoLA",
        Fields("sentence"),
        ("unacceptable", "acceptable"),
        ("matthews",),
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask("SST-2", Fields("sentence"), ("negative", "positive")),
    "mrpc": GlueTask(
        "MRPC",
        Fields("#1 String", "#2 String", "Quality"),
        ("not_equivalent", "equivalent"),
        ("accuracy", "f1"),
        hub=("sentence1", "sentence2"),
    ),
    "qqp": GlueTask(
        "QQP",
        Fields("question1", "question2", "is_duplicate"),
        ("not_duplicate", "duplicate"),
        ("accuracy", "f1"),
    ),
    "stsb": GlueTask("STS-B", Fields("sentence1", "sentence2", "score"), (), ("pearson", "spearman")),
    "mnli": GlueTask(
        "MNLI",
        Fields("sentence1", "sentence2", "gold_label"),
        ("entailment", "neutral", "contradiction"),
        hub=("premise", "hypothesis"),
        dev={"validation_matched": "dev_matched", "validation_mismatched": "dev_mismatched"},
        test={"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"},
    ),
    "qnli": GlueTask("QNLI", Fields("question", "sentence"), ("entailment", "not_entailment")),
    "rte": GlueTask("RTE", Fields("sentence1", "sentence2"), ("entailment", "not_entailment")),
    "wnli": GlueTask("WNLI", Fields("sentence1", "sentence2"), ("not_entailment", "entailment")),
}


def glue_task(name: str) -> GlueTask:
    """Return a task by its name, however it is written: "sst2", "SST-2", "sst_2".

    Raises:
        InputError: GLUE has no such task.
    """
    key = name.lower().replace("-", "").replace("_", "")
    if key not in GLUE:
        raise InputError(f"found the task {name!r}, expected one of GLUE's: {', '.join(GLUE)}")
    return GLUE[key]


def load_glue(name: str, folder: Path, *, licence: str = "not given") -> TaskData:
    """Read a task's training and dev sets from the official files.

    Args:
        name: Of the task.
        folder: The task's folder, or the one that holds the folders of all tasks.
        licence: As the source states it.

    Raises:
        InputError: The folder is no such folder, or a file is broken; both name what was expected.
    """
    spec = glue_task(name)
    task = spec.task(_key(spec))
    raw, left_out = read_sets(find_folder(folder, spec.official), spec.official, spec.dev)
    train, *dev = (encode(task, rows) for rows in raw.values())
    check_sides(task, train, dev[0])
    names = [x for x in raw if x != "train"]
    return TaskData(task, train, dict(zip(names, dev, strict=True)), f"GLUE {spec.folder}", left_out, licence)


def load_glue_tests(name: str, folder: Path) -> dict[str, Examples]:
    """Read a task's test sets, which have no labels: name of the file in a submission -> examples."""
    spec = glue_task(name)
    root = find_folder(folder, spec.official)
    files = spec.test or {spec.folder: "test"}
    return {submitted: read_test(root, spec.official, file) for submitted, file in files.items()}


def load_hub(name: str, hub: str, *, licence: str = "not given") -> TaskData:
    """Load a task's training and dev sets with `datasets`.

    Args:
        name: Of the task.
        hub: Name of a data set that has GLUE's tasks as configurations, such as "glue", or a folder in that form.
        licence: As the source states it.

    Raises:
        InputError: The hub does not deliver it, or it is no such data set.
    """
    spec = glue_task(name)
    task = spec.task(_key(spec))
    sets = _hub_sets(hub, _key(spec))
    wanted = ["train", *spec.dev]
    if missing := [split for split in wanted if split not in sets]:
        raise InputError(f"{hub} has no {listed(missing)} for {task.name}: found {listed(sets)}")
    train, *dev = (encode(task, _hub_rows(sets[split], spec, f"{hub} {split}")) for split in wanted)
    check_sides(task, train, dev[0])
    return TaskData(task, train, dict(zip(spec.dev, dev, strict=True)), f"{hub} {task.name}", licence=licence)


def submission(task: Task, outputs: np.ndarray[Any, Any]) -> str:
    """Return the text of a submission's file from a classifier's outputs (n, task.outputs) on a test set."""
    words = (
        [f"{value:.3f}" for value in outputs[:, 0]]
        if task.is_regression
        else [_submitted(task, int(i)) for i in outputs.argmax(axis=1)]
    )
    return "\n".join(["index\tprediction", *(f"{i}\t{word}" for i, word in enumerate(words))]) + "\n"


def _submitted(task: Task, number: int) -> str:
    """GLUE takes the words of MNLI, QNLI and RTE, and the numbers of the others."""
    return task.labels[number] if task.name in ("mnli", "qnli", "rte") else str(number)


def _key(spec: GlueTask) -> str:
    return spec.folder.lower().replace("-", "")


def _hub_sets(hub: str, name: str) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset(hub, name)
    except Exception as exc:  # datasets, hub client and pyarrow raise types of their own
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise InputError(
            f"cannot load {name} of {hub}: {reason}. Offline, give the folder of the official files with --data."
        ) from exc


def _hub_rows(rows: Any, spec: GlueTask, where: str) -> Raw:
    text, pair = spec.hub or (spec.files.text, spec.files.pair)
    columns = [column for column in (text, pair, "label") if column]
    if missing := [column for column in columns if column not in rows.column_names]:
        raise InputError(
            f"{where} has no column {listed(missing)}: found {listed(rows.column_names)}, expected {listed(columns)}"
        )
    names = getattr(rows.features["label"], "names", None) or spec.labels
    given = list(rows["label"])
    known = [i for i, label in enumerate(given) if label is not None and not (names and label == -1)]
    labels = [names[given[i]] if names else str(given[i]) for i in known]
    texts, pairs = list(rows[text]), list(rows[pair]) if pair else None
    return Raw(where, [texts[i] for i in known], pairs and [pairs[i] for i in known], labels)
