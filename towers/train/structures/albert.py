"""ALBERT from a trained BERT: one layer that is applied many times, and embeddings as a product of two matrices.

The result is transformers' own AlbertModel, whose layer is one module: the state dict, the checkpoint and the exported
graph hold it once. It saves and loads as any transformers checkpoint, and has as many multiply-adds as before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from towers.errors import InputError
from towers.train.bodies import body_of, is_tower, layer_stack, set_body
from towers.train.structures.factorise import factorised
from towers.train.structures.pooled_classifier import PooledClassifier, top_layers

# Parts of an ALBERT layer -> parts of a layer of BERT and RoBERTa, and of DistilBERT.
_PARTS: tuple[Mapping[str, str], ...] = (
    {
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.dense": "attention.output.dense",
        "attention.LayerNorm": "attention.output.LayerNorm",
        "ffn": "intermediate.dense",
        "ffn_output": "output.dense",
        "full_layer_layer_norm": "output.LayerNorm",
    },
    {
        "attention.query": "attention.q_lin",
        "attention.key": "attention.k_lin",
        "attention.value": "attention.v_lin",
        "attention.dense": "attention.out_lin",
        "attention.LayerNorm": "sa_layer_norm",
        "ffn": "ffn.lin1",
        "ffn_output": "ffn.lin2",
        "full_layer_layer_norm": "output_layer_norm",
    },
)


@dataclass(frozen=True)
class AlbertRecipe:
    """How a model's parameters are shared and factorised.

    Source: Lan et al. 2020, "ALBERT", section 3.1. Cost: the start takes seconds, but what it gives is of no use before
    distillation, and it serves as slowly as the model that it came from: the same layers are computed. When not to: for
    speed; for a bundle that is to be small, where int8 and fewer layers buy more at less loss.

    Attributes:
        embedding: Width of the embedding tables, at most the model's own; 128 as in Lan et al. 2020, table 3.
        layer: Which trained layer to start from: its number from 0, or "mean", the mean of all layers' weights.
        layers: How often the layer is applied; 0: as often as the model has layers.
    """

    embedding: int = 128
    layer: str | int = "mean"
    layers: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.embedding < 2 or self.layers < 0:
            raise InputError(
                f"found embedding {self.embedding} and layers {self.layers}, expected 2 or more and 0 or more"
            )
        if self.layer != "mean" and (not isinstance(self.layer, int) or self.layer < 0):
            raise InputError(f"found layer {self.layer!r}, expected 'mean' or the number of a layer from 0")


def to_albert(model: nn.Module, recipe: AlbertRecipe, *, ids: Sequence[Sequence[int]] = ()) -> nn.Module:
    """Return a copy of a tower or classifier with an AlbertModel inside; the given model stays as it is.

    With `embedding` as large as the model's width and one layer in the model, it computes what the model did.
    A transformers classifier becomes an AlbertForSequenceClassification with its trained top layers.

    Args:
        model: A tower or a classifier.
        recipe: Settings.
        ids: Token ids of some hundred texts, see `factorise.factorised`: what the embeddings lose is then lost where
            those texts have nothing.

    Raises:
        InputError: The model is no BERT, RoBERTa or DistilBERT, or has not the layer or the width that was asked for.
    """
    body = _albert_body(model, recipe, ids)
    if not is_tower(model) and not isinstance(model, PooledClassifier):
        return _albert_classifier(model, body)
    shared = copy.deepcopy(model)
    set_body(shared, body)
    if isinstance(shared, PooledClassifier):
        shared.config = _config_of(body, model)
    return shared


def _albert_body(model: nn.Module, recipe: AlbertRecipe, ids: Sequence[Sequence[int]]) -> Any:
    from transformers import AlbertModel

    body = body_of(model)
    if body.config.model_type == "albert":
        raise InputError("found an ALBERT, whose layers share their weights already; remove [albert]")
    layers = [_parts(layer) for layer in layer_stack(model)]
    factors = factorised(body.embeddings, recipe.embedding, ids=ids)
    config = _albert_config(body, recipe, tables=factors.tables, inner=layers[0]["ffn"].out_features)
    # its random weights are all replaced: they shall not move anybody's seed on
    with torch.random.fork_rng():
        albert: Any = AlbertModel(config, add_pooling_layer=False)
    albert.embeddings.load_state_dict(factors.tables)
    albert.encoder.embedding_hidden_mapping_in.load_state_dict(factors.mapping)
    shared = albert.encoder.albert_layer_groups[0].albert_layers[0]
    for name, weights in _shared_weights(layers, recipe.layer).items():
        shared.get_submodule(name).load_state_dict(weights)
    return albert.to(body.device).train(body.training)


def _albert_config(body: Any, recipe: AlbertRecipe, *, tables: Mapping[str, torch.Tensor], inner: int) -> Any:
    from transformers import AlbertConfig

    old = body.config
    options = {
        "vocab_size": len(tables["word_embeddings.weight"]),
        "embedding_size": recipe.embedding,
        "hidden_size": old.hidden_size,
        "num_hidden_layers": recipe.layers or old.num_hidden_layers,
        "num_attention_heads": old.num_attention_heads,
        "intermediate_size": inner,
        "hidden_act": getattr(old, "hidden_act", None) or old.activation,
        "hidden_dropout_prob": getattr(old, "hidden_dropout_prob", 0.1),
        "attention_probs_dropout_prob": getattr(old, "attention_probs_dropout_prob", 0.1),
        "max_position_embeddings": len(tables["position_embeddings.weight"]),
        "type_vocab_size": len(tables["token_type_embeddings.weight"]),
        "layer_norm_eps": getattr(old, "layer_norm_eps", 1e-12),
        "pad_token_id": old.pad_token_id,
        "attn_implementation": "eager",  # as in `base.load_tower`
    }
    return AlbertConfig(**options)


def _parts(layer: nn.Module) -> dict[str, nn.Linear]:
    """Return the parts of a trained layer under the names that they have in ALBERT's."""
    for names in _PARTS:
        try:
            return {ours: cast(nn.Linear, layer.get_submodule(theirs)) for ours, theirs in names.items()}
        except AttributeError:
            continue
    raise InputError(
        f"found layers of type {type(layer).__name__}, expected those of BERT, RoBERTa or DistilBERT: "
        "no other can become an ALBERT's"
    )


def _shared_weights(
    layers: Sequence[Mapping[str, nn.Linear]], choice: str | int
) -> dict[str, dict[str, torch.Tensor]]:
    """Return the state dict of each part of the shared layer: one trained layer's, or the mean of all."""
    if isinstance(choice, int) and choice >= len(layers):
        raise InputError(f"found layer {choice}, expected 0 to {len(layers) - 1} or 'mean'")
    chosen = [layers[choice]] if isinstance(choice, int) else layers
    states = {part: [layer[part].state_dict() for layer in chosen] for part in layers[0]}
    return {
        part: {key: torch.stack([each[key] for each in given]).mean(dim=0) for key in given[0]}
        for part, given in states.items()
    }


def _albert_classifier(model: nn.Module, body: Any) -> nn.Module:
    """Return transformers' own classifier around an AlbertModel, with the trained top layers where there are any."""
    from transformers import AlbertForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier: Any = AlbertForSequenceClassification(_config_of(body, model))
    pooler = classifier.albert.pooler
    classifier.albert = body
    body.pooler, body.pooler_activation = pooler, nn.Tanh()
    trained = top_layers(model)
    if trained is not None:
        pooler.load_state_dict(trained[0].state_dict())
        classifier.classifier.load_state_dict(trained[1].state_dict())
    return cast(nn.Module, classifier.to(body.device).train(model.training))


def _config_of(body: Any, model: nn.Module) -> Any:
    """Return the body's configuration with the classes of the classifier that it came from."""
    config = body.config
    old = cast(Any, model).config
    config.num_labels = old.num_labels
    config.id2label, config.label2id = dict(old.id2label), dict(old.label2id)
    config.problem_type = old.problem_type
    return config
