"""The transformer inside a tower or a classifier: find it, look at its layers, put another in its place.

A tower is a sentence-transformers model whose first module holds the transformer; a classifier is a transformers model
with a head, or one of ours that names its transformer `base_model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import nn

from towers.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def is_tower(model: nn.Module) -> bool:
    """Whether a model is a sentence-transformers model."""
    from sentence_transformers import SentenceTransformer

    return isinstance(model, SentenceTransformer)


def body_of(model: nn.Module) -> Any:
    """Return the transformer (a transformers PreTrainedModel, or what took its place) of a tower or a classifier."""
    if is_tower(model):
        return cast("SentenceTransformer", model)[0].auto_model
    return cast(Any, model).base_model


def set_body(model: nn.Module, body: nn.Module) -> None:
    """Put another transformer in the place of a model's own. It must give hidden states of the same width.

    Raises:
        InputError: The widths differ: what stands behind the transformer would not fit.
    """
    old = body_of(model)
    found, wanted = cast(Any, body).config.hidden_size, old.config.hidden_size
    if found != wanted:
        raise InputError(
            f"found a transformer of width {found}, expected {wanted}, the width of what it replaces"
        )
    holder = cast("SentenceTransformer", model)[0] if is_tower(model) else model
    for name, module in holder.named_children():
        if module is old:
            setattr(holder, name, body)
            return
    raise InputError(f"{type(model).__name__} does not hold its transformer itself; it cannot be replaced")


def width_of(model: nn.Module) -> int:
    """Return the width of the hidden states."""
    return int(body_of(model).config.hidden_size)


def layer_stack(model: nn.Module) -> nn.ModuleList:
    """Return the list of transformer layers of any BERT-family model, or of a tower or classifier with one inside.

    Raises:
        InputError: No list in the model is as long as its configuration says.
    """
    body = body_of(model)
    wanted = body.config.num_hidden_layers
    shared = (
        getattr(body.config, "model_type", "") == "albert"
    )  # its one layer may be applied once: still no layer of its own
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted and not shared:
            return module
    raise InputError(
        f"{type(body).__name__} has no list of {wanted} layers: only BERT-like encoders with layers of their own "
        "can be cut, frozen or given exits"
    )
