"""Rows of the sentiment task: from a recipe to a bundle and its quality on held-out texts."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from towers.bundle import LAYOUT, Bundle, open_bundle
from towers.evaluate import evaluate_sentiment
from towers.labelled import Texts
from towers.sentiment import LABELS
from towers.train.base import load_classifier
from towers.train.card import model_card
from towers.train.compare.data import TextData
from towers.train.compare.measure import Calls
from towers.train.compare.setting import BUNDLE, Made, Setting, least_steps
from towers.train.dataset.augment import augment_texts
from towers.train.dataset.clean import clean_texts
from towers.train.distillation.distil import distil_classifier
from towers.train.early_exit.exits import ExitResult, fit_exits
from towers.train.early_exit.export_exits import with_exits
from towers.train.exporting.assemble import with_sentiment
from towers.train.exporting.template import Templates
from towers.train.pretraining.pretrain import pretrain
from towers.train.recipe import Recipe
from towers.train.sentiment import (
    SentimentRecipe,
    SentimentResult,
    classify,
    fit_temperature,
    logistic_regression,
    sentiment_report,
    softmax,
)
from towers.train.sentiment_training import run_trainer
from towers.train.structure import structured
from towers.train.weights import trained_once
from towers.train.write import read_parts, write_bundle

METRIC = "macro_recall"
_SAMPLE = 200  # texts that static scales are fixed on
REPORTED = ("macro_recall", "accuracy", "macro_f1", "calibration_error")


class SentimentRows:
    """Makes rows of one seed, each in a folder of its own; what others go on from is made first, once.

    Args:
        data: Texts.
        setting: The seed and all else that rows have in common.
        towers: The bundle that every row's head is put into, made from the same base.
    """

    def __init__(self, data: TextData, setting: Setting, *, towers: Path) -> None:
        self._data = data
        self._setting = setting
        self._towers = towers
        self._masked: dict[str, Any] = {}
        torch.manual_seed(setting.seed)  # of the head, which is new; all rows start from the same one
        self._model: nn.Module
        self._model, self._tokenizer = load_classifier(setting.base, num_labels=len(LABELS))
        self._templates = Templates()

    def make(self, recipe: Recipe) -> Made:
        """Make a row: train, write the bundle, measure its quality."""
        if recipe.engine == "logistic":
            return self._logistic()
        start = time.perf_counter()
        model, steps = self.trained(recipe)
        if recipe.engine == "torch":
            return self._in_torch(model)
        exits = None
        if "exits" in recipe.stages:
            exits = self._with_exits(recipe, model)
            steps += self._setting.steps(recipe.stages["exits"])
        seconds = time.perf_counter() - start
        bundle, curves = self._bundle(recipe, model, exits)
        return Made(
            metric=METRIC,
            quality=self._quality(bundle),
            steps=steps,
            seconds=seconds if steps else 0.0,
            bundle=BUNDLE,
            curves=curves | self._masked.get(recipe.name, {}),
        )

    def trained(self, recipe: Recipe) -> tuple[nn.Module, int]:
        """Return a recipe's classifier, without exits, and the steps it took beyond what it started from."""
        work = self._setting.folder(recipe) / "work"
        stages, steps = recipe.stages, 0
        model: nn.Module = self._start(recipe)
        if "pretrain" in stages:
            texts = self._data.texts
            settings = self._setting.pretraining(stages["pretrain"], texts=len(texts))
            done = pretrain(self._setting.base, texts, recipe=settings, work=work / "pretrain", resume=True)
            torch.manual_seed(self._setting.seed)
            model, steps = load_classifier(done.directory, num_labels=len(LABELS))[0], settings.steps
            self._masked[recipe.name] = {"masked_loss": done.curve}
        teacher = copy.deepcopy(model) if "distil" in stages else None
        torch.manual_seed(self._setting.seed)
        model = structured(model, stages, texts=self._data.texts, tokenizer=self._tokenizer)
        if teacher is not None:
            steps += self._distil(model, teacher, recipe, work / "distil")
        if "tune" in stages:
            steps += self._tune(model, recipe, work / "tune")
        return model, steps

    def _start(self, recipe: Recipe) -> nn.Module:
        if recipe.start == "base":
            return copy.deepcopy(self._model)
        started, _ = self.trained(self._setting.recipes[recipe.start])
        return started

    def _distil(self, model: nn.Module, teacher: nn.Module, recipe: Recipe, work: Path) -> int:
        settings = self._setting.scaled(recipe.stages["distil"])
        train = self._data.train
        texts = [*train.texts, *self._data.extra]
        labels = np.concatenate([train.labels + 1, np.full(len(self._data.extra), -1)])
        cache = self._setting.cache
        distil_classifier(
            model,
            teacher,
            self._tokenizer,
            texts,
            labels=labels,
            recipe=settings,
            work=work,
            resume=True,
            cache=cache,
        )
        return int(settings.steps)

    def _tune(self, model: nn.Module, recipe: Recipe, work: Path) -> int:
        settings = self._setting.scaled(
            recipe.stages["tune"], least=least_steps(recipe, recipe.stages["tune"])
        )
        adversarial = recipe.stages.get("adversarial")

        def train() -> None:
            texts = self._training_texts(recipe)
            run_trainer(
                model,
                self._tokenizer,
                texts,
                recipe=settings,
                work=work,
                resume=True,
                adversarial=adversarial,
            )

        trained_once(model, work / "weights.safetensors", train)
        return int(settings.steps)

    def _training_texts(self, recipe: Recipe) -> Texts:
        train = self._data.train
        if "clean" in recipe.stages:
            encode = open_bundle(self._towers).encode_titles
            train = clean_texts(train, recipe=recipe.stages["clean"], encode=encode).kept
        if "augment" in recipe.stages:
            train = augment_texts(train, recipe=recipe.stages["augment"], seed=self._setting.seed)
        return train

    # Bundles.

    def _bundle(
        self, recipe: Recipe, model: nn.Module, exits: ExitResult | None
    ) -> tuple[Bundle, dict[str, Any]]:
        """Calibrate, export and write the bundle: the base's towers with this head."""
        parts = read_parts(self._towers)
        precision = recipe.stages["precision"]
        entry = [{"name": self._data.name, "rows": len(self._data.train.texts), "licence": "not given"}]
        facts: dict[str, Any] = {"dev": self._data.dev, "data": entry, "precision": precision}
        curves: dict[str, Any] = {}
        if exits is not None:
            parts = with_exits(parts, exits, **facts)
            left = parts.facts["metrics"]["sentiment"]["exits"]["chosen"]["histogram"]
            curves["exits"] = {"layers": [int(layer) for layer in left], "counts": list(left.values())}
        else:
            parts = with_sentiment(
                parts,
                self._calibrated(model, self._setting.tuning(recipe)),
                texts=self._data.train.texts[:_SAMPLE],
                export=self._templates.export,
                **facts,
            )
        parts.facts["recipe"]["compare"] = self._setting.told(recipe)
        parts.extra_files[LAYOUT.card] = model_card(parts.facts)
        return write_bundle(self._setting.folder(recipe) / BUNDLE, parts, replace=True), curves

    def _with_exits(self, recipe: Recipe, model: nn.Module) -> ExitResult:
        return fit_exits(
            model,
            self._tokenizer,
            self._data.train,
            self._data.dev,
            recipe=self._setting.scaled(recipe.stages["exits"]),
            work=self._setting.folder(recipe) / "work" / "exits",
            resume=True,
        )

    def _calibrated(self, model: nn.Module, recipe: SentimentRecipe) -> SentimentResult:
        dev = self._data.dev
        logits = classify(model, self._tokenizer, dev.texts, max_tokens=recipe.max_tokens)
        temperature = fit_temperature(logits, dev.labels)
        metrics = sentiment_report(dev.labels, softmax(logits / temperature))
        rows = len(self._data.train.texts)
        return SentimentResult(model, self._tokenizer, temperature, metrics, recipe, training_rows=rows)

    # Quality.

    def _quality(self, bundle: Bundle) -> dict[str, float]:
        report = evaluate_sentiment(bundle, self._data.test)
        return {name: float(report[name]) for name in REPORTED if name in report}

    def _in_torch(self, model: nn.Module) -> Made:
        logits = classify(model, self._tokenizer, self._data.test.texts, max_tokens=self._setting.max_tokens)
        report = sentiment_report(self._data.test.labels, softmax(logits))
        quality = {name: float(report[name]) for name in REPORTED if name in report}
        return Made(METRIC, quality, notes=["cannot be shipped: it runs in torch"])

    def torch_calls(self, recipe: Recipe) -> Calls:
        """Open the classifier in torch, for timing: one text, and a batch."""
        model, _ = self.trained(recipe)
        most = self._setting.max_tokens
        return (
            lambda text: classify(model, self._tokenizer, [text], max_tokens=most),
            lambda texts: classify(model, self._tokenizer, texts, max_tokens=most),
        )

    def _logistic(self) -> Made:
        report = logistic_regression(
            self._data.train, self._data.test, open_bundle(self._towers).encode_titles
        )
        quality = {name: float(report[name]) for name in REPORTED if name in report}
        return Made(METRIC, quality, notes=["cannot be shipped: a bundle's head is a graph of tokens"])
