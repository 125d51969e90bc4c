"""Fine-tuning a three-class sentiment head (-1, 0, 1) from AutoModelForSequenceClassification.

The lowest layers may stay frozen: they are then the tower's own layers, bit for bit, and the exported bundle stores
them once for both (see `write.share_weights`). Classes are weighted by inverse frequency, because the measure is macro
recall: a head that never says "negative" must not look good.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from towers.errors import InputError
from towers.labelled import Texts
from towers.metrics import accuracy, calibration_error, macro_f1, macro_recall
from towers.sentiment import LABELS
from towers.train.base import load_classifier
from towers.train.bodies import body_of, layer_stack

_HEAD = "head"  # folder of the finished head inside the working folder
_RESULT = "result.json"
MAX_TOKENS = 128  # tweets and review sentences are under 100 tokens; longer ones are cut at the end

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class SentimentRecipe:
    """What a user may choose. Goes into the manifest as it is.

    Attributes:
        epochs: Passes over the training texts.
        learning_rate: Peak of a linear schedule; 5e-5 is the upper end of Devlin et al. 2019, A.3.
        batch_size: Texts per step.
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
    """

    model: Any
    tokenizer: Any
    temperature: float
    metrics: dict[str, Any]
    recipe: SentimentRecipe
    training_rows: int

    def save(self, directory: Path, *, data: str) -> None:
        """Save the head as a transformers checkpoint; result.json, written last, says that it is complete."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        facts = {
            "temperature": self.temperature,
            "metrics": self.metrics,
            "recipe": asdict(self.recipe),
            "training_rows": self.training_rows,
            "data": data,
        }
        (directory / _RESULT).write_text(json.dumps(facts, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, recipe: SentimentRecipe, data: str) -> SentimentResult | None:
        """Load a head that was trained with this recipe on these texts; None if there is none."""
        if not (directory / _RESULT).is_file():
            return None
        facts = json.loads((directory / _RESULT).read_text(encoding="utf-8"))
        if facts["recipe"] != asdict(recipe) or facts["data"] != data:
            return None
        model, tokenizer = load_classifier(directory, num_labels=len(LABELS))
        return cls(model, tokenizer, facts["temperature"], facts["metrics"], recipe, facts["training_rows"])


def split_texts(data: Texts, *, share: float, seed: int, most: int = 2000) -> tuple[Texts, Texts]:
    """Split into (train, dev) without a text on both sides; exact repeats are dropped.

    A text's place depends on its own words and the seed alone, so it stays when other texts come or go.
    """
    first: dict[str, int] = {}
    for i, text in enumerate(data.texts):
        first.setdefault(" ".join(text.lower().split()), i)
    train: list[int] = []
    dev: list[int] = []
    for key, i in first.items():
        draw = int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode()).digest()[:8], "big") / 2**64
        (dev if draw < share and len(dev) < most else train).append(i)
    return _rows(data, train), _rows(data, dev)


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
) -> SentimentResult:
    """Fine-tune a classifier, calibrate it and measure it on held-out texts.

    Args:
        data: All labelled texts; the dev texts are taken from them.
        checkpoint: As in `base.resolve_checkpoint`.
        recipe: Settings; None for the defaults.
        work: Folder for the Trainer's checkpoints and the finished head.
        resume: Take the finished head from `work` if recipe and texts are the same, else go on from the newest
            checkpoint there, if there is one.

    Raises:
        InputError: Fewer than two classes, or nothing held out.
    """
    recipe = recipe or SentimentRecipe()
    finished = SentimentResult.load(work / _HEAD, recipe=recipe, data=fingerprint(data)) if resume else None
    if finished is not None:
        return finished
    train, dev = split_texts(data, share=recipe.dev_share, seed=recipe.seed)
    _check_split(train, dev)
    torch.manual_seed(recipe.seed)
    model, tokenizer = load_classifier(checkpoint, num_labels=len(LABELS))
    freeze_lowest(model, recipe.freeze_layers)
    _run_trainer(model, tokenizer, train, recipe=recipe, work=work, resume=resume)
    logits = classify(model, tokenizer, dev.texts, max_tokens=recipe.max_tokens)
    temperature = fit_temperature(logits, dev.labels)
    metrics = sentiment_report(dev.labels, softmax(logits / temperature))
    result = SentimentResult(model, tokenizer, temperature, metrics, recipe, training_rows=len(train.texts))
    result.save(work / _HEAD, data=fingerprint(data))
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
    """Measure the dumb baseline: a balanced logistic regression on the tower's vectors."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(encode(train.texts), train.labels)
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


def _class_weights(labels: NDArray[np.int64]) -> torch.Tensor:
    counts = np.array([max(1, int((labels == label).sum())) for label in LABELS], np.float32)
    return torch.tensor(counts.sum() / (len(LABELS) * counts))


def _token_rows(tokenizer: Any, data: Texts, max_tokens: int) -> Iterator[dict[str, Any]]:
    encoded = tokenizer(data.texts, truncation=True, max_length=max_tokens)
    for i, label in enumerate(data.labels):
        yield {
            "input_ids": encoded["input_ids"][i],
            "attention_mask": encoded["attention_mask"][i],
            "labels": int(label) + 1,
        }


def _run_trainer(
    model: nn.Module, tokenizer: Any, train: Texts, *, recipe: SentimentRecipe, work: Path, resume: bool
) -> None:
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    weights = _class_weights(train.labels)

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs.logits, labels, weight=weights.to(outputs.logits.device))

    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        per_device_train_batch_size=recipe.batch_size,
        warmup_steps=recipe.warmup,  # below 1 it is a ratio
        weight_decay=0.01,
        # Batches of like length waste little on padding; one core is worth half the run.
        train_sampling_strategy="group_by_length",
        seed=recipe.seed,
        data_seed=recipe.seed,
        save_steps=recipe.save_steps,
        save_total_limit=2,
        logging_steps=100,
        bf16=recipe.bf16,
        report_to="none",
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )
    rows = Dataset.from_list(list(_token_rows(tokenizer, train, recipe.max_tokens)))
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=loss,
    )
    trainer.train(resume_from_checkpoint=_newest_checkpoint(work) if resume else None)
    model.to("cpu")


def _newest_checkpoint(work: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    return cast("str | None", get_last_checkpoint(str(work))) if work.is_dir() else None  # type: ignore[no-untyped-call]
