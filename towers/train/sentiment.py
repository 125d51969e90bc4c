"""Fine-tuning a three-class sentiment head (-1, 0, 1) from AutoModelForSequenceClassification.

The lowest layers may stay frozen: they are then the tower's own layers, bit for bit, and the exported bundle stores
them once for both (see `write.share_weights`). Classes are weighted by inverse frequency, because the measure is macro
recall: a head that never says "negative" must not look good.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from towers.errors import InputError
from towers.labelled import Texts
from towers.metrics import accuracy, calibration_error, macro_f1, macro_recall
from towers.sentiment import LABELS
from towers.train.adversarial import AdversarialRecipe
from towers.train.base import load_classifier
from towers.train.bodies import body_of, layer_stack
from towers.train.finetune import check_counts
from towers.train.sentiment_training import run_trainer

_HEAD = "head"  # folder of the finished head inside the working folder
_RESULT = "result.json"
_REGRESSION_TEXTS = 20_000  # of 384 numbers each: more take minutes
MAX_TOKENS = 128  # tweets and review sentences are under 100 tokens; longer ones are cut at the end

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class SentimentRecipe:
    """What a user may choose. Goes into the manifest as it is.

    Attributes:
        epochs: Passes over the training texts.
        steps: Steps of the optimiser; 0: as many as `epochs` makes.
        learning_rate: Peak of a linear schedule; 5e-5 is the upper end of Devlin et al. 2019, A.3.
        batch_size: Texts per batch.
        accumulation: Batches per step of the optimiser.
        warmup: Share of the steps in which the rate rises.
        freeze_layers: The embeddings and this many of the lowest layers stay as they are; -1 freezes nothing.
        dev_share: Share of the texts held out, at most 2,000 texts.
        seed: Of the split, the head's start and the order of the texts.
        max_tokens: Longest text in tokens.
        bf16: Multiply in bfloat16, weights stay float32: 1.6 times faster where the processor has AVX512-BF16 or AMX,
            slower elsewhere.
        save_steps: Steps between checkpoints.
    """

    epochs: float = 3.0
    learning_rate: float = 5e-5
    batch_size: int = 32
    warmup: float = 0.1
    freeze_layers: int = -1
    dev_share: float = 0.05
    seed: int = 13
    max_tokens: int = MAX_TOKENS
    bf16: bool = False
    save_steps: int = 500
    steps: int = 0
    accumulation: int = 1

    def __post_init__(self) -> None:
        """Refuse counts that are none."""
        check_counts(self)


@dataclass(frozen=True)
class SentimentResult:
    """A trained head.

    Attributes:
        model: The classifier, a transformers model.
        tokenizer: Its transformers tokenizer.
        temperature: Divides the logits, see `fit_temperature`.
        metrics: Measures on the held-out texts.
        recipe: What it was trained with.
        training_rows: Texts trained on.
        adversarial: How texts were perturbed; None if they were not.
    """

    model: Any
    tokenizer: Any
    temperature: float
    metrics: dict[str, Any]
    recipe: SentimentRecipe
    training_rows: int
    adversarial: AdversarialRecipe | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain values, for the manifest."""
        return _settings(self.recipe, self.adversarial)

    def save(self, directory: Path, *, data: str) -> None:
        """Save the head as a transformers checkpoint; result.json, written last, says that it is complete."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        facts = {
            "temperature": self.temperature,
            "metrics": self.metrics,
            "recipe": self.settings,
            "training_rows": self.training_rows,
            "data": data,
        }
        (directory / _RESULT).write_text(json.dumps(facts, indent=2), encoding="utf-8")

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        recipe: SentimentRecipe,
        data: str,
        adversarial: AdversarialRecipe | None = None,
    ) -> SentimentResult | None:
        """Load a head that was trained with these settings on these texts; None if there is none."""
        if not (directory / _RESULT).is_file():
            return None
        facts = json.loads((directory / _RESULT).read_text(encoding="utf-8"))
        if facts["recipe"] != _settings(recipe, adversarial) or facts["data"] != data:
            return None
        model, tokenizer = load_classifier(directory, num_labels=len(LABELS))
        return cls(
            model,
            tokenizer,
            facts["temperature"],
            facts["metrics"],
            recipe,
            facts["training_rows"],
            adversarial,
        )


def _settings(recipe: SentimentRecipe, adversarial: AdversarialRecipe | None) -> dict[str, Any]:
    return asdict(recipe) | ({"adversarial": asdict(adversarial)} if adversarial else {})


def split_texts(data: Texts, *, share: float, seed: int, most: int = 2000) -> tuple[Texts, Texts]:
    """Split into (train, dev) without a text on both sides; exact repeats are dropped.

    Each text draws a number from its own words and the seed: it stays on its side when other texts come or go, and
    where more than `most` fall to dev, those with the lowest numbers do, from whichever file they are.
    """
    first: dict[str, int] = {}
    for i, text in enumerate(data.texts):
        first.setdefault(" ".join(text.lower().split()), i)
    draws = {
        i: int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode()).digest()[:8], "big") / 2**64
        for key, i in first.items()
    }
    drawn = {i for i in sorted(draws, key=draws.__getitem__)[:most] if draws[i] < share}
    return _rows(data, [i for i in draws if i not in drawn]), _rows(data, [i for i in draws if i in drawn])


def join_texts(sets: Sequence[Texts]) -> Texts:
    """Put several sets of texts into one."""
    return Texts(
        [text for data in sets for text in data.texts], np.concatenate([data.labels for data in sets])
    )


def _rows(data: Texts, rows: list[int]) -> Texts:
    return Texts([data.texts[i] for i in rows], data.labels[rows])


def fit_sentiment(
    data: Texts,
    *,
    checkpoint: str | Path | None = None,
    recipe: SentimentRecipe | None = None,
    work: Path,
    resume: bool = False,
    adversarial: AdversarialRecipe | None = None,
) -> SentimentResult:
    """Fine-tune a classifier, calibrate it and measure it on held-out texts.

    Args:
        data: All labelled texts; the dev texts are taken from them.
        checkpoint: As in `base.resolve_checkpoint`.
        recipe: Settings; None for the defaults.
        work: Folder for the Trainer's checkpoints and the finished head.
        resume: Take the finished head from `work` if recipe and texts are the same, else go on from the newest
            checkpoint there, if there is one.
        adversarial: Perturb the texts' embeddings in training; None does not.

    Raises:
        InputError: Fewer than two classes, or nothing held out.
    """
    recipe = recipe or SentimentRecipe()
    settings: dict[str, Any] = {"recipe": recipe, "adversarial": adversarial}
    facts = fingerprint(data)
    if resume and (done := SentimentResult.load(work / _HEAD, data=facts, **settings)):
        return done
    train, dev = split_texts(data, share=recipe.dev_share, seed=recipe.seed)
    _check_split(train, dev)
    torch.manual_seed(recipe.seed)
    model, tokenizer = load_classifier(checkpoint, num_labels=len(LABELS))
    freeze_lowest(model, recipe.freeze_layers)
    run = hashlib.sha256(json.dumps([facts, str(checkpoint), _settings(recipe, adversarial)]).encode())
    # A checkpoint of other texts or settings must not be gone on with.
    checkpoints = work / f"steps-{run.hexdigest()[:12]}"
    run_trainer(model, tokenizer, train, work=checkpoints, resume=resume, **settings)
    logits = classify(model, tokenizer, dev.texts, max_tokens=recipe.max_tokens)
    temperature = fit_temperature(logits, dev.labels)
    metrics = sentiment_report(dev.labels, softmax(logits / temperature))
    result = SentimentResult(
        model, tokenizer, temperature, metrics, training_rows=len(train.texts), **settings
    )
    result.save(work / _HEAD, data=facts)
    return result


def fingerprint(data: Texts) -> str:
    """Return the SHA-256 of labelled texts, in their order."""
    digest = hashlib.sha256(data.labels.tobytes())
    for text in data.texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def freeze_lowest(model: nn.Module, layers: int) -> None:
    """Freeze the embeddings and the lowest `layers` transformer layers; -1 leaves all free.

    Raises:
        InputError: More layers than there are, or an architecture without a stack of layers.
    """
    if layers < 0:
        return
    stack = layer_stack(model)
    if layers > len(stack):
        raise InputError(f"freeze_layers is {layers}, but the checkpoint has {len(stack)} layers")
    for module in (body_of(model).embeddings, *stack[:layers]):
        module.requires_grad_(False)


def classify(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], *, max_tokens: int, batch: int = 64
) -> NDArray[np.float32]:
    """Return the logits, float32 (n, 3), of texts in torch."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    logits = np.zeros((len(texts), len(LABELS)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            inputs = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=max_tokens,
                return_tensors="pt",
            )
            logits[rows] = model(**inputs).logits.float().numpy()
    return logits


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss (Guo et al. 2017, section 4.2), searched on a fine grid."""
    grid = np.exp(np.linspace(np.log(0.25), np.log(4.0), 200))
    rows = np.arange(len(labels))
    targets = labels + 1
    losses = [-np.log(softmax(logits / t)[rows, targets] + 1e-12).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), np.float32)


def sentiment_report(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Return macro recall, macro F1, accuracy and calibration error of probabilities (n, 3)."""
    guess = np.asarray(LABELS)[probabilities.argmax(axis=1)]
    return {
        "rows": len(labels),
        "macro_recall": macro_recall(labels, guess),
        "macro_f1": macro_f1(labels, guess),
        "accuracy": accuracy(labels, guess),
        "calibration_error": calibration_error((labels == guess).astype(int), probabilities.max(axis=1)),
    }


def logistic_regression(train: Texts, dev: Texts, encode: Encode) -> dict[str, Any]:
    """Measure the dumb baseline: a balanced logistic regression on the tower's vectors of at most 20,000 texts."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    some = _rows(train, np.random.default_rng(0).permutation(len(train.texts))[:_REGRESSION_TEXTS].tolist())
    model.fit(encode(some.texts), some.labels)
    scores = model.predict_proba(encode(dev.texts))
    probabilities = np.zeros((len(dev.texts), len(LABELS)), np.float32)
    probabilities[:, [LABELS.index(int(label)) for label in model.classes_]] = scores
    return sentiment_report(dev.labels, probabilities)


def _check_split(train: Texts, dev: Texts) -> None:
    if not dev.texts or len(np.unique(train.labels)) < 2:
        raise InputError(
            f"{len(train.texts)} different texts with labels {np.unique(train.labels).tolist()} to train on and "
            f"{len(dev.texts)} held out: "
            "give more texts, of at least two labels, or a larger share for dev"
        )
