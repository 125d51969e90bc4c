"""A recipe: which techniques make a model, in which order, with which settings. A TOML file, checked before any work.

The stages run in the order of `STAGES`; a recipe names those that it wants:

    [pretrain]    masked-LM on the training texts before anything else
    [clean]       [augment]    what is done to the training data
    [cut] [narrow] [albert] [lstm] [head]    the structure
    [distil]      the uncut model teaches
    [tune]        the labels teach, with [adversarial] steps if wanted
    [exits]       exit heads
    [precision] [query_precision]    how weights are stored
    [cross]       a cross-encoder instead of towers      [scorer]   the DNN scorer over the towers' vectors

A file may serve both tasks; what differs stands in [match] and [sentiment], as in `[sentiment.tune]`. The shipped
recipes, a row or two of `dualtower compare` each, lie in recipes/.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from towers.errors import InputError
from towers.train.adversarial import AdversarialRecipe
from towers.train.cross.cross_encoder import CrossRecipe
from towers.train.dataset.augment import AugmentRecipe
from towers.train.dataset.clean import CleanRecipe
from towers.train.distillation.distil import DistilRecipe
from towers.train.early_exit.exits import ExitRecipe
from towers.train.exporting.export import Precision
from towers.train.finetune import TowerRecipe
from towers.train.pretraining.pretrain import PretrainRecipe
from towers.train.scorer_training import ScorerRecipe
from towers.train.sentiment import SentimentRecipe
from towers.train.sources import checked
from towers.train.structures.albert import AlbertRecipe
from towers.train.structures.cut import CutRecipe
from towers.train.structures.heads import HeadRecipe
from towers.train.structures.lstm import LstmRecipe
from towers.train.structures.narrow import NarrowRecipe

TASKS = ("match", "sentiment")
ENGINES = ("onnx", "torch", "logistic")
RECIPES = Path(__file__).with_name("recipes")

STAGES: Mapping[str, Mapping[str, type]] = {
    "pretrain": dict.fromkeys(TASKS, PretrainRecipe),
    "clean": dict.fromkeys(TASKS, CleanRecipe),
    "augment": dict.fromkeys(TASKS, AugmentRecipe),
    "cut": dict.fromkeys(TASKS, CutRecipe),
    "narrow": dict.fromkeys(TASKS, NarrowRecipe),
    "albert": dict.fromkeys(TASKS, AlbertRecipe),
    "lstm": dict.fromkeys(TASKS, LstmRecipe),
    "head": dict.fromkeys(TASKS, HeadRecipe),
    "distil": dict.fromkeys(TASKS, DistilRecipe),
    "tune": {"match": TowerRecipe, "sentiment": SentimentRecipe},
    "adversarial": dict.fromkeys(TASKS, AdversarialRecipe),
    "exits": {"sentiment": ExitRecipe},
    "precision": dict.fromkeys(TASKS, Precision),
    "query_precision": {"match": Precision},
    "cross": {"match": CrossRecipe},
    "scorer": {"match": ScorerRecipe},
}
"""Name of a section: task -> what its settings are."""

_STRUCTURES = ("narrow", "albert", "lstm")  # each makes a body of its own: two of them contradict each other


@dataclass(frozen=True)
class Recipe:
    """What makes one model of one task.

    Attributes:
        name: Unique within the task; the name of its file.
        task: "match" or "sentiment".
        title: What it is, for tables.
        technique: Number in the list of techniques, 1 to 10; 0 for what the others are compared with.
        source: The paper, with section where it helps.
        cost: What it costs, in training and when it serves.
        avoid: When not to use it.
        against: Name of the recipe that its row is compared with: the same without this technique.
        start: Name of the recipe whose trained model this one goes on from; "base" for the checkpoint itself.
        teacher: Name of the cross-encoder's recipe whose scores teach the scorer or label new pairs; "" for none.
        engine: What runs it: "onnx"; "torch" for what one had before; "logistic" for the dumb baseline, a logistic
            regression on the vectors.
        stages: Name of a section -> its settings.
    """

    name: str
    task: str
    title: str
    technique: int
    source: str
    cost: str
    avoid: str
    against: str = ""
    start: str = "full"
    teacher: str = ""
    engine: str = "onnx"
    stages: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        where = f"recipe {self.name}"
        if self.task not in TASKS:
            raise InputError(f"{where}: found the task {self.task!r}, expected match or sentiment")
        if self.engine not in ENGINES:
            raise InputError(
                f"{where}: found the engine {self.engine!r}, expected one of {', '.join(ENGINES)}"
            )
        bodies = [name for name in _STRUCTURES if name in self.stages]
        if len(bodies) > 1:
            raise InputError(f"{where}: [{'] and ['.join(bodies)}] each make a body of their own; keep one")
        if "adversarial" in self.stages and "tune" not in self.stages:
            raise InputError(f"{where}: [adversarial] changes the steps of [tune], which is missing; add it")
        if "lstm" in self.stages and {"cut", "exits"} & set(self.stages):
            raise InputError(f"{where}: an LSTM has no layers to cut and no exits; remove [cut] and [exits]")
        if "pretrain" in self.stages and self.start != "base":
            raise InputError(
                f'{where}: [pretrain] goes on from the checkpoint itself, not from {self.start!r}; set start = "base"'
            )
        data = [name for name in ("clean", "augment") if name in self.stages]
        if data and "tune" not in self.stages:
            raise InputError(f"{where}: [{data[0]}] changes the data of [tune], which is missing; add it")
        if self.teacher and not {"scorer", "augment"} & set(self.stages):
            raise InputError(
                f"{where}: the teacher {self.teacher!r} has nobody to teach; add [scorer] or [augment]"
            )
        if self.query_cut and "tune" in self.stages:
            raise InputError(
                f"{where}: [tune] would move queries away from titles that keep their vectors; remove it, or cut both"
            )

    @property
    def query_cut(self) -> bool:
        """Whether the query tower alone is cut."""
        return "cut" in self.stages and self.stages["cut"].where == "query"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for a manifest."""
        stages = {name: asdict(stage) for name, stage in self.stages.items()}
        names = ("name", "task", "title", "technique", "start", "teacher")
        return {**{name: getattr(self, name) for name in names}, "stages": stages}


def read_recipes(path: Path) -> list[Recipe]:
    """Read a recipe file: one recipe for each task that it names.

    Raises:
        InputError: No TOML, an unknown or missing key, or stages that the task does not have.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise InputError(f"cannot read the recipe {path}: {exc}") from exc
    tasks = content.pop("tasks", list(TASKS))
    if not isinstance(tasks, list) or not tasks:
        raise InputError(f"{path}: found tasks = {tasks!r}, expected a list of match and sentiment")
    return [_recipe(path, task, dict(content)) for task in tasks]


def find_recipes(names: Sequence[str], *, tasks: Sequence[str] = TASKS) -> list[Recipe]:
    """Return recipes by name ("cut-distil"), task and name ("match:cut-distil") or path of a TOML file.

    Args:
        names: None at all: every shipped recipe.
        tasks: Only recipes of these tasks.

    Raises:
        InputError: A name that no recipe has; it lists those that there are.
    """
    shipped = shipped_recipes()
    if not names:
        return [recipe for recipe in shipped if recipe.task in tasks]
    found = [recipe for name in names for recipe in _named(name, shipped)]
    return list({(r.task, r.name): r for r in found if r.task in tasks}.values())


def shipped_recipes() -> list[Recipe]:
    """Return all recipes that come with the package, by technique."""
    recipes = [recipe for path in sorted(RECIPES.glob("*.toml")) for recipe in read_recipes(path)]
    return sorted(recipes, key=lambda recipe: (TASKS.index(recipe.task), recipe.technique))


def _named(name: str, shipped: Sequence[Recipe]) -> list[Recipe]:
    if name.endswith(".toml"):
        return read_recipes(Path(name))
    task, _, short = name.rpartition(":")
    found = [recipe for recipe in shipped if recipe.name == short and task in ("", recipe.task)]
    if not found:
        known = ", ".join(sorted({recipe.name for recipe in shipped}))
        raise InputError(f"found no recipe {name!r}, expected one of {known}, or the path of a .toml file")
    return found


def _recipe(path: Path, task: str, content: dict[str, Any]) -> Recipe:
    own = {name: content.pop(name, {}) for name in TASKS}
    content = {**content, **own.get(task, {})}
    stages: dict[str, Any] = {}
    for name in [name for name, value in content.items() if isinstance(value, dict)]:
        kinds = STAGES.get(name)
        if kinds is None or task not in kinds:
            fitting = [stage for stage, tasks in STAGES.items() if task in tasks]
            raise InputError(f"{path}: found [{name}], expected for {task} some of [{'], ['.join(fitting)}]")
        stages[name] = checked(kinds[task], content.pop(name), where=f"{path}, [{name}]")
    return checked(Recipe, {"name": path.stem, "task": task, **content, "stages": stages}, where=str(path))
