"""What do students of a short distillation keep of all-MiniLM-L6-v2: cut, narrow, and cut for queries alone? How fast?

The teacher is the fp32 checkpoint that the bundle was made from. Students learn its vectors from at most 90,000 short
English texts without labels, drawn with a fixed seed: the pairs of QQP, MRPC, SICK, STS 2012 to 2015, STS-B's training
part, Twitter and WikiQA, the utterances of Banking77, CLINC150 and Bitext, the tweets of SemEval, the sentences of
SST-5 and the product titles of Icecat. Nothing is learned from texts that occur in CrowdFlower or in STS-B's dev part.

Each student is exported in float32 and in int8 and measured as a bundle: Spearman of cosine on STS-B dev, nDCG@10 on
CrowdFlower, titles per second on Icecat titles, milliseconds for one CrowdFlower query; all in turn, beside
sentence-transformers with the uncut checkpoint. The query student is a query tower of two layers over the uncut title
tower, whose vectors stay. Wanted: three layers keep 98.5% of both measures of quality at 1.8 times the throughput
(float32 against float32), the two-layer query tower 96.5%; in int8 three layers keep 98% and are 3 times as fast as
sentence-transformers on titles and 18 times on queries.

Training takes what --steps asks for, for each student; it goes on where it was when it was interrupted.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    ICECAT,
    ROOT,
    Report,
    crowdflower_queries,
    data_file,
    icecat,
    median,
    opened,
    option_parser,
    parse,
    rounds,
    run,
    sample,
    seconds,
    seconds_each,
)
from benchmarks.original import Original, checkpoint_of
from towers import Bundle
from towers.evaluate import evaluate_match
from towers.labelled import Pairs, read_pairs
from towers.train.base import load_tower
from towers.train.distillation.distil import DistilRecipe, distil_tower
from towers.train.distillation.query_tower import with_query_tower
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.precision import Precision
from towers.train.short_texts import read_short_texts
from towers.train.structures.cut import cut
from towers.train.structures.narrow import NarrowRecipe, narrow
from towers.train.write import read_parts, write_bundle

TEXTS = (
    *(f"match/en/{name}.jsonl.gz" for name in ("qqp_dev", "mrpc", "sick", "sts12_15", "stsb_train")),
    *(f"match/en/{name}.jsonl.gz" for name in ("twitter_ppdb", "wikiqa")),
    *(f"intent/en/{name}.jsonl.gz" for name in ("banking77", "clinc150_train")),
    "text/en/support_utterances.jsonl.gz",
    *(f"sentiment/en/{name}.jsonl.gz" for name in ("semeval2013_16", "sst5_train")),
    ICECAT,
)
TESTS = {
    "spearman": ("stsb_dev", "match/en/stsb_dev.jsonl.gz"),
    "ndcg@10": ("crowdflower", "match/en/crowdflower.jsonl.gz"),
}
PRECISIONS = {"float32": Precision("float32", "float32"), "int8": Precision()}
QUICK = 60  # texts to learn from and pairs to measure on when only trying
THEIRS = "sentence-transformers fp32"
UNCUT = "6 layers"


@dataclass(frozen=True)
class Student:
    """A row of the tables.

    Attributes:
        name: How the tables call it.
        make: Makes it from the teacher and some texts.
        trained: Whether it is distilled.
        query: Whether it is a query tower alone, over the teacher's titles.
        own_words: Whether it learns its word embeddings, which else stay the teacher's.
    """

    name: str
    make: Callable[[Any, Sequence[str]], Any]
    trained: bool = True
    query: bool = False
    own_words: bool = False


def layers(*stay: int) -> Callable[[Any, Sequence[str]], Any]:
    """A student with some of the teacher's layers."""

    def make(teacher: Any, texts: Sequence[str]) -> Any:
        student = copy.deepcopy(teacher)
        cut(student, stay)
        return student

    return make


def narrower(teacher: Any, texts: Sequence[str]) -> Any:
    """A student 256 wide, with 4 layers."""
    return narrow(teacher, NarrowRecipe(width=256, layers=4), texts=texts)


STUDENTS = (
    Student("layers 0 1 2, not distilled", layers(0, 1, 2), trained=False),
    Student("layers 0 2 5, not distilled", layers(0, 2, 5), trained=False),
    Student("layers 0 2 5", layers(0, 2, 5)),
    Student("queries by layers 0 5, titles by all", layers(0, 5), query=True),
    Student("256 wide, 4 layers", narrower, own_words=True),
)


def main() -> None:
    parser = option_parser(__doc__, repetitions=5)
    parser.add_argument("--texts", type=int, default=90_000, help="to learn from, at most")
    parser.add_argument("--steps", type=int, default=DistilRecipe.steps, help="of each distillation")
    parser.add_argument("--batch-size", type=int, default=DistilRecipe.batch_size, help="texts per step")
    parser.add_argument("--learning-rate", type=float, default=DistilRecipe.learning_rate)
    parser.add_argument("--seed", type=int, default=DistilRecipe.seed)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16 in training")
    parser.add_argument("--only", nargs="*", help="names of students; default: all")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "cut_distil", help="folder of the trainings"
    )
    options = parse(parser)
    bundle = opened(options)
    texts = short_texts(options)
    recipe = DistilRecipe(
        steps=4 if options.quick else options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        bf16=options.bf16,
    )
    shown = {name: getattr(recipe, name) for name in ("steps", "batch_size", "learning_rate", "seed", "bf16")}
    report = Report("cut_distil", __doc__, options, bundle, texts=len(texts), **shown)
    bundles = make_bundles(options, bundle, texts, recipe)
    original = Original(bundle)
    measured = {
        "quality": quality(report, options, original, bundles),
        "speed": speed(report, options, original, bundles),
        "minutes": minutes(options),
    }
    report.finish(measured)


def short_texts(options: argparse.Namespace) -> list[str]:
    """What students learn from: short texts of many kinds, none of which is measured on."""
    tests = [read_pairs(data_file(options, file)) for _, file in TESTS.values()]
    measured_on = [text for pairs in tests for text in (*pairs.queries, *pairs.titles)]
    files = [data_file(options, name) for name in (TEXTS[:1] if options.quick else TEXTS)]
    every = read_short_texts(files, without=measured_on)
    return sample(every, QUICK if options.quick else options.texts)


# Making the contenders.


def make_bundles(
    options: argparse.Namespace, shipped: Bundle, texts: Sequence[str], recipe: DistilRecipe
) -> dict[str, Bundle]:
    """A bundle of each student in each precision, the uncut ones first."""
    teacher = load_tower(checkpoint_of(shipped))
    bundles = {
        f"{UNCUT}, {kind}": export(options, f"{UNCUT}, {kind}", teacher, precision, texts)
        for kind, precision in PRECISIONS.items()
    }
    for student in STUDENTS:
        if options.only and student.name not in options.only:
            continue
        tower = trained(options, student, teacher, texts, recipe)
        for kind, precision in PRECISIONS.items():
            name = f"{student.name}, {kind}"
            if student.query:
                bundles[name] = over_titles(
                    options, name, bundles[f"{UNCUT}, {kind}"], tower, precision, texts
                )
            elif student.trained or kind == "float32":
                bundles[name] = export(options, name, tower, precision, texts)
    return bundles


def trained(
    options: argparse.Namespace, student: Student, teacher: Any, texts: Sequence[str], recipe: DistilRecipe
) -> Any:
    """The student, distilled if it is to be."""
    tower = student.make(teacher, texts)
    if not student.trained:
        return tower
    start, work = time.perf_counter(), options.work / folder_name(student.name)
    against = "teacher" if student.query else "student"
    settings = {**vars(recipe), "against": against, "freeze_embeddings": not student.own_words}
    distil_tower(
        tower,
        teacher,
        texts,
        recipe=DistilRecipe(**settings),
        work=work,
        resume=True,
        cache=options.work / "teacher",
    )
    note = work / "minutes.json"
    if not note.exists():
        note.write_text(json.dumps(round((time.perf_counter() - start) / 60, 2)))
    return tower


def export(
    options: argparse.Namespace, name: str, tower: Any, precision: Precision, texts: Sequence[str]
) -> Bundle:
    """A bundle whose towers are one graph."""
    licence = "Apache-2.0"
    parts = tower_parts(
        tower, base=None, base_licence=licence, licence=licence, precision=precision, texts=texts[:400]
    )
    return write_bundle(options.work / "bundles" / folder_name(name), parts, replace=True)


def over_titles(
    options: argparse.Namespace,
    name: str,
    titles: Bundle,
    tower: Any,
    precision: Precision,
    texts: Sequence[str],
) -> Bundle:
    """A bundle with a query tower of its own over another bundle's titles."""
    parts = with_query_tower(read_parts(titles.path), tower, precision=precision, texts=texts[:400])
    return write_bundle(options.work / "bundles" / folder_name(name), parts, replace=True)


def folder_name(name: str) -> str:
    """A name without spaces and commas."""
    return name.replace(",", "").replace(" ", "-")


def minutes(options: argparse.Namespace) -> dict[str, float]:
    """What each distillation took, from its start or from where it was taken up; the first asks the teacher."""
    found = {}
    for student in STUDENTS:
        note = options.work / folder_name(student.name) / "minutes.json"
        if note.is_file():
            found[student.name] = float(json.loads(note.read_text()))
    return found


# Measuring them.


def quality(
    report: Report, options: argparse.Namespace, original: Original, bundles: Mapping[str, Bundle]
) -> dict[str, dict[str, float]]:
    """Cosine of each contender on both tests, and what it keeps of the original's."""
    tests = {metric: some_pairs(options, file) for metric, (_, file) in TESTS.items()}
    models: dict[str, Any] = {THEIRS: original, **bundles}
    measured = {
        name: {
            metric: float(evaluate_match(model, pairs)["cosine"][metric]) for metric, pairs in tests.items()
        }
        for name, model in models.items()
    }
    rows = []
    for name, found in measured.items():
        kept = {metric: value / measured[THEIRS][metric] for metric, value in found.items()}
        cells = [f"{found[m]:.4f}" for m in TESTS] + [f"{kept[m]:.1%}" for m in TESTS]
        rows.append((name, *cells))
    columns = ("", "STS-B dev, Spearman", "CrowdFlower, nDCG@10", "kept", "kept")
    report.table("Quality", columns, rows)
    return measured


def some_pairs(options: argparse.Namespace, file: str) -> Pairs:
    """All pairs, or a few when only trying."""
    pairs, most = read_pairs(data_file(options, file)), QUICK if options.quick else None
    return Pairs(pairs.queries[:most], pairs.titles[:most], pairs.labels[:most])


def speed(
    report: Report, options: argparse.Namespace, original: Original, bundles: Mapping[str, Bundle]
) -> dict[str, dict[str, float]]:
    """Titles per second and milliseconds a query of each contender that was trained, in turn."""
    titles = sample([row["title"] for row in icecat(options)], 32 if options.quick else 1536)
    queries = sample(crowdflower_queries(options), 8 if options.quick else 100)
    models: dict[str, Any] = {THEIRS: original}
    models |= {name: bundle for name, bundle in bundles.items() if "not distilled" not in name}
    spent = {
        "titles": rounds(
            {name: partial(seconds, partial(m.encode_titles, titles)) for name, m in models.items()},
            options.repetitions,
        ),
        "query": rounds(
            {name: partial(query_seconds, m, queries) for name, m in models.items()}, options.repetitions
        ),
    }
    rows, measured = [], {}
    for name in models:
        rate, ms = len(titles) / median(spent["titles"][name]), 1000 * median(spent["query"][name])
        theirs = [median(spent[what][THEIRS]) / median(spent[what][name]) for what in ("titles", "query")]
        kind = name.rpartition(", ")[2]
        uncut = f"{UNCUT}, {kind}" if kind in PRECISIONS else THEIRS
        own = [median(spent[what][uncut]) / median(spent[what][name]) for what in ("titles", "query")]
        ratios = dict(zip(("titles", "query", "titles_uncut", "query_uncut"), (*theirs, *own), strict=True))
        measured[name] = {"titles_per_second": rate, "query_ms": ms, **ratios}
        rows.append((name, f"{rate:,.0f}", *(f"{x:.2f}" for x in (theirs[0], own[0], ms, theirs[1], own[1]))))
    report.table("Speed", SPEED_COLUMNS, rows)
    return measured


SPEED_COLUMNS = (
    "",
    "titles/s",
    "× fp32 original",
    "× 6 layers",
    "ms a query",
    "× fp32 original",
    "× 6 layers",
)


def query_seconds(model: Any, queries: Sequence[str]) -> float:
    """The median time of one query."""
    return float(np.median(seconds_each(lambda query: model.encode_queries([query]), queries)))


if __name__ == "__main__":
    run(main)
