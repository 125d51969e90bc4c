"""The benchmarks' page shows what was measured, and a trial leaves no trace in it."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bilingual, character_lstm, common, contenders, decisions, render, sentiment_sets
from benchmarks.common import Report, data_file, data_folder, rounds, times
from towers import Bundle, metrics
from towers.evaluate import score_pairs
from towers.labelled import Pairs
from towers.train.bilingual.labelled import labelled_lessons, shared_out
from towers.train.bilingual.recipe import BilingualRecipe
from towers.train.data import make_pair_set


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
    scripts = {
        path.stem
        for path in render.README.parent.glob("*.py")
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    } - {"render"}
    assert {"titles", "bilingual", "techniques"} <= scripts
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


CHINESE = Pairs(
    ["你好吗", "你好吗", "天气如何"], ["你怎么样", "今天下雨", "天气怎么样"], np.array([1.0, 0.0, 1.0])
)


def test_thresholds_are_chosen_on_one_half_and_used_on_the_other() -> None:
    """The halves agree on all thresholds but one: the pair that lies between theirs is decided by the other's."""
    labels = np.array([0, 1, 0, 1, 1])
    scores = np.array([0.1, 0.9, 0.2, 0.8, 0.3])
    half = np.array(
        [True, True, False, False, False]
    )  # the best thresholds: 0.5 of the first, 0.25 of the second
    found = decisions.crosswise(labels, scores, half, decisions.match_cut)
    np.testing.assert_array_equal(found, [0, 1, 0, 1, 0])


def test_a_query_is_on_one_side_of_the_halves() -> None:
    """Pairs of one query never choose and use the same threshold; the halves are of one size."""
    queries = [f"query {i % 10}" for i in range(40)]
    half = decisions.first_half(queries)
    sides = {query: set(half[[q == query for q in queries]]) for query in queries}
    assert all(len(side) == 1 for side in sides.values())
    assert half.sum() == 20


def test_grades_are_cut_where_macro_f1_is_highest() -> None:
    """No two thresholds do better on these pairs; perfect scores are cut perfectly."""
    rng = np.random.default_rng(1)
    grades = rng.integers(0, 3, 40)
    scores = (grades + rng.normal(0, 0.8, 40)).round(1)
    values = np.unique(np.quantile(scores, np.linspace(0, 1, 201)))
    best = max(
        metrics.macro_f1(grades, np.digitize(scores, [low, high]))
        for low in values
        for high in values[values >= low]
        if set(np.digitize(scores, [low, high])) | set(grades) == {0, 1, 2}
    )
    found = metrics.macro_f1(grades, np.digitize(scores, decisions.grade_cuts(grades, scores)))
    assert found == pytest.approx(best)
    perfect = decisions.grade_cuts(grades, grades.astype(float))
    np.testing.assert_array_equal(np.digitize(grades, perfect), grades)


def test_a_translation_is_found_when_nothing_is_nearer() -> None:
    """Two of three rows are nearest to their own; the third is nearer to the first."""
    queries = np.array([[1, 0, 0], [0, 1, 0], [0.8, 0, 0.6]], np.float32)
    assert bilingual.nearest_is_own(queries, np.eye(3, dtype=np.float32)) == pytest.approx(2 / 3)


def test_neutral_answers_are_wrong_where_no_text_is_neutral() -> None:
    """Three-way and two-way accuracy differ by the neutral answers; sets with neutral texts have macro recall."""
    probabilities = np.array([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3]])
    two = sentiment_sets.sentiment_values(np.array([1, -1, -1]), probabilities)
    assert two == pytest.approx({"accuracy": 1 / 3, "two_way_accuracy": 2 / 3})
    three = sentiment_sets.sentiment_values(np.array([1, 0, -1]), probabilities)
    assert three == pytest.approx({"accuracy": 2 / 3, "macro_recall": 2 / 3})


def test_a_bundles_scores_are_those_of_evaluate(tiny_bundle: Bundle) -> None:
    """Scores and cosines are `score_pairs`', whatever the order of the queries; short vectors are all of 16 numbers."""
    pairs = Pairs(
        ["red shoes", "chair", "red shoes"], ["shoes", "a chair", "lamp"], np.array([1.0, 1.0, 0.0])
    )
    found = contenders.bundle_scores(tiny_bundle, pairs)
    scores, cosines, _ = score_pairs(tiny_bundle, pairs)
    np.testing.assert_allclose(found[contenders.SCORE], scores, atol=1e-5)
    np.testing.assert_allclose(found[contenders.COSINE], cosines, atol=1e-5)
    np.testing.assert_allclose(found[contenders.SHORT], cosines, atol=1e-5)


def test_pairs_with_a_text_that_was_trained_on_are_left_out() -> None:
    """Case and spaces do not make another text."""
    pairs = Pairs(["Red  shoes", "chair"], ["x", "y"], np.array([1.0, 0.0]))
    assert bilingual.without_known(pairs, {"red shoes"}).queries == ["chair"]


def test_the_bilstm_learns_in_the_shares_of_the_towers() -> None:
    """Contrast and order have the shares of the recipe; English pairs are no lesson."""
    english = make_pair_set(Pairs(["a", "b"], ["a", "c"], np.array([1.0, 0.0])), name="english")
    training = [make_pair_set(CHINESE, name="chinese"), english]
    lessons = shared_out(labelled_lessons(training, [("你好", "您好", "再见")]), BilingualRecipe().shares)
    assert {x.name for x in lessons} == {"chinese", "triples"}
    shares = {kind: sum(x.share for x in lessons if x.kind == kind) for kind in ("contrast", "order")}
    assert shares == pytest.approx({"contrast": 0.2, "order": 0.4})


def test_a_bilstm_is_trained_once_and_kept(tmp_path: Path) -> None:
    """The second one is read, not trained; vectors have length 1 and do not depend on what stands beside a text."""
    lessons = shared_out(
        labelled_lessons([make_pair_set(CHINESE, name="chinese")], []), BilingualRecipe().shares
    )
    given = options(work=tmp_path, bilstm_steps=3)
    first = character_lstm.made_bilstm(lessons, given, width=8, seed=1)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    second = character_lstm.made_bilstm(lessons, given, width=8, seed=1)
    assert first is not None
    assert second is not None
    assert kept.stat().st_mtime_ns == written
    vectors = first.encode(["你好吗", "今天下雨了没有", ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(second.encode(["你好吗"])[0], vectors[0], atol=1e-5)
