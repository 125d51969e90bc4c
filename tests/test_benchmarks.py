"""The benchmarks' page shows what was measured, and a trial leaves no trace in it."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import common, render
from benchmarks.common import Report, data_file, data_folder, rounds, times
from towers import Bundle


def options(**given: object) -> Namespace:
    return Namespace(**{"data": None, "quick": False, "results": None, "repetitions": 2} | given)


def a_result(bundle: Bundle, folder: Path | None) -> None:
    report = Report("titles", "How many?\n\nConditions.", options(results=folder), bundle, titles=3)
    report.table("3 titles", ("", "titles/s"), [("dualtower", "412")])
    report.finish({"titles_per_second": np.float32(412), "undefined": float("nan")})


def test_the_pages_tables_are_those_of_the_results() -> None:
    """What stands between the markers is what results/*.json give, or says that nothing was measured."""
    text = render.README.read_text(encoding="utf-8")
    assert render.rendered(text, common.RESULTS) == text


def test_every_benchmark_has_a_section() -> None:
    """A script that is added without its markers would never show its tables."""
    helpers = {"__init__", "common", "machine", "original", "held_out", "exit_heads", "render"}
    scripts = {path.stem for path in render.README.parent.glob("*.py")} - helpers
    text = render.README.read_text(encoding="utf-8")
    assert {name for name in scripts if f"<!-- results of {name} -->" in text} == scripts


def test_a_result_is_one_last_line_of_json_and_a_file(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line on standard output and the file in the results say the same; nan is null."""
    a_result(tiny_bundle, tmp_path)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / "titles.json").read_text(encoding="utf-8")) == last
    assert last["measured"] == {"titles_per_second": 412.0, "undefined": None}
    assert last["question"] == "How many?"
    assert last["bundle_id"] == tiny_bundle.bundle_id


def test_a_result_is_rendered_between_its_markers(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Rendering fills the section of a result, leaves the others, and changes nothing the second time."""
    a_result(tiny_bundle, tmp_path)
    page = "A\n<!-- results of titles -->\nold\n<!-- end -->\nB\n<!-- results of query -->\n<!-- end -->\n"
    text = render.rendered(page, tmp_path)
    assert "| dualtower | 412 |" in text
    assert "old" not in text
    assert "<!-- results of query -->\nNot measured yet.\n<!-- end -->" in text
    assert render.rendered(text, tmp_path) == text


def test_a_trial_writes_no_file(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--quick` without `--results` has nowhere to write to."""
    monkeypatch.setattr("sys.argv", ["titles", "--quick"])
    assert common.parse(common.option_parser("?", repetitions=5)) == options(
        quick=True, repetitions=1, bundle=None
    )
    monkeypatch.chdir(tmp_path)
    a_result(tiny_bundle, None)
    assert list(tmp_path.iterdir()) == []


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    """A B A B A B for two rounds that count."""
    order: list[str] = []
    contenders = {name: lambda name=name: (order.append(name), len(order))[1] for name in "AB"}
    assert rounds(contenders, 2) == {"A": [3, 5], "B": [4, 6]}
    assert order == list("ABABAB")


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    """8/4, 9/3 and 10/2 in the rounds; 9/3 for the medians."""
    assert times([8, 9, 10], [4, 3, 2]) == (3.0, "2.00–5.00")


def test_missing_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives no folder is told how to, who gives a wrong one is told what it lacks."""
    monkeypatch.delenv("DUALTOWER_DATA", raising=False)
    with pytest.raises(SystemExit, match="--data DIR, or DUALTOWER_DATA"):
        data_folder(options())
    monkeypatch.setenv("DUALTOWER_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"has no catalogue/en/icecat\.jsonl\.gz"):
        data_file(options(), common.ICECAT)
