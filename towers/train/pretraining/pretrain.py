"""More pretraining on one's own text: masked-LM on a checkpoint before it is fine-tuned or distilled.

    texts -> held out / trained on -> words, names, counts -> masks, drawn anew each time -> body -> checkpoint

Gururangan et al. 2020 ("Don't stop pretraining") call it task- and domain-adaptive pretraining. Masks are those of
`masking`, dynamic as in RoBERTa (Liu et al. 2019, 4.1): a text that comes again has other masks.

When not to use it: for a tower that is to be used as it is. Nothing in the loss keeps the geometry of its vectors: 240
steps of 16 product titles cost all-MiniLM-L6-v2 0.4 points of Spearman on STS-B at a learning rate of 5e-5 and 1.5
points at 2e-4, while held-out titles' loss had only begun to fall. Fine-tune the result on pairs, or distil the old
tower's vectors into it, and compare with the same without pretraining. It takes thousands of texts whose words the
checkpoint knows badly. Cost: a step is about three times the encoding of its texts, plus the vocabulary's matrix for
one token in seven.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from towers.errors import InputError
from towers.train.base import base_key, weights_sha256
from towers.train.fit import prepare_work
from towers.train.pretraining.entities import EntityFinder
from towers.train.pretraining.marking import MarkedTexts, Marker
from towers.train.pretraining.masking import (
    STRATEGIES,
    MaskRecipe,
    Replacement,
    apply_masks,
    as_mask_recipe,
    between,
    draw_masked,
)
from towers.train.pretraining.mlm import MaskedModel, Probe, load_masked, start_head
from towers.train.pretraining.mlm_training import head_steps, train_masked
from towers.train.pretraining.segment import Segmenter, count_words
from towers.train.whole import whole_directory

_FINISHED = "pretrained"
_CHECKPOINTS = "checkpoints"
FACTS = "pretrain.json"
_PROBE_SEED = 13  # of the held-out texts and their masks, whatever a recipe's seed is
_MOST_HELD_OUT = 1000  # texts; some 15,000 masked tokens would take as long as twenty steps
_MOST_COUNTED = 200_000  # texts whose words are counted: half a minute of Chinese


@dataclass(frozen=True)
class PretrainRecipe:
    """Settings of masked-LM on one's own text.

    Attributes:
        steps: Optimiser steps. Gururangan et al. 2020 take 12,500 of 2,048 texts; on two cores be content with less.
        batch_size: Texts per step.
        learning_rate: Peak for the body; 1e-4 is that of task-adaptive pretraining in Gururangan et al. 2020.
        warmup: Share of the steps in which a rate rises.
        seed: Of the texts' order, the masks and dropout.
        bf16: Multiply in bfloat16, weights stay float32.
        save_steps: Steps between checkpoints.
        max_tokens: Texts that are longer are cut into stretches of so many tokens.
        head_share: Share of the steps in which a head that is new learns alone, so that its noise does not wreck the
            body. A checkpoint that has its masked-LM head trains it with the body from the start.
        head_learning_rate: Peak for a new head.
        weight_decay: Of matrices, not of biases and norms; Devlin et al. 2019, A.2.
        dev_share: Share of the texts held out, at most 1,000.
        points: Measurements of the held-out texts during training, beside those at the start and the end.
        masks: How masks are drawn; a table in TOML.
    """

    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1
    seed: int = 13
    bf16: bool = False
    save_steps: int = 200
    max_tokens: int = 128
    head_share: float = 0.1
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dev_share: float = 0.05
    points: int = 10
    masks: MaskRecipe = field(default_factory=MaskRecipe)

    def __post_init__(self) -> None:
        """Refuse settings that make no training."""
        object.__setattr__(self, "masks", as_mask_recipe(self.masks))
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("save_steps", 1),
            ("max_tokens", 8),
            ("points", 1),
        ):
            between(name, getattr(self, name), least, np.inf)
        for name in ("learning_rate", "head_learning_rate", "weight_decay"):
            between(name, getattr(self, name), 0, 1)
        for name in ("warmup", "head_share"):
            between(name, getattr(self, name), 0, 1)
        if not 0 < self.dev_share < 1:
            raise InputError(f"found dev_share = {self.dev_share}, expected more than 0 and less than 1.")


@dataclass(frozen=True)
class PretrainResult:
    """What pretraining made.

    Attributes:
        directory: The checkpoint, for `base.load_tower` and `base.load_classifier`; pretrain.json in it says the rest.
        curve: {"steps": [...], "loss": {class: [...]}}: mean loss in nats on held-out texts, for "all" and each
            class of masked token.
        masked: Held-out masked tokens of each class.
        head_steps: Steps in which the head learned alone; 0 where it was there before.
        texts: How many texts were given, are repeated, were held out, were trained on; stretches and tokens of those.
    """

    directory: Path
    curve: dict[str, Any]
    masked: dict[str, int]
    head_steps: int
    texts: dict[str, int]

    def at(self, step: int) -> dict[str, float]:
        """The losses measured at a step; -1: at the end."""
        place = self.curve["steps"].index(step) if step >= 0 else -1
        return {name: values[place] for name, values in self.curve["loss"].items()}

    @classmethod
    def load(cls, directory: Path) -> PretrainResult:
        """Read what `pretrain` wrote beside a checkpoint.

        Raises:
            InputError: The directory has no pretrain.json.
        """
        try:
            facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise InputError(f"{directory} has no {FACTS}: `dualtower pretrain` did not make it.") from exc
        return cls(directory, facts["curve"], facts["masked"], facts["head_steps"], facts["texts"])


def pretrain(
    checkpoint: str | Path | None,
    texts: Sequence[str],
    *,
    recipe: PretrainRecipe | None = None,
    work: Path,
    resume: bool = False,
) -> PretrainResult:
    """Train a checkpoint to fill in masked words of texts.

    Args:
        checkpoint: As in `base.resolve_checkpoint`; of sentence-transformers or plain.
        texts: The user's texts, each by itself.
        recipe: Settings; None for the defaults.
        work: Folder for checkpoints and the finished one. It is emptied unless `resume`.
        resume: Take the finished checkpoint from `work`, or go on from the newest there, if there is one.

    Raises:
        InputError: Too few texts, a checkpoint without masked-LM form or mask token, or `work` holds another run.
    """
    recipe = recipe or PretrainRecipe()
    train, held_out = split_held_out(texts, share=recipe.dev_share)
    prepare_work(work, _fingerprint(texts, checkpoint, recipe), resume=resume)
    if (work / _FINISHED).is_dir():
        return PretrainResult.load(work / _FINISHED)
    torch.manual_seed(recipe.seed)  # a new head is drawn
    loaded = load_masked(checkpoint)
    marker = make_marker(loaded, train, recipe)
    probe = make_probe(marker.mark(held_out), loaded.tokenizer)
    used = _used(train, recipe)
    marked = marker.mark(used)
    if loaded.fresh_head:
        start_head(loaded, marked.token_counts(len(loaded.tokenizer)))
    curve = train_masked(loaded, marked, probe, recipe=recipe, checkpoints=work / _CHECKPOINTS, resume=resume)
    return _finish(
        loaded,
        work / _FINISHED,
        facts={
            "base": str(checkpoint or "default"),
            "base_sha256": weights_sha256(checkpoint),
            "recipe": asdict(recipe),
            "curve": curve,
            "masked": probe.counts,
            "head_steps": head_steps(loaded, recipe),
            "texts": {
                "given": len(texts),
                "repeated_or_empty": len(texts) - len(train) - len(held_out),
                "held_out": len(held_out),
                "trained_on": len(used),
                "stretches": len(marked),
                "tokens": int(marked.lengths.sum()),
            },
        },
    )


def split_held_out(texts: Sequence[str], *, share: float) -> tuple[list[str], list[str]]:
    """Split into (train, held out), repeats and empty texts dropped (upper and lower case are the same).

    A text's place depends on its own words alone, so it stays when other texts come or go, and is the same for every
    recipe.

    Raises:
        InputError: Nothing is held out, or nothing left to train on.
    """
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(" ".join(text.lower().split()), text.strip())
    first.pop("", None)
    sides: tuple[list[str], list[str]] = ([], [])
    for key, text in first.items():
        # "probe": or texts that were held out before, by a draw like this one, would leave none below the share here
        digest = hashlib.sha256(f"probe\0{_PROBE_SEED}\0{key}".encode()).digest()
        draw = int.from_bytes(digest[:8], "big") / 2**64
        sides[draw < share and len(sides[1]) < _MOST_HELD_OUT].append(text)
    if not sides[0] or not sides[1]:
        raise InputError(
            f"found {len(first)} different texts, of which {len(sides[1])} are held out at dev_share {share:g}, "
            "expected some on both sides: give more texts, or a larger dev_share."
        )
    return sides


def make_marker(loaded: MaskedModel, texts: Sequence[str], recipe: PretrainRecipe) -> Marker:
    """Make what turns texts into marked tokens; words are counted in `texts`."""
    segmenter = Segmenter()
    return Marker(
        tokenizer=loaded.tokenizer,
        segmenter=segmenter,
        finder=EntityFinder(segmenter, recipe.masks.entities),
        counts=count_words(texts[:_MOST_COUNTED], segmenter, rare_share=recipe.masks.rare_share),
        max_tokens=min(recipe.max_tokens, loaded.max_tokens),
    )


def make_probe(marked: MarkedTexts, tokenizer: Any) -> Probe:
    """Mask held-out texts once and for all: each with one of the four strategies in turn, and every mask a mask.

    Neither the recipe's strategies nor its seed count here, so that all recipes are measured on the same masks.
    """
    recipe = MaskRecipe(mask=1.0, random=0.0)
    replacement = Replacement.of(tokenizer)
    rows = []
    for i, text in enumerate(marked):
        rng = np.random.default_rng([_PROBE_SEED, i])
        masked = draw_masked(text, STRATEGIES[i % len(STRATEGIES)], recipe=recipe, rng=rng)
        ids, labels = apply_masks(text.ids, masked, replacement=replacement, recipe=recipe, rng=rng)
        rows.append({"input_ids": ids, "labels": labels, "classes": text.classes})
    if not any((row["labels"] >= 0).any() for row in rows):
        raise InputError(f"the {len(rows)} held-out texts are too few to mask a token: give more texts.")
    return Probe(rows, tokenizer.pad_token_id)


def _used(train: list[str], recipe: PretrainRecipe) -> list[str]:
    """The texts that the steps get to, drawn at random."""
    rng = np.random.default_rng([recipe.seed, 0])
    most = min(len(train), recipe.steps * recipe.batch_size)
    return [train[i] for i in rng.permutation(len(train))[:most]]


def _finish(loaded: MaskedModel, finished: Path, *, facts: dict[str, Any]) -> PretrainResult:
    """Save the checkpoint whole or not at all."""
    with whole_directory(finished) as folder:
        loaded.save(folder)
        (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
    return PretrainResult.load(finished)


def _fingerprint(
    texts: Sequence[str], checkpoint: str | Path | None, recipe: PretrainRecipe
) -> dict[str, str]:
    data = hashlib.sha256()
    for text in texts:
        data.update(text.encode() + b"\0")
    return {
        "data": data.hexdigest(),
        "base": base_key(checkpoint),
        "settings": json.dumps(asdict(recipe), sort_keys=True),
    }
