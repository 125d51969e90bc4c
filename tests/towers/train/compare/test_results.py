"""Results are checked on the way out and on the way in, and come back as they were."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.towers.train.compare.made_up import REALISTIC, reference, results, row
from towers import InputError
from towers.train.compare.results import ExitCounts, LearningPoint, MaskedLoss, Measure, Results, Spread


def test_results_come_back_from_json_as_they_were() -> None:
    """Everything that a comparison found survives the file."""
    assert Results.from_json(REALISTIC.to_json()) == REALISTIC


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    """Writing leaves the file and nothing else."""
    REALISTIC.write(tmp_path / "new" / "report.json")
    assert Results.read(tmp_path / "new" / "report.json") == REALISTIC
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Results that cannot be written do not harm those that were."""
    path = tmp_path / "report.json"
    REALISTIC.write(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="budget_s: found inf"):
        replace(REALISTIC, budget_s=math.inf).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_of_numpy_are_written_as_plain_ones() -> None:
    """A value that comes straight out of an array is no trouble."""
    quality = Measure("auc", [np.float64(0.5)])
    made = results(row("a", quality=quality, bytes=np.int64(7)), reference())
    back = Results.from_json(made.to_json())
    assert back.row("a").bytes == 7
    assert back.row("a").quality == Measure("auc", [0.5])


@pytest.mark.parametrize("found", [1, "2", None])
def test_another_format_is_refused(found: Any) -> None:
    """A file of another version is named as such, with the way out."""
    content = json.loads(REALISTIC.to_json()) | {"format": found}
    with pytest.raises(InputError, match=r"have format .* this version reads 2\. Run the comparison again"):
        Results.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}"])
def test_what_is_no_result_is_refused(text: str) -> None:
    """Neither broken JSON nor another kind of it passes."""
    with pytest.raises(InputError, match=r"no JSON|have format None"):
        Results.from_json(text)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": "many"}, r"results\.rows\[0\]\.steps: found 'many', expected a whole number"),
        ({"steps": True}, r"steps: found True, expected a whole number"),
        ({"trained_s": None}, r"trained_s: found None, expected a finite number"),
        ({"notes": "one"}, r"notes: found 'one', expected a list"),
        ({"cost": [1]}, r"cost: found \[1\], expected an object"),
        ({"name": 3}, r"name: found 3, expected text"),
        ({"speed": 3}, r"rows\[0\]: unknown speed; expected name, task"),
        ({"technique": 11}, "technique 11"),
        ({"task": "rank"}, "task 'rank'"),
        ({"quality": None}, "neither a quality nor a reason"),
        ({"seeds": [1]}, r"found 3 values of spearman for the seeds \[1\]"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change: dict[str, Any], complaint: str) -> None:
    """A file that was edited by hand says what is wrong where."""
    content = json.loads(REALISTIC.to_json())
    content["rows"][0] |= change
    with pytest.raises(InputError, match=complaint):
        Results.from_json(json.dumps(content))


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    """Nothing is filled in silently, and the file is named."""
    content = json.loads(REALISTIC.to_json())
    del content["rows"][0]["parameters"]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"report\.json: results\.rows\[0\]: missing parameters"):
        Results.read(path)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(InputError, match=r"cannot read results from .*report\.json"):
        Results.read(tmp_path / "report.json")


def test_a_value_without_a_json_form_is_refused() -> None:
    """Facts about the machine are free, but must be writable."""
    for value in (math.nan, {1, 2}):
        with pytest.raises(InputError, match="no form for"):
            replace(REALISTIC, machine={"odd": value}).to_json()


def test_names_are_unique_within_a_task() -> None:
    """`--ship NAME` must mean one row of a task; the same name in the other task is allowed."""
    with pytest.raises(InputError, match="two rows of match are named 'a'"):
        results(row("a"), row("a"), reference())
    results(row("a"), reference(), row("a", task="sentiment", against=""))


def test_a_row_is_held_against_one_that_exists() -> None:
    """A reference of the other task is none."""
    with pytest.raises(InputError, match=r"'a' is held against 'uncut', which is no row of match"):
        results(row("a"), reference(task="sentiment"))


def test_rows_are_found_by_name() -> None:
    """And an unknown one is told what exists."""
    made = results(reference(), row("a"))
    assert made.row("a").name == "a"
    assert made.reference_of(made.row("a")) == made.row("uncut")
    assert made.reference_of(made.row("uncut")) is None
    with pytest.raises(InputError, match="found no row named 'b', expected one of uncut, a"):
        made.row("b")


@pytest.mark.parametrize(
    "values", [(2, 1, 3, 0), (0, 0, 1, 1), (1, 2, 3, 3), (3, 1, 2, 3), (math.nan, 1, 2, 3)]
)
def test_a_spread_that_no_clock_can_say_is_refused(values: tuple[float, float, float, int]) -> None:
    """Median between the ends, all above 0: the report divides by it and draws its logarithm."""
    with pytest.raises(InputError, match="0 < lowest <= median <= highest"):
        Spread(*values)


@pytest.mark.parametrize("value", [86.5, math.nan, -1.5])
def test_a_quality_is_a_share_or_a_correlation(value: float) -> None:
    """A percentage would be told a hundred times too high."""
    with pytest.raises(InputError, match="expected values of -1 to 1"):
        Measure("auc", [0.5, value])


def test_a_spread_turns_into_other_units() -> None:
    """Seconds for 10 items, as milliseconds and as items in a second: slowest round, lowest rate."""
    spread = Spread.of([0.5, 0.25, 1.0])
    assert spread == Spread(0.5, 0.25, 1.0, 3)
    assert spread.scaled(1000) == Spread(500, 250, 1000, 3)
    assert spread.rate(10) == Spread(20, 10, 40, 3)


def test_curves_have_a_value_for_each_place() -> None:
    """A histogram or a loss of another length than its axis is refused."""
    with pytest.raises(InputError, match=r"exits of 'a': found 1 values for 2 places"):
        ExitCounts("a", [1, 2], [5])
    with pytest.raises(InputError, match=r"loss of 'rare' of 'a': found 2 values for 1 places"):
        MaskedLoss("a", [1], {"rare": [0.5, None]})
    for task, share, rows, values in (("rank", 0.5, 1, [1.0]), ("match", 0, 1, [1.0]), ("match", 1, 1, [])):
        with pytest.raises(InputError, match="a share above 0"):
            LearningPoint(task, share, rows, values)
