"""A head as a module of sentence-transformers, in the place of its Pooling.

This file imports sentence-transformers at once and is itself imported where a head is made. Only the trainer's own
checkpoints hold such a module; the trainer knows the class and can read them back.
"""

from __future__ import annotations

from typing import Any

from sentence_transformers.base.modules.module import Module

from towers.train.structures.poolers import PoolerShape, make_pooler


class TowerHead(Module):
    """token_embeddings (n, tokens, width) and attention_mask (n, tokens) -> sentence_embedding (n, width).

    Attributes:
        pooling_output_dimension: The width, under the name that sentence-transformers' Pooling has for it.
    """

    config_keys: list[str] = ["kind", "width", "hidden", "heads"]  # noqa: RUF012 - named by the base class

    def __init__(self, kind: str, width: int, hidden: int = 0, heads: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind, self.width, self.hidden, self.heads = kind, width, hidden, heads
        self.pooling_output_dimension = width
        self.pooler = make_pooler(PoolerShape(kind, width, hidden, heads))

    def forward(self, features: dict[str, Any], **ignored: Any) -> dict[str, Any]:
        """Add the text's vector to a batch's features."""
        features["sentence_embedding"] = self.pooler(features["token_embeddings"], features["attention_mask"])
        return features

    def get_embedding_dimension(self) -> int:
        """Return the width, as sentence-transformers asks for it."""
        return self.width

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write configuration and weights into a folder."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(  # type: ignore[override]
        cls, model_name_or_path: str, subfolder: str = "", **options: Any
    ) -> TowerHead:
        """Read a head that `save` wrote."""
        head = cls(**cls.load_config(model_name_or_path, subfolder=subfolder))
        cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=head)
        return head
