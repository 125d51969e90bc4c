"""A bundle: the directory that holds a model, and the object that opens it.

    manifest.json   what is in the bundle, written last
    tokenizer.json  one tokenizer for all graphs
    encoder.onnx    ids, mask -> vectors of length 1   (query.onnx and title.onnx when the towers differ)
    scorer.onnx     query vector, title vectors -> probabilities
    sentiment.onnx  ids, mask -> probabilities of -1, 0, 1; optional
                    (sentiment-0.onnx, -1, ... and sentiment-exits.json in its place when texts may leave early)
    classifier.onnx, classifier.json    ids, mask -> probabilities of other classes, or a number; optional
    weights.bin     the graphs' tensors, equal ones stored once
    README.md       model card

`bundle_id` is the SHA-256 of the manifest without that field; the manifest names the SHA-256 of every file, so the id
stands for the whole content. `titles_id` stands for what makes title vectors alone: it is the `bundle_id` of the bundle
that the title tower comes from, so that a bundle which differs from that one in its query tower, scorer or sentiment
head opens its releases.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.classifier import Classifier, ClassifierFacts
from towers.encoder import Encoder, Progress
from towers.errors import BundleError
from towers.exits import ExitingHead, ExitPlan
from towers.graph import Graph
from towers.scorer import Scorer
from towers.sentiment import SentimentHead
from towers.tokens import Token, TokenReader

FORMAT = 1
TITLE_TOWER = "title_tower"  # in the recipe of a bundle that kept another one's: {"bundle_id", "sha256"}
DEFAULT_BUNDLE = Path(__file__).parent / "bundles" / "default"


@dataclass(frozen=True)
class Layout:
    """The file names of a bundle. No other module spells them."""

    manifest: str = "manifest.json"
    tokenizer: str = "tokenizer.json"
    encoder: str = "encoder.onnx"
    query: str = "query.onnx"
    title: str = "title.onnx"
    scorer: str = "scorer.onnx"
    sentiment: str = "sentiment.onnx"
    weights: str = "weights.bin"
    card: str = "README.md"
    classifier: str = "classifier.onnx"
    classifier_facts: str = "classifier.json"
    exits: str = "sentiment-exits.json"

    def stage(self, number: int) -> str:
        """A stage of a sentiment head with exits. Beside the others: a graph finds weights.bin in its own folder."""
        return f"sentiment-{number}.onnx"


LAYOUT = Layout()


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        dim: Width of the vectors.
        max_tokens: Longest query or title in tokens; longer ones are cut.
        threshold: Score from which a pair counts as a match, chosen on dev pairs.
        scorer: "residual" (with MLP) or "cosine" (calibrated cosine, where the MLP did not win).
        files: File name -> {"bytes", "sha256"}.
        base_model: Name and SHA-256 of the checkpoint that training started from.
        licence: SPDX identifier of the bundle.
        query_prefix: Put before every query (some checkpoints were trained with one); title_prefix likewise.
        labels: Sentiment labels in the order of the columns; empty without a head.
        sentiment_max_tokens: Longest text of the sentiment head in tokens.
        training_data: One entry a set: name, rows, licence as stated by its source.
        recipe: Every setting that made the bundle.
        metrics: What was measured on held-out data, and what int8 lost.
        bundle_id: SHA-256 over all of the above.
    """

    dim: int
    max_tokens: int
    threshold: float
    scorer: str
    files: Mapping[str, Mapping[str, Any]]
    base_model: Mapping[str, Any]
    licence: str
    query_prefix: str = ""
    title_prefix: str = ""
    labels: tuple[int, ...] = ()
    sentiment_max_tokens: int = 0
    training_data: Sequence[Mapping[str, Any]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    bundle_id: str = ""

    @property
    def titles_id(self) -> str:
        """The id of the bundle whose title vectors these are; written by towers.train alone, after comparing them."""
        return str(self.recipe.get(TITLE_TOWER, {}).get("bundle_id", self.bundle_id))

    @property
    def short_dims(self) -> tuple[int, ...]:
        """How many first numbers of a vector are of use alone, where the towers were trained for that."""
        found = self.recipe.get("bilingual", {}).get("short_dim")
        return () if found is None else (int(found),)

    def content_id(self) -> str:
        """Return the id that this manifest's content has."""
        content = asdict(self)
        del content["bundle_id"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the manifest as readable JSON with its id filled in."""
        content = asdict(self) | {"bundle_id": self.content_id()}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read a bundle's manifest.

        Raises:
            BundleError: No bundle, an unreadable manifest, another format, or an id that is not the content's.
        """
        path = directory / LAYOUT.manifest
        if not path.is_file():
            raise BundleError(f"{directory} is no bundle: it has no {LAYOUT.manifest}. Check --bundle.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content.get("format")
        except (ValueError, AttributeError) as exc:
            raise BundleError(f"{path} is no JSON object: {exc}. Install or build the bundle again.") from exc
        if found != FORMAT:
            raise BundleError(
                f"{path} has format {found!r}, this version reads {FORMAT}. Build the bundle again."
            )
        manifest = cls._from_content(path, content)
        if manifest.bundle_id != manifest.content_id():
            raise BundleError(
                f"{path} names bundle_id {manifest.bundle_id}, its content has {manifest.content_id()}: it was changed "
                "after it was written. Install or build the bundle again."
            )
        return manifest

    @classmethod
    def _from_content(cls, path: Path, content: dict[str, Any]) -> Manifest:
        known = {entry.name for entry in fields(cls)}
        if set(content) != known:
            odd = sorted(set(content) ^ known)
            raise BundleError(
                f"{path} has other fields than this version's: {', '.join(odd)}. Build the bundle again."
            )
        return cls(**(content | {"labels": tuple(content["labels"])}))


class Bundle:
    """An open bundle: the five things that a model can do. All methods may be called from many threads."""

    def __init__(self, path: Path, manifest: Manifest, *, threads: int | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._threads = threads
        self._tokens = TokenReader(path / LAYOUT.tokenizer, max_tokens=manifest.max_tokens)
        shared = LAYOUT.encoder in manifest.files
        self._titles = self._encoder(LAYOUT.encoder if shared else LAYOUT.title)
        self._queries = self._titles if shared else self._encoder(LAYOUT.query)
        self._scorer = Scorer(Graph(path / LAYOUT.scorer), dim=manifest.dim)

    @property
    def bundle_id(self) -> str:
        """The SHA-256 that stands for the bundle's whole content."""
        return self.manifest.bundle_id

    @property
    def titles_id(self) -> str:
        """The `bundle_id` of the bundle whose title vectors this one makes: its own, or the one it was made from."""
        return self.manifest.titles_id

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.manifest.dim

    @property
    def short_dims(self) -> tuple[int, ...]:
        """How many first numbers of a vector, stretched to length 1 again, are of use alone; mostly none are."""
        return self.manifest.short_dims

    @property
    def max_tokens(self) -> int:
        """Longest query or title in tokens."""
        return self.manifest.max_tokens

    @property
    def threshold(self) -> float:
        """Score from which a pair counts as a match."""
        return self.manifest.threshold

    @property
    def labels(self) -> tuple[int, ...]:
        """Sentiment labels in the order of the probabilities' columns; empty without a head."""
        return self.manifest.labels

    @property
    def has_sentiment(self) -> bool:
        """Whether the bundle can tell sentiment."""
        return LAYOUT.sentiment in self.manifest.files or LAYOUT.exits in self.manifest.files

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """After which layers a text may leave the sentiment head; empty where the head has no exits."""
        head = self._sentiment if self.has_sentiment else None
        return head.plan.layers if isinstance(head, ExitingHead) else ()

    def encode_queries(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Encode queries: float32 (n, dim), rows of length 1. A query's vector depends on its own text alone.

        Args:
            texts: Queries.
            progress: As of `encode_titles`.

        Raises:
            InputError: An item is not a str or not valid Unicode.
        """
        return self._queries.encode_each(_prefixed(self.manifest.query_prefix, texts), progress=progress)

    def encode_titles(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode titles in batches, on all cores: float32 (n, dim), rows of length 1.

        The same list gives the same bits; in int8 a row differs a little (about 1e-2 in cosine) in other company.

        Args:
            texts: Titles.
            progress: Called with the number of texts that were just done, from worker threads. What it raises ends
                the encoding: batches that have not begun are dropped.

        Raises:
            InputError: An item is not a str or not valid Unicode.
        """
        return self._titles.encode_batched(_prefixed(self.manifest.title_prefix, texts), progress=progress)

    def score(
        self, query_vector: NDArray[np.float32], title_vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the probability, float32 (n,), that each of n titles (n, dim) matches the query (dim,).

        Raises:
            InputError: Shapes that do not fit.
        """
        return self._scorer.score(query_vector, title_vectors)

    def sentiment(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Return probabilities, float32 (n, 3), of the labels -1, 0, 1.

        Args:
            texts: n texts.
            progress: As of `encode_titles`.

        Raises:
            BundleError: The bundle has no sentiment head.
            InputError: An item is not a str or not valid Unicode.
        """
        return self._sentiment.probabilities(texts, progress=progress)

    def sentiment_with_exits(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return probabilities, float32 (n, 3), and the number of layers computed for each text, int64 (n,).

        Args:
            texts: n texts.
            progress: As of `encode_titles`.

        Raises:
            BundleError: The bundle has no sentiment head, or one without exits.
            InputError: An item is not a str or not valid Unicode.
        """
        head = self._sentiment
        if not isinstance(head, ExitingHead):
            raise BundleError(
                f"the sentiment head of the bundle in {self.path} has no exits. Make one with: "
                "dualtower fit-sentiment --exits"
            )
        return head.with_exits(texts, progress=progress)

    @property
    def has_classifier(self) -> bool:
        """Whether the bundle has a classifier of its own classes."""
        return LAYOUT.classifier_facts in self.manifest.files

    @property
    def classifier_facts(self) -> ClassifierFacts:
        """What the classifier answers.

        Raises:
            BundleError: The bundle has none.
        """
        return self._classifier.facts

    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Return probabilities, float32 (n, classes), of the classifier's labels; or numbers, (n, 1), without labels.

        Args:
            texts: n texts.
            pairs: n second texts, where the classifier takes two.

        Raises:
            BundleError: The bundle has no classifier.
            InputError: Second texts are missing or not wanted, or an item is not a str or not valid Unicode.
        """
        return self._classifier.classify(texts, pairs)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens of a text the towers see, special ones included."""
        return self._tokens.count(text)

    def full_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each whole text has, special ones included, also beyond what is encoded.

        Raises:
            InputError: An item is not a str or not valid Unicode.
        """
        return self._tokens.full_counts(texts)

    def tokens(self, text: str) -> list[Token]:
        """Return all tokens of a text, special ones included, also beyond what is encoded.

        Raises:
            InputError: It is not a str or not valid Unicode.
        """
        return self._tokens.tokens(text)

    def _encoder(self, name: str) -> Encoder:
        return Encoder(self._tokens, Graph(self.path / name), dim=self.manifest.dim, threads=self._threads)

    @cached_property
    def _sentiment(self) -> SentimentHead | ExitingHead:
        """Loaded at first use: an indexing job needs no head."""
        if not self.has_sentiment:
            raise BundleError(
                f"the bundle in {self.path} has no sentiment head. Add one with: dualtower fit-sentiment"
            )
        tokens = TokenReader(self.path / LAYOUT.tokenizer, max_tokens=self.manifest.sentiment_max_tokens)
        if LAYOUT.exits not in self.manifest.files:
            return SentimentHead(tokens, Graph(self.path / LAYOUT.sentiment), threads=self._threads)
        plan = ExitPlan.read(self.path / LAYOUT.exits)
        stages = [Graph(self.path / LAYOUT.stage(number)) for number in range(len(plan.layers))]
        return ExitingHead(tokens, stages, plan, threads=self._threads)

    @cached_property
    def _classifier(self) -> Classifier:
        if not self.has_classifier:
            raise BundleError(f"the bundle in {self.path} has no classifier. Add one with: dualtower tune")
        facts = ClassifierFacts.read(self.path / LAYOUT.classifier_facts)
        tokens = TokenReader(self.path / LAYOUT.tokenizer, max_tokens=facts.max_tokens)
        return Classifier(tokens, Graph(self.path / LAYOUT.classifier), facts, threads=self._threads)


def open_bundle(path: str | Path | None = None, *, threads: int | None = None, verify: bool = True) -> Bundle:
    """Open a bundle.

    Args:
        path: Its directory; None for the default bundle that ships with the package.
        threads: Cores used by `encode_titles` and `sentiment`; None for all that the process may use.
        verify: Hold every file against its SHA-256 (about 0.05 s for 25 MB). Sizes are always checked.

    Raises:
        BundleError: The directory is no bundle, or a file is missing, truncated or changed.
    """
    directory = Path(path) if path is not None else DEFAULT_BUNDLE
    manifest = Manifest.read(directory)
    check_files(directory, manifest, hashes=verify)
    return Bundle(directory, manifest, threads=threads)


def _prefixed(prefix: str, texts: Sequence[str]) -> Sequence[str]:
    if not prefix:
        return texts
    return [prefix + text if isinstance(text, str) else text for text in texts]


def check_files(directory: Path, manifest: Manifest, *, hashes: bool = True) -> None:
    """Hold a bundle's files against the manifest.

    Raises:
        BundleError: Names the first file that is missing, or of another size or SHA-256.
    """
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise BundleError(
                f"{path} is missing, though the manifest names it. Install or build the bundle again."
            )
        if path.stat().st_size != entry["bytes"]:
            raise BundleError(
                f"{path} has {path.stat().st_size} bytes, the manifest says {entry['bytes']}. "
                "It is truncated or was changed; install or build the bundle again."
            )
        if hashes and file_sha256(path) != entry["sha256"]:
            raise BundleError(
                f"{path} has SHA-256 {file_sha256(path)}, the manifest says {entry['sha256']}. "
                "It is corrupt or was changed; install or build the bundle again."
            )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(path: Path) -> dict[str, Any]:
    """Return the manifest's entry for a file."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
