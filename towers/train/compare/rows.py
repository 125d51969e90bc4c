"""The rows of a comparison: what was done, how good it is, how fast, how large.

Every quality is a metric of which more is better (Spearman, nDCG, AUC, accuracy, F1), one value a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from towers.errors import InputError

MATCH = "match"
SENTIMENT = "sentiment"
TASKS = (MATCH, SENTIMENT)
# The ten techniques, in the order in which they are told; 0 stands for the rows that others are held against.
TECHNIQUES = {
    0: "Reference",
    1: "Cut and distil",
    2: "Dual tower against cross-encoder",
    3: "int8",
    4: "Early exit",
    5: "ALBERT",
    6: "Heads",
    7: "More pretraining",
    8: "Adversarial training",
    9: "Data",
    10: "Parameters and structure",
}


@dataclass(frozen=True)
class Spread:
    """A quantity that was measured in several rounds.

    Attributes:
        median: The middle round; lowest and highest: the best and the worst one. All above 0.
        rounds: How many rounds there were.
    """

    median: float
    lowest: float
    highest: float
    rounds: int

    def __post_init__(self) -> None:
        """Refuse what no clock can say."""
        if not 0 < self.lowest <= self.median <= self.highest or self.rounds < 1:
            raise InputError(f"found {self}, expected 0 < lowest <= median <= highest, from 1 round or more")

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Sum up the values of all rounds."""
        return cls(float(median(values)), float(min(values)), float(max(values)), len(values))

    def scaled(self, factor: float) -> Spread:
        """Return the same in another unit: seconds times 1000 are milliseconds."""
        return Spread(self.median * factor, self.lowest * factor, self.highest * factor, self.rounds)

    def rate(self, items: int) -> Spread:
        """Return how many items a second that makes, when this is the seconds that `items` of them take."""
        return Spread(items / self.median, items / self.highest, items / self.lowest, self.rounds)


@dataclass(frozen=True)
class Measure:
    """Quality on the dev side.

    Attributes:
        metric: Name of the metric that rows are compared by.
        values: One for each seed.
        others: Further metrics, name -> one value for each seed.
    """

    metric: str
    values: list[float]
    others: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse percentages and nan: qualities are told times 100."""
        if not all(-1 <= value <= 1 for value in self.values):
            raise InputError(f"found {self.metric} of {self.values}, expected values of -1 to 1")

    @property
    def median(self) -> float:
        """The middle seed's value."""
        return float(median(self.values))


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: Unique within its task; `--ship` takes it.
        task: "match" or "sentiment".
        technique: 1 to 10, as in TECHNIQUES; 0 for a reference.
        about: One sentence on what was done.
        against: Name of the row of the same task that it is compared with; its own, or "", for a reference.
        seeds: The seeds that it was trained with.
        steps: Optimiser steps for one seed, without those of what it goes on from.
        seeded: Whether a seed plays a part: it was trained, or what it goes on from was.
        trained_s: Seconds of training, all seeds together.
        quality: None where the row failed.
        latency_ms: Milliseconds for one text, alone.
        per_second: Texts in a second, in batches.
        bytes: Size of the graph; parameters: their number, shared ones once.
        multiply_adds: For one text of 16 tokens.
        cost: Further figures, name with unit -> value, as seconds for 1,000 titles with vectors cached and without.
        notes: What a reader must know, as why the row cannot be shipped.
        failed: Why there are no figures; None where there are.
        bundle: Relative path of the bundle that `--ship` copies; None where the row cannot be shipped.
    """

    name: str
    task: str
    technique: int
    about: str
    against: str = ""
    seeds: list[int] = field(default_factory=list)
    steps: int = 0
    seeded: bool = False
    trained_s: float = 0.0
    quality: Measure | None = None
    latency_ms: Spread | None = None
    per_second: Spread | None = None
    bytes: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    cost: dict[str, float] | None = None
    notes: list[str] = field(default_factory=list)
    failed: str | None = None
    bundle: str | None = None

    def __post_init__(self) -> None:
        """Refuse rows that the report could not tell."""
        if self.task not in TASKS or self.technique not in TECHNIQUES:
            raise InputError(
                f"row {self.name!r}: found task {self.task!r} and technique {self.technique}, expected "
                f"{' or '.join(TASKS)}, and 0 to {max(TECHNIQUES)}"
            )
        if self.quality is None and self.failed is None:
            raise InputError(f"row {self.name!r} has neither a quality nor a reason why it failed")
        if self.quality is not None:
            self._check_seeds(self.quality)

    def _check_seeds(self, quality: Measure) -> None:
        for metric, values in ({quality.metric: quality.values} | quality.others).items():
            if not values or len(values) != len(self.seeds):
                raise InputError(
                    f"row {self.name!r}: found {len(values)} values of {metric} for the seeds {self.seeds}, expected "
                    "one for each seed, and one seed or more"
                )
