"""A BiLSTM in the place of a transformer: word embeddings, normalised, and LSTM layers that read both ways.

It is a transformers model, so that trainers can save it and read it back. This file imports transformers at once and is
itself imported where such a body is made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from towers.train.structures.bilstm import BiLstm


class LstmConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes of an LstmBody.

    Attributes:
        vocab_size: Rows of the word embeddings.
        hidden_size: Width of the embeddings and of the hidden states, both directions together.
        lstm_layers: BiLSTM layers, one on top of the other.
        num_hidden_layers: Transformer layers: none, so that nobody looks for some to cut.
        hidden_dropout_prob: Before each BiLSTM layer, while training.
        max_position_embeddings: Longest text of the model that it came from; an LSTM itself has no limit.
    """

    model_type = "dualtower_lstm"

    vocab_size: int = 30522
    hidden_size: int = 384
    lstm_layers: int = 1
    num_hidden_layers: int = 0
    hidden_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    pad_token_id: int | None = 0


class LstmBody(PreTrainedModel):  # type: ignore[no-untyped-call]
    """(input_ids, attention_mask) int64 (n, tokens) -> last_hidden_state float32 (n, tokens, hidden_size)."""

    config_class = LstmConfig
    base_model_prefix = "lstm"

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.norm = nn.LayerNorm(width)  # trained embeddings are short; an LSTM wants inputs of unit variance
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        # no ModuleList: layers of an LSTM are not to be taken for a transformer's
        self.layers = nn.Sequential(*(BiLstm(width, width // 2) for _ in range(config.lstm_layers)))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any
    ) -> BaseModelOutput:
        """Read a batch padded on the right."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.norm(self.word_embeddings(input_ids))
        for layer in self.layers:
            states = layer(self.dropout(states), mask)
        return BaseModelOutput(last_hidden_state=states)

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings."""
        return self.word_embeddings

    def _init_weights(self, module: nn.Module) -> None:
        """Leave torch's own start of LSTMs, and the open forget gates, as they are."""


def register() -> None:
    """Tell transformers of the class, so that a trainer's checkpoint of it can be read back."""
    AutoConfig.register(LstmConfig.model_type, LstmConfig, exist_ok=True)
    AutoModel.register(LstmConfig, LstmBody, exist_ok=True)
