"""Rows of the match task: from a recipe to a bundle and its quality on held-out queries."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from towers.bundle import LAYOUT, Bundle, open_bundle
from towers.evaluate import evaluate_match, match_report
from towers.labelled import Pairs
from towers.train.base import load_tower
from towers.train.card import model_card
from towers.train.compare.data import MatchData, plain, subset
from towers.train.compare.encoded import encoded_once
from towers.train.compare.measure import Calls
from towers.train.compare.setting import BUNDLE, Made, Setting
from towers.train.cross.cross_encoder import cost_per_thousand, cross_scores, fit_cross
from towers.train.cross.taught import as_teacher
from towers.train.data import PairSet, Split
from towers.train.dataset.augment import augment_split
from towers.train.dataset.clean import clean_split
from towers.train.dataset.recombine import Score, recombine_split
from towers.train.distillation.distil import distil_tower
from towers.train.exporting.assemble import tower_parts, with_scorer
from towers.train.exporting.template import Templates
from towers.train.finetune import Encode, finetune
from towers.train.fit import FitRecipe, FitResult, TorchTowers, encode_sets, fit_scorer
from towers.train.pretraining.pretrain import pretrain
from towers.train.recipe import Recipe
from towers.train.report import Calibrated, calibrate, compare
from towers.train.scorer import ResidualScorer
from towers.train.scorer_training import join_pairs
from towers.train.structure import structured
from towers.train.write import write_bundle

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

_SERVED = "served"  # folder of the bundle whose vectors the scorer is trained on
_SAMPLE = 200  # texts that parity is measured and static scales are fixed on
_COST_TITLES = 100
METRICS = {"binary": "auc", "graded": "ndcg@10", "float": "spearman"}
"""Kind of labels -> the metric that rows are compared by."""
REPORTED = ("auc", "accuracy", "spearman", "ndcg@10", "calibration_error")


@dataclass(frozen=True)
class Towers:
    """Trained towers; `query` is None where one tower serves both."""

    title: SentenceTransformer
    query: SentenceTransformer | None = None


class MatchRows:
    """Makes rows of one seed, each in a folder of its own; what others go on from is made first, once."""

    def __init__(self, data: MatchData, setting: Setting) -> None:
        self._data = data
        self._setting = setting
        self._templates = Templates()
        self._masked: dict[str, Any] = {}
        self._teachers: dict[str, Score] = {}

    def make(self, recipe: Recipe) -> Made:
        """Make a row: train, write the bundle, measure its quality."""
        if recipe.engine == "torch":
            return self._torch()
        if "cross" in recipe.stages:
            return self._cross_row(recipe)
        start = time.perf_counter()
        towers, steps = self.trained(recipe)
        seconds = time.perf_counter() - start
        bundle, notes = self._bundle(recipe, towers)
        return Made(
            metric=self.metric,
            quality=self._quality(bundle),
            steps=steps,
            seconds=seconds if steps else 0.0,
            bundle=BUNDLE,
            notes=notes,
            curves=self._masked.get(recipe.name, {}),
        )

    @property
    def metric(self) -> str:
        """Name of the metric that rows are compared by."""
        return METRICS[self._data.sets[0].kind]

    # Training.

    def trained(self, recipe: Recipe) -> tuple[Towers, int]:
        """Return a recipe's towers and the steps that they took beyond what they started from."""
        work = self._setting.folder(recipe) / "work"
        start, stages = self._start(recipe), dict(recipe.stages)
        steps = 0
        tower = start.query or start.title
        if "pretrain" in stages:
            texts = self._data.texts
            settings = self._setting.pretraining(stages["pretrain"], texts=len(texts))
            done = pretrain(self._setting.base, texts, recipe=settings, work=work / "pretrain", resume=True)
            tower, steps = load_tower(done.directory), settings.steps
            self._masked[recipe.name] = {"masked_loss": done.curve}
        teacher = copy.deepcopy(tower) if "distil" in stages else None
        torch.manual_seed(self._setting.seed)
        tower = structured(copy.deepcopy(tower), stages, texts=self._data.texts, tokenizer=tower.tokenizer)
        if teacher is not None:
            settings = self._setting.scaled(stages["distil"])
            distil_tower(
                tower,
                teacher,
                self._data.texts,
                recipe=settings,
                work=work / "distil",
                resume=True,
                pairs=self._data.training_pairs if settings.scores else (),
                cache=self._setting.cache,
            )
            steps += settings.steps
        if "tune" in stages:
            settings = self._setting.scaled(stages["tune"])
            sets, splits = self._tuning_pairs(recipe)
            tower = finetune(
                tower,
                sets,
                splits,
                recipe=settings,
                adversarial=stages.get("adversarial"),
                encode=self._vectors,
                work=work / "tune",
                resume=True,
            )
            steps += settings.steps
        if recipe.query_cut or start.query is not None:
            return Towers(start.title, tower), steps
        return Towers(tower), steps

    def _start(self, recipe: Recipe) -> Towers:
        if recipe.start == "base":
            return Towers(load_tower(self._setting.base))
        return self.trained(self._setting.recipes[recipe.start])[0]

    def _tuning_pairs(self, recipe: Recipe) -> tuple[list[PairSet], list[Split]]:
        """The pairs to tune on: cleaned, or with new ones, as the recipe says; dev stays as it is."""
        stages = recipe.stages
        sets, splits = self._data.sets, self._data.splits
        if "clean" in stages:
            splits = [
                clean_split(pairs, split, recipe=stages["clean"], encode=self._vectors).kept
                for pairs, split in zip(sets, splits, strict=True)
            ]
        if "augment" in stages:
            score = self._teacher(recipe)
            grown = [
                recombine_split(pairs, split, score=score, recipe=stages["augment"])
                if score
                else augment_split(pairs, split, recipe=stages["augment"], seed=self._setting.seed)
                for pairs, split in zip(sets, splits, strict=True)
            ]
            sets, splits = [pairs for pairs, _ in grown], [split for _, split in grown]
        return sets, splits

    @cached_property
    def _vectors(self) -> Encode:
        """Texts -> vectors of the uncut towers, to clean and mine with; each text is encoded once for all rows."""
        towers: Any = self._uncut() or TorchTowers(load_tower(self._setting.base))
        known: dict[str, NDArray[np.float32]] = {}

        def encode(texts: Sequence[str]) -> NDArray[np.float32]:
            new = [text for text in dict.fromkeys(texts) if text not in known]
            known.update(zip(new, towers.encode_titles(new) if new else (), strict=True))
            return np.array([known[text] for text in texts], np.float32)

        return encode

    def _uncut(self) -> Bundle | None:
        """The bundle of the row "full"; None where a recipe is run alone."""
        folder = self._setting.folder(self._setting.recipes["full"]) / BUNDLE
        return open_bundle(folder) if folder.is_dir() else None

    def _teacher(self, recipe: Recipe) -> Score | None:
        """What the recipe's cross-encoder says of queries and titles; None where it has none."""
        if not recipe.teacher:
            return None
        if recipe.teacher not in self._teachers:
            cross = self.cross(self._setting.recipes[recipe.teacher])
            self._teachers[recipe.teacher] = as_teacher(cross)
        return self._teachers[recipe.teacher]

    # Bundles.

    def _bundle(self, recipe: Recipe, towers: Towers) -> tuple[Bundle, list[str]]:
        """Export towers, train the scorer that the recipe wants or calibrate the cosine, and write the bundle."""
        folder = self._setting.folder(recipe)
        parts = tower_parts(
            towers.title,
            base=self._setting.base,
            base_licence=self._setting.base_licence,
            licence=self._setting.base_licence,
            precision=recipe.stages.get("precision"),
            texts=self._data.texts[:_SAMPLE],
            query=towers.query,
            query_precision=recipe.stages.get("query_precision"),
            export=self._templates.export,
        )
        served = write_bundle(folder / _SERVED, parts, replace=True)
        result, notes = self._scorer(recipe, towers, served)
        parts = with_scorer(parts, result)
        parts.facts["recipe"]["compare"] = self._setting.told(recipe)
        parts.extra_files[LAYOUT.card] = model_card(parts.facts)
        bundle = write_bundle(folder / BUNDLE, parts, replace=True)
        shutil.rmtree(folder / _SERVED)
        return bundle, notes

    def _scorer(self, recipe: Recipe, towers: Towers, served: Bundle) -> tuple[FitResult, list[str]]:
        sets, splits = self._data.sets, self._data.splits
        settings = FitRecipe(freeze_towers=True, seed=self._setting.seed)
        if "scorer" not in recipe.stages:
            chosen, metrics, kind = calibrated_cosine(served, sets, splits)
            notes = []
        else:
            settings = replace(settings, scorer=replace(recipe.stages["scorer"], seed=self._setting.seed))
            pairs = encoded_once(served, sets, self._setting)
            chosen, metrics, kind = fit_scorer(sets, splits, pairs, settings, teacher=self._teacher(recipe))
            notes = (
                [] if kind == "residual" else ["the DNN did not beat calibrated cosine on dev, which is kept"]
            )
        return (
            FitResult(
                tower=towers.title,
                scorer=chosen.scorer,
                scorer_kind=kind,
                threshold=chosen.threshold,
                metrics=metrics,
                recipe=asdict(settings),
                training_data=[{"name": x.name, "rows": x.rows, "licence": x.licence} for x in sets],
            ),
            notes,
        )

    # Quality.

    def _quality(self, bundle: Any) -> dict[str, float]:
        """Measure what a bundle's score says of the test pairs; the mean over the sets."""
        found = []
        for pairs in self._data.test:
            report = evaluate_match(bundle, plain(pairs))
            found.append(
                {name: report["score"][name] for name in REPORTED}
                | {"auc of cosine": report["cosine"]["auc"]}
            )
        return mean_of(found)

    # Rows that are no bundles.

    def _torch(self) -> Made:
        quality = []
        towers = TorchTowers(load_tower(self._setting.base))
        for pairs in self._data.test:
            cosines = (towers.encode_queries(pairs.queries) * towers.encode_titles(pairs.titles)).sum(axis=1)
            quality.append(measured(plain(pairs), cosines))
        return Made(self.metric, mean_of(quality), notes=["cannot be shipped: it runs in torch"])

    def torch_calls(self, recipe: Recipe) -> Calls:
        """Open the towers in torch, for timing: one query, and a batch of titles."""
        del recipe  # towers have one row in torch, the uncut ones
        tower = load_tower(self._setting.base)
        return (
            lambda text: tower.encode([text], show_progress_bar=False),
            lambda texts: tower.encode(list(texts), show_progress_bar=False),
        )

    def _cross_row(self, recipe: Recipe) -> Made:
        start = time.perf_counter()
        cross = self.cross(recipe)
        seconds = time.perf_counter() - start
        quality = [
            measured(plain(pairs), cross_scores(cross, pairs.queries, pairs.titles))
            for pairs in self._data.test
        ]
        return Made(
            metric=self.metric,
            quality=mean_of(quality),
            steps=self._setting.steps(recipe.stages["cross"]),
            seconds=seconds,
            notes=["cannot be shipped: a cross-encoder has no vectors to cache"],
            curves={"cost": self._cost(cross)},
        )

    def cross(self, recipe: Recipe) -> CrossEncoder:
        """Train a recipe's cross-encoder, or take it from the row's folder."""
        return fit_cross(
            self._data.sets,
            self._data.splits,
            recipe=self._setting.scaled(recipe.stages["cross"]),
            checkpoint=self._setting.base,
            work=self._setting.folder(recipe) / "work",
            resume=True,
        )

    def _cost(self, cross: CrossEncoder) -> dict[str, float]:
        """Seconds for 1,000 titles: this cross-encoder, and the towers of the row "full" with vectors cached or not."""
        uncut = self._uncut()
        if uncut is None:
            return {}
        pairs = self._data.test[0]
        return cost_per_thousand(uncut, cross, pairs.queries[0], pairs.titles[:_COST_TITLES])


def calibrated_cosine(
    served: Bundle, sets: Sequence[PairSet], splits: Sequence[Split]
) -> tuple[Calibrated, dict[str, Any], str]:
    """Calibrate plain cosine on the dev pairs: what a bundle serves that has no DNN scorer."""
    held_out = [subset(pairs, split.dev) for pairs, split in zip(sets, splits, strict=True)]
    dev = join_pairs(encode_sets(served, held_out))
    cosine = calibrate(ResidualScorer(dev.vectors.shape[1], hidden=0), dev)
    everything = [Split(np.zeros(len(pairs), bool), np.ones(len(pairs), bool)) for pairs in held_out]
    metrics = compare(held_out, everything, dev, score=cosine, cosine=cosine) | {"scorer": "cosine"}
    return cosine, metrics, "cosine"


def measured(pairs: Pairs, scores: NDArray[np.float32]) -> dict[str, float]:
    """Measure scores that come from no bundle."""
    groups = np.unique(pairs.queries, return_inverse=True)[1]
    report = match_report(pairs.labels, scores, scores, groups, 0.5)["cosine"]
    return {name: report[name] for name in REPORTED}


def mean_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over sets of pairs; those that one of them leaves undefined are left out."""
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {name: value for name, value in means.items() if not np.isnan(value)}
