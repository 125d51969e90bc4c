from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from towers.graph import Graph
from towers.metrics import auc
from towers.scorer import Scorer
from towers.train.report import balanced_threshold, calibrate, set_weights
from towers.train.scorer import ResidualScorer, export_scorer
from towers.train.scorer_training import (
    ScorerPairs,
    ScorerRecipe,
    logits_of,
    planned_epochs,
    platt,
    ranking_loss,
    train_scorer,
    with_random_negatives,
)

DIM = 24


def unit(rows: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def blind_cosine_pairs(count: int, seed: int) -> ScorerPairs:
    """Pairs that agree in the first half of the vectors (matches) or in the second, which cosine cannot tell apart."""
    rng = np.random.default_rng(seed)
    vectors = unit(2 * count, seed)
    queries, titles = np.arange(count), np.arange(count, 2 * count)
    near = rng.random(count) < 0.5
    half = DIM // 2
    vectors[titles[near], :half] = vectors[queries[near], :half]
    vectors[titles[~near], half:] = vectors[queries[~near], half:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return ScorerPairs(vectors, queries, titles, near.astype(np.float32), np.zeros(count, np.int64))


def shaken(scorer: ResidualScorer, seed: int = 1) -> ResidualScorer:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return scorer.eval()


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("titles", [1, 7, 300])
def test_the_graph_computes_what_torch_computes(hidden: int, titles: int, tmp_path: Path) -> None:
    """Folding the query into the weights changes nothing, for any number of titles."""
    scorer = shaken(ResidualScorer(DIM, hidden=hidden, width=10))
    export_scorer(scorer, tmp_path / "scorer.onnx")
    query, others = unit(1, 5)[0], unit(titles, 6)
    served = Scorer(Graph(tmp_path / "scorer.onnx"), dim=DIM).score(query, others)
    with torch.no_grad():
        logits = scorer(torch.from_numpy(query).expand(titles, -1), torch.from_numpy(others))
    assert served.shape == (titles,)
    np.testing.assert_allclose(served, torch.sigmoid(logits).numpy(), atol=2e-6)


def test_the_formula_written_out() -> None:
    """The score is a · cosine + b + MLP(|Pu − Pv|, Pu ∘ Pv), in plain numpy."""
    scorer = shaken(ResidualScorer(DIM, hidden=5, width=7))
    u, v = unit(1, 1)[0], unit(1, 2)[0]
    p = scorer.project.weight.detach().numpy()
    first, bias = scorer.first.weight.detach().numpy(), scorer.first.bias.detach().numpy()
    x = first @ np.concatenate([np.abs(p @ u - p @ v), (p @ u) * (p @ v)]) + bias
    gelu = torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
    by_hand = (
        scorer.slope.item() * u @ v + scorer.offset.item() + gelu @ scorer.last.weight.detach().numpy()[0]
    )
    with torch.no_grad():
        assert scorer(torch.from_numpy(u)[None], torch.from_numpy(v)[None]).item() == pytest.approx(
            by_hand, abs=1e-4
        )


def test_the_graph_is_the_same_bytes_each_time_and_fits_a_bundle(tmp_path: Path) -> None:
    """No time stamp or path gets into it; at 384 dimensions it stays under 300 KB."""
    scorer = shaken(ResidualScorer(384))
    for name in ("a", "b"):
        export_scorer(scorer, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 300_000


def test_a_new_scorer_is_cosine() -> None:
    """The MLP's last layer starts at zero, so that training starts from cosine."""
    pairs = blind_cosine_pairs(50, 1)
    cosines = (pairs.vectors[pairs.queries] * pairs.vectors[pairs.titles]).sum(axis=1)
    np.testing.assert_allclose(logits_of(ResidualScorer(DIM), pairs), 10 * cosines - 5, atol=1e-5)


def test_training_finds_what_cosine_does_not_see() -> None:
    """On pairs of vectors that were not trained on."""
    recipe = ScorerRecipe(epochs=12, hidden=16, noise=0.1, dropout=0.0, learning_rate=1e-2)
    train, dev = blind_cosine_pairs(1200, 1), blind_cosine_pairs(300, 2)
    scorer = train_scorer(train, recipe)
    cosine = auc(dev.labels, logits_of(ResidualScorer(DIM, hidden=0), dev))
    assert auc(dev.labels, logits_of(scorer, dev)) > cosine + 0.2


def test_the_same_seed_gives_the_same_scorer() -> None:
    """Weights, order, dropout and noise all come from it."""
    pairs = blind_cosine_pairs(100, 1)
    one, same, other = (
        logits_of(train_scorer(pairs, ScorerRecipe(epochs=2, seed=seed)), pairs) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_random_negatives_are_never_labelled_pairs_and_stay_in_their_set() -> None:
    """A title of another set would be told from its subject alone."""
    vectors = unit(8, 1)
    pairs = ScorerPairs(
        vectors,
        np.array([0, 0, 1, 4, 5]),
        np.array([2, 3, 2, 6, 7]),
        np.ones(5, np.float32),
        np.array([0, 0, 0, 1, 1]),
    )
    more = with_random_negatives(pairs, share=20.0, rng=np.random.default_rng(1))
    new = set(zip(more.queries[5:].tolist(), more.titles[5:].tolist(), strict=True))
    assert new == {(1, 3), (4, 7), (5, 6)}
    assert not more.labels[5:].any()


def test_the_ranking_loss_by_hand() -> None:
    """Only titles of one query with different labels count: log(1 + exp(z_low − z_high)), here twice."""
    logits = torch.tensor([2.0, 1.0, 0.5, 9.0])
    loss = ranking_loss(logits, torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([1, 1, 1, 2]))
    assert loss.item() == pytest.approx((np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-1.5))) / 2, rel=1e-6)
    assert ranking_loss(logits, torch.ones(4), torch.ones(4)).item() == 0


def test_platt_finds_the_slope_and_offset_that_made_the_labels() -> None:
    """Held against the truth, and against labels that are separable, where it must stay finite."""
    values = np.random.default_rng(1).normal(size=20_000)
    labels = 1 / (1 + np.exp(-(3 * values - 1)))
    assert platt(values, labels) == pytest.approx((3, -1), abs=1e-3)
    slope, offset = platt(np.array([-1.0, 1.0]), np.array([0.0, 1.0]))
    assert np.isfinite([slope, offset]).all()
    assert slope > 0


def test_a_large_set_does_not_drown_a_small_one() -> None:
    """Every set has the same weight in the threshold: the small one's error costs as much as the large one's."""
    sets = np.array([0] * 8 + [1] * 2)
    weights = set_weights(sets)
    assert [weights[sets == i].sum() for i in (0, 1)] == pytest.approx([1, 1])
    scores = np.array([0.4] * 4 + [0.9] * 4 + [0.6, 0.1])
    positive = np.array([True] * 4 + [True] * 4 + [False, False])
    # 0.25 and 0.75 both decide one group wrongly: four of eight in the large set, one of two in the small one.
    heavier = np.where(sets == 1, 2 * weights, weights)
    assert balanced_threshold(positive, scores, heavier) == pytest.approx(0.75)
    assert balanced_threshold(positive, scores, np.ones(10, np.float32)) == pytest.approx(0.25)


def test_what_calibration_reports_is_what_is_served(tmp_path: Path) -> None:
    """The probabilities of the dev pairs are those of the exported graph, and the order of the pairs is kept."""
    dev = blind_cosine_pairs(200, 3)
    recipe = ScorerRecipe(hidden=16, noise=0.1, dropout=0.0, learning_rate=1e-2)
    scorer = train_scorer(dev, recipe)
    before = logits_of(scorer, dev)
    calibrated = calibrate(scorer, dev)
    assert auc(dev.labels, calibrated.probabilities) == pytest.approx(auc(dev.labels, before))
    export_scorer(calibrated.scorer, tmp_path / "s.onnx")
    scorer_in_service = Scorer(Graph(tmp_path / "s.onnx"), dim=DIM)
    for i in range(5):
        served = scorer_in_service.score(dev.vectors[dev.queries[i]], dev.vectors[dev.titles[i : i + 1]])
        assert served[0] == pytest.approx(calibrated.probabilities[i], abs=1e-5)


@pytest.mark.parametrize(("pairs", "epochs"), [(20_000, 15), (2_550, 67), (200, 100)])
def test_few_pairs_are_seen_more_often(pairs: int, epochs: int) -> None:
    """A small set gets as many passes as make 1,000 steps, within reason; a large one those of the recipe."""
    assert planned_epochs(ScorerRecipe(), pairs) == epochs
