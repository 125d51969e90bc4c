"""What stands on top of the transformer: mean, CLS, attention, RCNN or one more layer, for towers and classifiers."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from towers.errors import InputError
from towers.train.bodies import body_of, is_tower, layer_stack, width_of
from towers.train.structures.poolers import FurtherLayer, PoolerShape, make_pooler

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from towers.train.structures.pooled_classifier import PooledClassifier

KINDS = ("mean", "cls", "attention", "rcnn", "layer")


@dataclass(frozen=True)
class HeadRecipe:
    """Which head a model gets.

    Sources: mean, Reimers & Gurevych 2019; CLS, Devlin et al. 2019; attention, Yang et al. 2016 and Lin et al. 2017;
    RCNN, Lai et al. 2015. Cost, in multiply-adds a token, where a BERT layer has 12 * width^2 and its attention:
    attention pooling hidden * width, a twelfth of that as it comes; a further layer one layer's; RCNN 8 * width^2, and
    its LSTM reads one token after the other. When not to: on a tower that was trained with mean pooling and gets no
    training afterwards only "mean" is of use: "attention", "rcnn" and "layer" start equal to it, "cls" far away.

    Attributes:
        kind: "mean", "cls", "attention", "rcnn" or "layer".
        hidden: Width inside the head: of attention's space, of each direction of RCNN's LSTM, of the further layer's
            inner part. 0 takes the model's width, half of it, and the inner width of the model's own layers.
        dropout: Before the classifier's last layer, while training; 0.1 as in Devlin et al. 2019, A.2. Towers have
            none there.
        seed: Of the head's new weights.
    """

    kind: str = "attention"
    hidden: int = 0
    dropout: float = 0.1
    seed: int = 13

    def __post_init__(self) -> None:
        """Refuse what is no head."""
        if self.kind not in KINDS:
            raise InputError(f"found a head of kind {self.kind!r}, expected one of {', '.join(KINDS)}")
        if self.hidden < 0 or not 0.0 <= self.dropout < 1.0:
            raise InputError(
                f"found hidden {self.hidden} and dropout {self.dropout}, expected 0 or more, and 0 to below 1"
            )


def with_head(model: nn.Module, recipe: HeadRecipe) -> nn.Module:
    """Return a copy of a tower or classifier with another head; the given model stays as it is.

    A tower's vectors keep their width. A classifier keeps its classes and, where it has the usual two layers (dense and
    classifier) on the vector of the text, these with their weights.

    Raises:
        InputError: A tower without a pooling of the width of its hidden states.
    """
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return _tower_with_head(model, recipe) if is_tower(model) else _classifier_with_head(model, recipe)


def shape_for(model: nn.Module, recipe: HeadRecipe) -> PoolerShape:
    """Return the sizes that a recipe's pooling has on a model."""
    config = body_of(model).config
    width = width_of(model)
    defaults = {
        "attention": width,
        "rcnn": width // 2,
        "layer": int(getattr(config, "intermediate_size", 4 * width)),
    }
    heads = int(getattr(config, "num_attention_heads", _heads_for(width)))
    return PoolerShape(recipe.kind, width, recipe.hidden or defaults.get(recipe.kind, 0), heads)


def _heads_for(width: int) -> int:
    """About 64 dimensions a head, as in BERT of every size, for a body that has no attention of its own."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)


def _start(pooler: nn.Module, model: nn.Module) -> None:
    """Give a further layer the weights of the model's last one, where there is one."""
    if isinstance(pooler, FurtherLayer):
        with contextlib.suppress(InputError):  # ALBERT and LSTM have no layers of their own
            pooler.start_from(layer_stack(model)[-1])


def _tower_with_head(model: nn.Module, recipe: HeadRecipe) -> SentenceTransformer:
    from towers.train.structures.tower_head import TowerHead

    tower = cast("SentenceTransformer", copy.deepcopy(model))
    old = cast(Any, tower[1]) if len(tower) > 1 else None
    found = getattr(old, "pooling_output_dimension", None)
    if found != width_of(tower):
        raise InputError(
            f"found {type(old).__name__} of width {found} behind the transformer, expected a pooling of width "
            f"{width_of(tower)}, whose place another head could take"
        )
    head = TowerHead(**asdict(shape_for(model, recipe)))
    _start(head.pooler, model)
    tower[1] = head.to(tower.device)
    return tower


def _classifier_with_head(model: nn.Module, recipe: HeadRecipe) -> PooledClassifier:
    from towers.train.structures.pooled_classifier import PooledClassifier, top_layers

    body = without_pooler(body_of(model))
    config = copy.deepcopy(cast(Any, model).config)
    pooler = make_pooler(shape_for(model, recipe))
    _start(pooler, model)
    classifier = PooledClassifier(body, pooler, config=config, dropout=recipe.dropout)
    trained = top_layers(model)
    if trained is not None:
        classifier.dense.load_state_dict(trained[0].state_dict())
        classifier.classifier.load_state_dict(trained[1].state_dict())
    return classifier.train(model.training)


def without_pooler(body: nn.Module) -> Any:
    """Return a copy of a transformer without the dense layer over CLS that some have: nothing would read it."""
    found = cast(Any, copy.deepcopy(body))
    if getattr(found, "pooler", None) is not None:
        found.pooler = None
    return found
