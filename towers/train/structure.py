"""The structure that a recipe's stages give a model, before anything trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from towers.train.bodies import is_tower, layer_stack
from towers.train.structures.albert import to_albert
from towers.train.structures.cut import cut
from towers.train.structures.heads import with_head
from towers.train.structures.lstm import lstm_classifier, lstm_tower
from towers.train.structures.narrow import narrow

_COUNTED = 10_000  # texts whose tokens say which embeddings matter (docs/experiments.md)
_TOKENS = 128  # of each


def structured(
    model: nn.Module, stages: Mapping[str, Any], *, texts: Sequence[str] = (), tokenizer: Any = None
) -> Any:
    """Return a tower or classifier with the structure of the stages cut, narrow, albert, lstm and head, in this order.

    Args:
        model: A tower or a classifier; it may be changed, and the result may share its tensors.
        stages: Name of a stage -> its settings; other stages are passed over.
        texts: Of the user's: where something has to be lost, it is lost where they have nothing.
        tokenizer: A transformers tokenizer, where texts are given.

    Raises:
        InputError: As the single stages do.
    """
    if "cut" in stages:
        cut(model, stages["cut"].chosen(len(layer_stack(model))))
    if "narrow" in stages:
        model = narrow(model, stages["narrow"], texts=texts, tokenizer=tokenizer)
    if "albert" in stages:
        counted = list(texts[:_COUNTED])
        ids = tokenizer(counted, truncation=True, max_length=_TOKENS)["input_ids"] if counted else ()
        model = to_albert(model, stages["albert"], ids=ids)
    if "lstm" in stages:
        with_lstm: Any = lstm_tower if is_tower(model) else lstm_classifier
        model = with_lstm(model, stages["lstm"])
    if "head" in stages:
        model = with_head(model, stages["head"])
    return model
