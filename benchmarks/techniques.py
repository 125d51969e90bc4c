"""What does each of the ten techniques do to quality and speed, on English and on Chinese data?

Two comparisons (`dualtower compare`) with the same budget: QQP's dev part and SST-5 on all-MiniLM-L6-v2, and LCQMC's
dev part and SMP2020 on the same model with Chinese words that start from their translations (`dualtower extend`), which
has seen no Chinese before. Each is kept in the working folder and goes on there when it is run again. "Points" is 100
times the difference to the row that shows what the technique does, see `against` in its recipe; with one seed, and
under some 500 steps, such a difference is noise unless it is large. "Times" is against the uncut model in float32, one
text at a time, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Report, data_file, environment, opened, option_parser, parse, run
from towers.train.compare.compared import Compared, TaskView, views_of
from towers.train.compare.results import Results

ENGLISH = ("match/en/qqp_dev.jsonl.gz", "sentiment/en/sst5_train.jsonl.gz")
CHINESE = ("match/zh/lcqmc_dev.jsonl.gz", "sentiment/zh/smp2020_train.jsonl.gz")
# Texts whose frequent words the Chinese base gets.
WORDS = (
    *(f"text/zh/{name}.jsonl.gz" for name in ("ecommerce_queries", "product_titles", "video_titles")),
    *(f"text/zh/{name}.jsonl.gz" for name in ("news_titles", "tnews_titles", "product_reviews")),
    "match/zh/atec.jsonl.gz",
    "match/zh/simclue_pairs.jsonl.gz",
)
LANGUAGES = ("English", "Chinese")


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--budget", default="20m", help="of each comparison")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/techniques"), help="folder of both comparisons"
    )
    options = parse(parser)
    if options.quick:
        options.budget = "1m"
    report = Report("techniques", __doc__, options, opened(options), budget=options.budget)
    english = compared(options, "english", ENGLISH)
    chinese = compared(options, "chinese", CHINESE, base=chinese_base(options))
    both = dict(zip(LANGUAGES, (english, chinese), strict=True))
    views = {language: views_of(results) for language, results in both.items()}
    for of_task in zip(*views.values(), strict=True):
        metrics = " and ".join(dict.fromkeys(view.metric for view in of_task))
        report.table(f"{of_task[0].task}, {metrics}", columns(), table_rows(of_task))
    report.finish(
        {
            language: {f"{view.task}:{one.row.name}": facts(one) for view in found for one in view.rows}
            for language, found in views.items()
        }
        | {"data": {language: {t: vars(d) for t, d in r.data.items() if d} for language, r in both.items()}}
    )


def chinese_base(options: argparse.Namespace) -> Path:
    """The checkpoint that reads Chinese, made once."""
    path: Path = options.work / "chinese-base"
    if not path.is_dir():
        dualtower("extend", *(data_file(options, file) for file in WORDS), "--out", path)
    return path


def compared(
    options: argparse.Namespace, name: str, files: Sequence[str], *, base: Path | None = None
) -> Results:
    """The results of a comparison, which goes on where it was, and is not made again when it is done."""
    out = options.work / name
    if not (out / "report.json").is_file():
        more = [] if base is None else ["--base", base]
        if options.quick:
            more += ["--recipes", "int8,cut-spread"]
        tables = [data_file(options, file) for file in files]
        dualtower("compare", *tables, "--budget", options.budget, "--out", out, *more)
    return Results.read(out / "report.json")


def dualtower(*arguments: object) -> None:
    """Run a command of dualtower as a user would."""
    command = [sys.executable, "-m", "dualtower", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment())


def columns() -> tuple[str, ...]:
    of_each = ("quality", "points", "against", "times", "steps")
    return ("", *(f"{language}: {name}" for language in LANGUAGES for name in of_each))


def table_rows(views: Sequence[TaskView]) -> list[tuple[str, ...]]:
    """One row for each recipe, the languages side by side."""
    others = {one.row.name: one for one in views[1].rows}
    return [(one.row.name, *cells(one), *cells(others[one.row.name])) for one in views[0].rows]


def cells(one: Compared) -> tuple[str, ...]:
    if one.row.failed is not None:
        return ("failed", "", "", "", "")
    own = one.own.difference
    return (
        f"{one.quality:.1f}",
        "" if own is None else f"{own.points:+.1f}",
        "" if own is None or one.reference is None else one.reference.name,
        "" if one.main.speed is None else f"{one.main.speed:.1f}",
        f"{one.row.steps:,}" if one.row.steps else "",
    )


def facts(one: Compared) -> dict[str, object]:
    """What stands in the JSON of one row."""
    row = one.row
    return {
        "failed": row.failed,
        "quality": None if row.quality is None else {row.quality.metric: row.quality.values},
        "points": None if one.own.difference is None else one.own.difference.points,
        "against": row.against,
        "times_as_fast": one.main.speed,
        "times_as_many": one.main.throughput,
        "bytes": row.bytes,
        "parameters": row.parameters,
        "multiply_adds": row.multiply_adds,
        "steps": row.steps,
        "seeds": row.seeds,
    }


if __name__ == "__main__":
    run(main)
