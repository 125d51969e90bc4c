"""Narrow students: fewer hidden dimensions, heads and layers, since cost goes with layers times width squared."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from towers.errors import InputError
from towers.tokens import pad
from towers.train.bodies import body_of, is_tower, layer_stack, width_of
from towers.train.distillation.teacher import token_ids
from towers.train.structures.cut import CutRecipe, cut
from towers.train.structures.narrow_weights import Inputs, choose_units, copy_units, fit_linear, refit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MADE_UP_WORDS = 16  # in a text
_TOKENS = 32  # longest text that the weights are fitted on
_PARTS = ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")


@dataclass(frozen=True)
class NarrowRecipe:
    """How narrow a student is.

    Source: Jiao et al. 2020 (TinyBERT) and Wang et al. 2020 (MiniLM) for narrow students; where the weights come from,
    see narrow_weights.py. Cost: 256 wide with 4 layers is 0.3 of the multiply-adds of 384 wide with 6; the start takes
    seconds, and the distillation that must follow is longer than for a cut model, whose layers are whole. Not where
    the embedding table is what must get smaller: that is factorisation's work (albert.py).

    Attributes:
        width: Of the hidden states; a multiple of the model's head size, below its width.
        layers: How many, spread over the model's.
        intermediate: Units of the feed-forward part; 0: in the model's own proportion to the width.
        texts: At most this many texts are looked at to choose units and fit weights; guess, untested.
        seed: Of the draw of texts, and of made-up ones where there are none.
    """

    width: int = 256
    layers: int = 4
    intermediate: int = 0
    texts: int = 300
    seed: int = 13

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        if min(self.width, self.layers, self.texts) < 1 or self.intermediate < 0:
            raise InputError(
                f"narrow: found width = {self.width}, layers = {self.layers}, intermediate = {self.intermediate}, "
                f"texts = {self.texts}, expected whole numbers above 0 (intermediate may be 0)"
            )


def narrow(
    model: nn.Module, recipe: NarrowRecipe, *, texts: Sequence[str] = (), tokenizer: Any = None
) -> Any:
    """Return a narrow model of the same kind, started from a trained one, which stays as it is.

    A tower ends in a Dense module that leads back to the old width, so that its vectors are of the same space.

    Args:
        model: A tower with mean, CLS or max pooling, or a transformers classifier, of a BERT-like architecture.
        recipe: Settings.
        texts: What to look at the model with, best the texts that it will see. None: words drawn from its vocabulary,
            frequent ones more often, which is a poorer start.
        tokenizer: The classifier's, where texts are given; a tower has its own.

    Raises:
        InputError: Sizes that the model does not have, or an architecture whose units are not known.
    """
    _check(model, recipe)
    inputs = _inputs(model, recipe, texts, model.tokenizer if is_tower(model) else tokenizer)
    mode = model.training
    if is_tower(model):
        return _narrow_tower(cast(Any, model), recipe, inputs).train(mode)
    return _narrowed(_cut_copy(model, recipe), recipe, inputs).train(mode)


def _check(model: nn.Module, recipe: NarrowRecipe) -> None:
    body, width = body_of(model), width_of(model)
    layers = layer_stack(model)
    named = {name for name, _ in layers[0].named_modules()}
    table = getattr(getattr(body, "embeddings", None), "word_embeddings", None)
    if not named.issuperset(_PARTS) or getattr(table, "embedding_dim", None) != width:
        raise InputError(
            f"narrow: {type(body).__name__} is not built like BERT, whose units are known; cut its layers instead"
        )
    head_size = width // body.config.num_attention_heads
    if recipe.width >= width or recipe.width % head_size:
        raise InputError(
            f"narrow: found width = {recipe.width}, expected a multiple of the head size {head_size} below {width}"
        )
    if recipe.layers > len(layers):
        raise InputError(f"narrow: found layers = {recipe.layers}, expected at most {len(layers)}")
    if recipe.intermediate > body.config.intermediate_size:
        raise InputError(
            f"narrow: found intermediate = {recipe.intermediate}, expected at most {body.config.intermediate_size}"
        )
    if not is_tower(model) and not hasattr(model, "config_class"):
        raise InputError(
            f"narrow: {type(model).__name__} has a head of its own; make the classifier narrow first, then give it "
            "the head"
        )


def _narrow_tower(tower: SentenceTransformer, recipe: NarrowRecipe, inputs: Inputs) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling

    transformer, pooling, *rest = (copy.deepcopy(module) for module in cast(Any, tower))
    if not isinstance(pooling, Pooling) or not isinstance(pooling.pooling_mode, str):
        raise InputError(
            f"narrow: found {type(pooling).__name__} behind the transformer, expected Pooling of one mode; make the "
            "tower narrow first, then give it another head"
        )
    wide = body_of(tower)
    body = _narrowed(_cut_copy(wide, recipe), recipe, inputs)
    back = Dense(recipe.width, width_of(tower), activation_function=nn.Identity())
    fit_linear(back.linear, *(_last_states(model, inputs) for model in (body, wide)))
    _exchange(transformer, body)
    pooled = Pooling(recipe.width, pooling.pooling_mode, include_prompt=pooling.include_prompt)
    modules = [transformer, pooled, back, *rest]
    return SentenceTransformer(modules=modules, device="cpu", prompts=cast(Any, tower.prompts))


def _cut_copy(model: nn.Module, recipe: NarrowRecipe) -> nn.Module:
    shallow = copy.deepcopy(model).eval()
    cut(shallow, CutRecipe(keep=recipe.layers).chosen(len(layer_stack(model))))
    return shallow


def _narrowed(wide: nn.Module, recipe: NarrowRecipe, inputs: Inputs) -> nn.Module:
    """Return a model of the same class, with the units that contribute most and weights fitted to the wide one's."""
    config = copy.deepcopy(cast(Any, wide).config)
    head_size = config.hidden_size // config.num_attention_heads
    inner = recipe.intermediate or config.intermediate_size * recipe.width // config.hidden_size
    units = choose_units(wide, inputs, width=recipe.width, head_size=head_size, intermediate=inner)
    config.hidden_size, config.intermediate_size = recipe.width, inner
    config.num_attention_heads = recipe.width // head_size
    with torch.random.fork_rng():  # its own first weights are all replaced
        ours = cast(Any, type(wide))(config).eval()
    copy_units(wide, ours, units)
    refit(wide, ours, units, inputs)
    return cast(nn.Module, ours)


def _last_states(body: nn.Module, inputs: Inputs) -> torch.Tensor:
    with torch.no_grad():
        found = body.eval()(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask)
    return inputs.flat(found.last_hidden_state)


def _exchange(transformer: Any, body: nn.Module) -> None:
    """Put a narrower body into a Transformer module; whatever stands behind it is made for its width."""
    old = transformer.auto_model
    (name,) = [name for name, module in transformer.named_children() if module is old]
    setattr(transformer, name, body)


def _inputs(model: nn.Module, recipe: NarrowRecipe, texts: Sequence[str], tokenizer: Any) -> Inputs:
    rng = np.random.default_rng(recipe.seed)
    if not texts:
        return _made_up(int(body_of(model).config.vocab_size), recipe.texts, rng)
    if tokenizer is None:
        raise InputError(
            "narrow: found texts and no tokenizer, expected the classifier's tokenizer with them"
        )
    chosen = [texts[i] for i in rng.permutation(len(texts))[: recipe.texts]]
    ids, mask = pad(token_ids(tokenizer, chosen, max_tokens=_TOKENS))
    return Inputs(torch.from_numpy(ids), torch.from_numpy(mask))


def _made_up(vocabulary: int, count: int, rng: np.random.Generator) -> Inputs:
    """Draw words as texts do: vocabularies are sorted by frequency, which falls with the rank (Zipf 1949)."""
    first = min(1000, vocabulary // 5)  # BERT's first thousand entries are special or unused
    ranks = np.exp(rng.random((count, _MADE_UP_WORDS)) * np.log(vocabulary - first))
    ids = torch.from_numpy(first + ranks.astype(np.int64) - 1)
    return Inputs(ids, torch.ones_like(ids))
