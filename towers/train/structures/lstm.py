"""A BiLSTM of a model's width on that model's word embeddings, as tower and as classifier: BERT's rival."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from towers.errors import InputError
from towers.train.bodies import body_of, set_body, width_of
from towers.train.structures.pooled_classifier import PooledClassifier
from towers.train.structures.poolers import PoolerShape, make_pooler

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class LstmRecipe:
    """What takes the place of the transformer.

    Sources: Hochreiter & Schmidhuber 1997 (the LSTM); Schuster & Paliwal 1997 (both ways). Cost: 6 * width^2
    multiply-adds a token and layer, half of a transformer layer's 12 * width^2, but one token after the other. It knows
    nothing but words at the start and needs far more distillation than a cut model. When not to: as the model that you
    ship; it is here for the comparison.

    Attributes:
        layers: BiLSTM layers; 1 is the usual baseline (Conneau et al. 2017, section 3.2).
        dropout: Before each layer, while training; guess, untested.
        seed: Of the LSTM's weights and of a classifier's top layers.
    """

    layers: int = 1
    dropout: float = 0.1
    seed: int = 13

    def __post_init__(self) -> None:
        """Refuse what is no LSTM."""
        if self.layers < 1 or not 0.0 <= self.dropout < 1.0:
            raise InputError(
                f"found {self.layers} layers and dropout {self.dropout}, expected 1 or more, and 0 to below 1"
            )


def lstm_tower(tower: SentenceTransformer, recipe: LstmRecipe) -> SentenceTransformer:
    """Return a copy of a tower with a BiLSTM in the place of its transformer; pooling and what follows stay.

    Raises:
        InputError: The transformer has no word embeddings of its own width, or an odd width.
    """
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        body = _lstm_body(tower, recipe)
    ours = copy.deepcopy(tower)
    set_body(ours, body)
    return ours


def lstm_classifier(model: nn.Module, recipe: LstmRecipe) -> PooledClassifier:
    """Return a classifier of as many classes: a BiLSTM, the mean over its tokens, dense, tanh and classifier.

    Raises:
        InputError: As `lstm_tower`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        body = _lstm_body(model, recipe)
        pooler = make_pooler(PoolerShape("mean", width_of(model)))
        config = copy.deepcopy(cast(Any, model).config)
        return PooledClassifier(body, pooler, config=config, dropout=recipe.dropout).train(model.training)


def _lstm_body(model: nn.Module, recipe: LstmRecipe) -> Any:
    from towers.train.structures.lstm_body import LstmBody, LstmConfig, register

    register()
    old, words, width = body_of(model), _words(model), width_of(model)
    config = LstmConfig(
        vocab_size=words.num_embeddings,
        hidden_size=width,
        lstm_layers=recipe.layers,
        hidden_dropout_prob=recipe.dropout,
        max_position_embeddings=getattr(old.config, "max_position_embeddings", 512),
        pad_token_id=words.padding_idx,
    )
    body = LstmBody(config)
    body.word_embeddings.load_state_dict(words.state_dict())
    return cast(Any, body).to(words.weight.device).train(model.training)


def _words(model: nn.Module) -> nn.Embedding:
    """Return the trained word embeddings; they must be as wide as the hidden states, as the towers' are to stay."""
    width = width_of(model)
    words = body_of(model).get_input_embeddings()
    found = getattr(words, "embedding_dim", None)
    if not isinstance(words, nn.Embedding) or found != width or width % 2:
        raise InputError(
            f"found word embeddings of width {found} under hidden states of width {width}, expected the same even "
            "width: a BiLSTM of that width starts from them. ALBERT's are narrower; take the model it came from."
        )
    return words
