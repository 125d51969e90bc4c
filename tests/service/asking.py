"""Requests to the service's own routes, which have to succeed or to be refused."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from service.schemas import (
    ErrorAnswer,
)


def post(client: TestClient, route: str, **body: Any) -> Any:
    """The answer to a request that has to succeed."""
    response = client.post(route, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, route: str, status: int, **body: Any) -> str:
    """The message of a request that has to be refused."""
    response = client.post(route, json=body)
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate_json(response.content, strict=True).error
