"""The names under which the towers go: OpenAI's clients choose by model, and know nothing of towers."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from service.dialects.texts import Tower
from service.errors import UnknownModelError
from service.state import State
from towers.bundle import LAYOUT

# A catalogue is what most callers encode, so the bare name stands for the title tower.
MODELS: dict[str, Tower] = {"dualtower": "title", "dualtower:query": "query", "dualtower:title": "title"}
SHOWN = 100  # characters of an unknown name in its error


def tower_of_model(model: str) -> Tower:
    """The tower that a model's name stands for.

    Raises:
        UnknownModelError: There is no such model.
    """
    if model not in MODELS:
        raise UnknownModelError(f"model {model[:SHOWN]!r} does not exist; there are {', '.join(MODELS)}")
    return MODELS[model]


def models(state: State) -> bytes:
    """Answer GET /v1/models."""
    return to_json({"object": "list", "data": [_described(state, name) for name in MODELS]})


def model(state: State, name: str) -> bytes:
    """Answer GET /v1/models/{name}.

    Raises:
        UnknownModelError: There is no such model.
    """
    tower_of_model(name)
    return to_json(_described(state, name))


def _described(state: State, name: str) -> dict[str, Any]:
    # A bundle holds no time. When its manifest was written here is the nearest to what clients sort by.
    created = int((state.bundle.path / LAYOUT.manifest).stat().st_mtime)
    return {"id": name, "object": "model", "created": created, "owned_by": "dualtower"}
