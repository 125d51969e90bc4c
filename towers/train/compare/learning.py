"""The learning curve: quality against the share of the training data, everything else as in the row it belongs to.

For pairs it is the DNN scorer over the uncut towers, whose training takes seconds; for texts the uncut classifier, with
as many passes over each share, so that a share of the data takes that share of the steps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch

from towers.bundle import open_bundle
from towers.evaluate import match_report
from towers.sentiment import LABELS
from towers.train.base import load_classifier
from towers.train.compare.classify import METRIC
from towers.train.compare.data import MatchData, TextData
from towers.train.compare.encoded import encoded_once
from towers.train.compare.match import METRICS
from towers.train.compare.results import LearningPoint, write_whole
from towers.train.compare.setting import BUNDLE, LEAST_STEPS, Setting, least_steps
from towers.train.data import Split
from towers.train.dataset.curve import SHARES, CurvePoint, learning_curve, nested_parts, nested_splits
from towers.train.fit import FitRecipe, fit_scorer
from towers.train.scorer_training import logits_of
from towers.train.sentiment import classify, sentiment_report, softmax
from towers.train.sentiment_training import run_trainer

FULL = "full"  # the row whose curve it is


def learning_points(data: MatchData | TextData, settings: Sequence[Setting]) -> list[LearningPoint]:
    """Return the curve of a task with one value for each seed; what was measured before is not measured again.

    Args:
        data: Of the task.
        settings: One for each seed.
    """
    of_seed = [_kept(data, setting) for setting in settings]
    return [
        LearningPoint(settings[0].task, points[0].share, points[0].rows, [point.quality for point in points])
        for points in zip(*of_seed, strict=True)
    ]


def _kept(data: MatchData | TextData, setting: Setting) -> list[CurvePoint]:
    path = setting.work / "rows" / setting.task / f"learning-{setting.seed}.json"
    if path.is_file():
        return [CurvePoint(**point) for point in json.loads(path.read_text(encoding="utf-8"))]
    points = match_curve(data, setting) if isinstance(data, MatchData) else text_curve(data, setting)
    write_whole(path, json.dumps([asdict(point) for point in points], indent=1) + "\n")
    return points


def match_curve(data: MatchData, setting: Setting) -> list[CurvePoint]:
    """Train the scorer on shares of the pairs, by query, and measure it on the test pairs."""
    folder = setting.folder(setting.recipes[FULL]) / BUNDLE
    bundle = open_bundle(folder)
    known, test = encoded_once(bundle, data.sets, setting), encoded_once(bundle, data.test, setting)
    metric = METRICS[data.sets[0].kind]

    def quality(splits: list[Split]) -> float:
        chosen, _, _ = fit_scorer(data.sets, splits, known, FitRecipe(freeze_towers=True, seed=setting.seed))
        values = []
        for held_out, vectors in zip(data.test, test, strict=True):
            scores = logits_of(chosen.scorer, vectors)
            report = match_report(held_out.original_labels, scores, scores, vectors.queries, 0.0)
            values.append(report["cosine"][metric])
        return float(np.mean(values))

    shares = [
        nested_splits(one, split, SHARES, seed=setting.seed)
        for one, split in zip(data.sets, data.splits, strict=True)
    ]
    subsets = [
        (parts[0][0], sum(rows for _, rows, _ in parts), [split for _, _, split in parts])
        for parts in zip(*shares, strict=True)
    ]
    return learning_curve(quality, subsets)


def text_curve(data: TextData, setting: Setting) -> list[CurvePoint]:
    """Fine-tune the uncut classifier on shares of the texts and measure it on the test texts."""
    row = setting.recipes[FULL]
    full = setting.scaled(row.stages["tune"], least=least_steps(row, row.stages["tune"]))

    def quality(part: tuple[float, int]) -> float:
        share, place = part
        torch.manual_seed(setting.seed)
        model, tokenizer = load_classifier(setting.base, num_labels=len(LABELS))
        recipe = replace(full, steps=max(LEAST_STEPS, round(share * full.steps)))
        work = setting.work / "rows" / setting.task / f"learning-{setting.seed}-{share:g}"
        run_trainer(model, tokenizer, parts[place][2], recipe=recipe, work=work, resume=True)
        logits = classify(model, tokenizer, data.test.texts, max_tokens=recipe.max_tokens)
        return float(sentiment_report(data.test.labels, softmax(logits))[METRIC])

    parts = nested_parts(data.train, SHARES, seed=setting.seed)
    return learning_curve(
        quality, [(share, rows, (share, place)) for place, (share, rows, _) in enumerate(parts)]
    )
