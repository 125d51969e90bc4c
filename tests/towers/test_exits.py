"""Early exit at runtime: packed batches answer as single texts do, and every rule does what it says."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.make_tiny import CHARACTERS, WORDS
from towers import Bundle, BundleError, InputError, open_bundle
from towers.bundle import LAYOUT
from towers.exits import ExitingHead, ExitPlan, entropy, exits_of, margin
from towers.graph import Graph
from towers.tokens import TokenReader

TEXTS = st.lists(
    st.lists(st.sampled_from([*WORDS[:60], *CHARACTERS]), max_size=40).map(" ".join), min_size=1, max_size=40
)
PLANS = st.one_of(
    st.builds(lambda t: ExitPlan("entropy", t, (1, 2)), st.floats(-0.1, 1.1)),
    st.builds(lambda t: ExitPlan("margin", t, (1, 2)), st.floats(-0.1, 1.1)),
    st.builds(lambda t: ExitPlan("patience", t, (1, 2)), st.integers(0, 3)),
)


def head_of(bundle: Bundle, plan: ExitPlan, *, threads: int = 1) -> ExitingHead:
    tokens = TokenReader(bundle.path / LAYOUT.tokenizer, max_tokens=32)
    stages = [Graph(bundle.path / LAYOUT.stage(number)) for number in range(2)]
    return ExitingHead(tokens, stages, plan, threads=threads)


def one_by_one(bundle: Bundle, plan: ExitPlan, texts: Sequence[str]) -> tuple[list[np.ndarray], list[int]]:
    """The stupid twin: each text alone through every stage, nothing packed, the rule written out."""
    tokens = TokenReader(bundle.path / LAYOUT.tokenizer, max_tokens=32)
    first, second = (Graph(bundle.path / LAYOUT.stage(number)) for number in range(2))
    answers, layers = [], []
    for text in texts:
        ids = tokens.ids([text])[0][None]
        mask = np.ones_like(ids)
        early, hidden = first.outputs(ids, mask)
        p = early[0].astype(np.float64)
        ranked = sorted(p)
        leaves = {
            "entropy": -sum(x * np.log(max(x, 1e-12)) for x in p) / np.log(3) <= plan.threshold,
            "margin": ranked[2] - ranked[1] >= plan.threshold,
            "patience": plan.threshold <= 0,
        }[plan.rule]
        answers.append(early[0] if leaves else second.outputs(hidden, mask)[0][0])
        layers.append(1 if leaves else 2)
    return answers, layers


@given(texts=TEXTS, plan=PLANS)
@settings(max_examples=60)
def test_a_packed_batch_answers_as_one_by_one(tiny_exits: Bundle, texts: list[str], plan: ExitPlan) -> None:
    """Whatever the company, the rule and the threshold: the same exits, and in int8 the same probabilities."""
    found, layers = head_of(tiny_exits, plan).with_exits(texts)
    expected, expected_layers = one_by_one(tiny_exits, plan, texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert layers.tolist() == expected_layers


@given(texts=TEXTS, seed=st.integers(0, 99))
@settings(max_examples=20)
def test_answers_come_in_the_order_asked(tiny_exits: Bundle, texts: list[str], seed: int) -> None:
    """A permuted batch gives permuted answers and exits."""
    order = np.random.default_rng(seed).permutation(len(texts))
    found, layers = tiny_exits.sentiment_with_exits(texts)
    permuted, permuted_layers = tiny_exits.sentiment_with_exits([texts[i] for i in order])
    np.testing.assert_allclose(permuted, found[order], atol=1e-5)
    np.testing.assert_array_equal(permuted_layers, layers[order])


def test_some_leave_early_and_some_do_not(tiny_exits: Bundle) -> None:
    """The golden bundle is worth testing with: both exits are used."""
    texts = ["i love my new red shoes", "terrible", "where is my order", "bad coat", "good"]
    assert set(tiny_exits.sentiment_with_exits(texts)[1]) == {1, 2} == set(tiny_exits.exit_layers)


def test_only_those_that_stay_are_computed(tiny_exits: Bundle) -> None:
    """The second stage gets the rows that are not sure, padded to the longest of them and no longer."""
    head = head_of(tiny_exits, tiny_exits._sentiment.plan)  # type: ignore[union-attr]
    seen: list[tuple[int, ...]] = []

    class Watched:
        def __init__(self, graph: Graph) -> None:
            self.graph = graph

        def outputs(self, *arrays: np.ndarray) -> list[np.ndarray]:
            seen.append(arrays[0].shape[:2])
            return self.graph.outputs(*arrays)

    head._stages = [Watched(stage) for stage in head._stages]  # type: ignore[misc]
    texts = ["good", "terrible", "where is my order", "i love my new red shoes", "bad"]
    layers = head.with_exits(texts)[1]
    staying = [text for text, layer in zip(texts, layers, strict=True) if layer == 2]
    assert 0 < len(staying) < len(texts)
    reader = TokenReader(tiny_exits.path / LAYOUT.tokenizer, max_tokens=32)
    assert seen[1] == (len(staying), max(map(reader.count, staying)))


def test_nothing_in_nothing_out(tiny_exits: Bundle) -> None:
    probabilities, layers = tiny_exits.sentiment_with_exits([])
    assert probabilities.shape == (0, 3)
    assert layers.shape == (0,)


def test_many_threads_get_what_one_gets(tiny_exits: Bundle) -> None:
    """Calls from many threads, each with threads of its own, do not disturb each other."""
    texts = [f"the {a} {b}" for a in WORDS[20:40] for b in WORDS[40:50]]
    head = head_of(tiny_exits, ExitPlan("entropy", 0.6, (1, 2)), threads=3)
    expected, layers = head.with_exits(texts)
    with ThreadPoolExecutor(8) as pool:
        for found, found_layers in pool.map(lambda _: head.with_exits(texts), range(16)):
            np.testing.assert_allclose(found, expected, atol=1e-5)
            np.testing.assert_array_equal(found_layers, layers)


def test_a_bundle_with_exits_is_a_bundle(tiny_exits: Bundle, tiny_bundle: Bundle) -> None:
    """It has a head like any other, and says so; one without exits says how to get them."""
    texts = ["good", "terrible", "还款"]
    assert tiny_exits.has_sentiment
    np.testing.assert_array_equal(tiny_exits.sentiment(texts), tiny_exits.sentiment_with_exits(texts)[0])
    np.testing.assert_array_equal(tiny_exits.encode_titles(texts), tiny_bundle.encode_titles(texts))
    assert tiny_bundle.exit_layers == ()
    with pytest.raises(BundleError, match=r"has no exits\. Make one with: dualtower fit-sentiment --exits"):
        tiny_bundle.sentiment_with_exits(texts)


def test_a_changed_plan_is_found(tiny_exits_copy: Path) -> None:
    """The plan counts towards the bundle's content, like any file."""
    path = tiny_exits_copy / LAYOUT.exits
    path.write_text(path.read_text().replace('"entropy"', '"margin" '))
    with pytest.raises(BundleError, match=r"sentiment-exits\.json has SHA-256"):
        open_bundle(tiny_exits_copy)


# Rules, by hand.


def test_entropy_and_margin_by_hand() -> None:
    """0 and 1 for who is certain, 1 and 0 for who knows nothing."""
    rows = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [0.7, 0.2, 0.1]], np.float32)
    np.testing.assert_allclose(entropy(rows), [0, 1, np.log(2) / np.log(3), 0.7298467], atol=1e-5)
    np.testing.assert_allclose(margin(rows), [1, 0, 0, 0.5], atol=1e-6)


def test_patience_by_hand() -> None:
    """With patience 2, a text leaves at the third exit in a row that says the same."""
    labels = np.array([[0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]])  # exits, texts
    probabilities = np.eye(3, dtype=np.float32)[labels]
    assert exits_of(ExitPlan("patience", 2, (1, 2, 3, 4)), probabilities).tolist() == [2, 3, 3, 3]
    assert exits_of(ExitPlan("patience", 1, (1, 2, 3, 4)), probabilities).tolist() == [1, 2, 1, 1]


def test_thresholds_are_inclusive() -> None:
    """Exactly at the threshold is sure."""
    rows = np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.1, 0.8]]], np.float32)
    for plan in (
        ExitPlan("margin", float(margin(rows[0])[0]), (1, 2)),
        ExitPlan("entropy", float(entropy(rows[0])[0]), (1, 2)),
    ):
        assert exits_of(plan, rows).tolist() == [0]
        beyond = replace(plan, threshold=plan.threshold + (0.01 if plan.rule == "margin" else -0.01))
        assert exits_of(beyond, rows).tolist() == [1]


@given(seed=st.integers(0, 999), rule=st.sampled_from(["entropy", "margin"]))
def test_bolder_thresholds_never_leave_later(seed: int, rule: str) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(3), size=(4, 20)).astype(np.float32)
    cautious, bold = sorted(np.random.default_rng(seed).uniform(size=2), reverse=rule == "margin")
    layers = (1, 2, 3, 4)
    later = exits_of(ExitPlan(rule, cautious, layers), probabilities)
    assert (exits_of(ExitPlan(rule, bold, layers), probabilities) <= later).all()


def test_a_plan_survives_a_round_trip(tmp_path: Path) -> None:
    plan = ExitPlan("margin", 0.25, (2, 4, 6), (1.0, 1.1, 1.2), {"lost": 0.004})
    (tmp_path / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    assert ExitPlan.read(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rule": "luck", "threshold": 1, "layers": [1], "temperatures": []}']
)
def test_an_unreadable_plan_says_why(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(BundleError, match=r"plan\.json is no exit plan"):
        ExitPlan.read(tmp_path / "plan.json")


@pytest.mark.parametrize("layers", [(), (0, 1), (2, 1), (1, 1)])
def test_exits_stand_after_rising_layers(layers: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected rising numbers from 1 on"):
        ExitPlan("entropy", 0.5, layers)
