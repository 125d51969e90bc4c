"""The structure that a recipe's stages give a model, before anything trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from towers.train.albert import to_albert
from towers.train.bodies import is_tower, layer_stack
from towers.train.cut import cut
from towers.train.heads import with_head
from towers.train.lstm import lstm_classifier, lstm_tower
from towers.train.narrow import narrow


def structured(model: nn.Module, stages: Mapping[str, Any], *, ids: Sequence[Sequence[int]] = ()) -> Any:
    """Return a tower or classifier with the structure of the stages cut, narrow, albert, lstm and head, in this order.

    Args:
        model: A tower or a classifier; it may be changed, and the result may share its tensors.
        stages: Name of a stage -> its settings; other stages are passed over.
        ids: Token ids of some of the user's texts: where something has to be lost, it is lost where they have nothing.

    Raises:
        InputError: As the single stages do.
    """
    if "cut" in stages:
        cut(model, stages["cut"].chosen(len(layer_stack(model))))
    if "narrow" in stages:
        model = narrow(model, stages["narrow"])
    if "albert" in stages:
        model = to_albert(model, stages["albert"], ids=ids)
    if "lstm" in stages:
        with_lstm: Any = lstm_tower if is_tower(model) else lstm_classifier
        model = with_lstm(model, stages["lstm"])
    if "head" in stages:
        model = with_head(model, stages["head"])
    return model
