"""A classifier around any transformer and any pooling: body, pooling, then dense, tanh and classifier as in BERT."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from towers.train.bodies import body_of


class PooledClassifier(nn.Module):
    """(input_ids, attention_mask) -> logits (n, classes).

    A plain torch module: its checkpoint is the configuration and the state dict. transformers' Trainer takes it.

    Attributes:
        config: A transformers configuration; num_labels is the number of classes.
        base_model: The transformer, or what took its place.
    """

    def __init__(self, body: nn.Module, pooler: nn.Module, *, config: Any, dropout: float = 0.1) -> None:
        super().__init__()
        width = int(config.hidden_size)
        self.config = config
        self.base_model = body
        self.pooler = pooler
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, int(config.num_labels))
        for layer in (self.dense, self.classifier):
            nn.init.normal_(layer.weight, std=0.02)  # as BERT's own head starts
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **ignored: Any,
    ) -> Any:
        """Classify a padded batch.

        Args:
            input_ids: int64 (n, tokens).
            attention_mask: int64 (n, tokens); None: no padding.
            labels: int64 (n,) for classes, float32 (n,) for one number; with them the loss is in the answer.
            ignored: What transformers' own classifiers take besides, such as token types.

        Returns:
            A transformers SequenceClassifierOutput.
        """
        from transformers.loss.loss_utils import ForSequenceClassificationLoss
        from transformers.modeling_outputs import SequenceClassifierOutput

        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        text = torch.tanh(self.dense(self.pooler(states, mask)))
        logits = self.classifier(self.dropout(text))
        loss = None
        if labels is not None:
            loss = ForSequenceClassificationLoss(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def top_layers(model: nn.Module) -> tuple[nn.Linear, nn.Linear] | None:
    """Return the two trained layers of a classifier, from the text's vector: dense (with tanh) and classifier.

    BERT, ALBERT (dense in the pooler), RoBERTa (both in the head) and ours have them; None for other forms.
    """
    holder = cast(Any, model)
    if isinstance(model, PooledClassifier):
        return model.dense, model.classifier
    head = getattr(holder, "classifier", None)
    pooler = getattr(body_of(model), "pooler", None)
    if isinstance(head, nn.Linear):
        dense = pooler if isinstance(pooler, nn.Linear) else getattr(pooler, "dense", None)
        return (dense, head) if isinstance(dense, nn.Linear) else None
    dense, out = getattr(head, "dense", None), getattr(head, "out_proj", None)
    return (dense, out) if isinstance(dense, nn.Linear) and isinstance(out, nn.Linear) else None
