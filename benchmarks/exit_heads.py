"""What benchmarks/early_exit.py compares: one classifier, whole, cut and with exits, trained, exported and kept."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data_file
from towers import Bundle
from towers.exits import RULES, ExitPlan
from towers.labelled import Texts, read_texts
from towers.train.base import load_classifier
from towers.train.early_exit.exits import ExitRecipe, fit_exits
from towers.train.early_exit.export_exits import with_exits, without_head
from towers.train.exporting.assemble import with_sentiment
from towers.train.exporting.export import Precision
from towers.train.sentiment import (
    SentimentRecipe,
    SentimentResult,
    fit_sentiment,
    join_texts,
    split_texts,
)
from towers.train.sources import unescape
from towers.train.structures.cut import cut
from towers.train.write import Parts, read_parts, write_bundle

TWEETS = "sentiment/en/semeval2013_16.jsonl.gz"
REVIEWS = "sentiment/en/sst5_train.jsonl.gz"
REVIEWS_TEST = "sentiment/en/sst5_dev.jsonl.gz"
HELD_OUT = 4000  # tweets for the test, and texts for thresholds: a point of accuracy is then 40 texts
FULL, FULL_DYNAMIC, EXITS = "full", "full, scales from each batch", "exits"


@dataclass(frozen=True)
class Data:
    """What is trained, tuned and tested on; no text is on two sides."""

    train: Texts
    dev: Texts
    tests: Mapping[str, Texts]


def read(options: argparse.Namespace) -> Data:
    """Tweets and reviews; the tests are tweets that were held out and SST-5's dev texts."""
    tweets = _decoded(read_texts(data_file(options, TWEETS)))
    reviews = read_texts(data_file(options, REVIEWS))
    most = 60 if options.quick else HELD_OUT
    others, test = split_texts(tweets, share=0.1, seed=1, most=most)
    train, dev = split_texts(join_texts([reviews, others]), share=0.08, seed=2, most=most)
    last = read_texts(data_file(options, REVIEWS_TEST))
    if options.quick:
        train, last = _first(train, 200), _first(last, 60)
    return Data(train, dev, {"tweets, held out": test, "SST-5 dev": last})


def make_heads(
    options: argparse.Namespace, base: Bundle, data: Data
) -> tuple[dict[str, Bundle], dict[str, ExitPlan]]:
    """Train and export all contenders: bundles by name, and the tuned plan of each exit rule."""
    towers, work = without_head(read_parts(base.path)), options.work
    full = _trained(options, data, checkpoint=None, work=work / "full")
    start = _saved(full.model, full.tokenizer, work / "full-checkpoint")
    exiting = _with_exits(options, towers, start, data)
    plans = _plans(exiting)
    heads = {EXITS: exiting}
    for name, kind in ((FULL, "int8-static"), (FULL_DYNAMIC, "int8")):
        heads[name] = _exported(work / f"bundle-{kind}", towers, full, data, kind)
    depth = exiting.manifest.metrics["sentiment"]["exits"]["chosen"]["mean_layers"]
    for layers in sorted({int(np.floor(depth)), int(np.ceil(depth))}):
        cut_to = _cut(start, layers, work / f"cut-{layers}-checkpoint")
        result = _trained(options, data, checkpoint=cut_to, work=work / f"cut-{layers}")
        heads[cut_name(layers)] = _exported(
            work / f"bundle-cut-{layers}", towers, result, data, "int8-static"
        )
    return heads, plans


def cut_name(layers: int | str) -> str:
    """How tables call a classifier cut to its first layers."""
    return f"cut to {layers}"


def _with_exits(options: argparse.Namespace, towers: Parts, start: Path, data: Data) -> Bundle:
    model, tokenizer = load_classifier(start)
    recipe = ExitRecipe(
        steps=options.steps, batch_size=options.batch_size, max_loss=options.max_loss, bf16=options.bf16
    )
    result = fit_exits(
        model, tokenizer, data.train, data.dev, recipe=recipe, work=options.work / "exits", resume=True
    )
    parts = with_exits(towers, result, dev=data.dev, data=[], precision=Precision())
    return write_bundle(options.work / "bundle-exits", parts, replace=True)


def _trained(
    options: argparse.Namespace, data: Data, *, checkpoint: Path | None, work: Path
) -> SentimentResult:
    recipe = SentimentRecipe(
        steps=options.steps, batch_size=options.batch_size, freeze_layers=0, bf16=options.bf16
    )
    return fit_sentiment(data.train, checkpoint=checkpoint, recipe=recipe, work=work, resume=True)


def _cut(start: Path, layers: int, folder: Path) -> Path:
    model, tokenizer = load_classifier(start)
    cut(model, tuple(range(layers)))
    return _saved(model, tokenizer, folder)


def _saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _exported(out: Path, towers: Parts, result: SentimentResult, data: Data, kind: str) -> Bundle:
    precision = Precision(matmul=kind)
    return write_bundle(
        out, with_sentiment(towers, result, dev=data.dev, data=[], precision=precision), replace=True
    )


def _plans(bundle: Bundle) -> dict[str, ExitPlan]:
    rules = bundle.manifest.metrics["sentiment"]["exits"]["rules"]
    return {rule: ExitPlan(rule, rules[rule]["threshold"], bundle.exit_layers) for rule in RULES}


def _decoded(texts: Texts) -> Texts:
    return Texts([unescape(text) for text in texts.texts], texts.labels)


def _first(texts: Texts, most: int) -> Texts:
    return Texts(texts.texts[:most], texts.labels[:most])
