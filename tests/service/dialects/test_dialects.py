from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects import DIALECTS, Dialect, dialect_of
from service.errors import failure_for
from service.state import State
from tests.service.fakes import FakeBundle, FakeRelease, fake_state

KEY = "a-key-of-the-tests"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return fake_state(tmp_path, release=FakeRelease(), workers=1, queue=0)


@pytest.fixture
def client(state: State) -> Iterator[TestClient]:
    with TestClient(create_app(state), raise_server_exceptions=False) as client:
        yield client


def posted(state: State) -> list[tuple[Dialect, str]]:
    """All routes of dialects that take a body."""
    app = create_app(state)
    paths = [route.path for route in app.routes if isinstance(route, APIRoute) and "POST" in route.methods]
    return [(dialect, path) for path in paths if (dialect := dialect_of(path, DIALECTS))]


def shape_of(body: bytes) -> object:
    """The names in a body, without its values."""

    def names(value: object) -> object:
        return {key: names(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    return names(json.loads(body))


def test_a_star_stands_for_everything_below() -> None:
    """Other paths are owned exactly as they are written."""
    dialect = Dialect("other", frozenset({"/one", "/two/*"}), lambda *failure: (500, b""))
    assert [dialect.owns(path) for path in ("/one", "/two/three", "/one/", "/two", "/")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_each_path_belongs_to_one_dialect_at_most() -> None:
    """Otherwise the order of DIALECTS would decide how an error looks."""
    paths = [path for dialect in DIALECTS for path in dialect.paths]
    assert len(paths) == len(set(paths))
    assert dialect_of("/v1/match", DIALECTS) is None
    assert dialect_of("/nobody/knows", DIALECTS) is None


def test_every_dialect_has_routes(state: State) -> None:
    """What a dialect owns is there, and what is there under its name is its own."""
    assert {dialect.name for dialect, _ in posted(state)} == {dialect.name for dialect in DIALECTS}


def test_all_failures_of_a_dialect_have_its_shape(client: TestClient, state: State) -> None:
    """Whoever notices it, a handler, the router or a middleware: wrong media type, method, JSON, and no room."""
    for dialect, path in posted(state):
        _, body = dialect.failure(422, "", "InputError")
        wrong = [
            (client.post(path, content=b"{"), {422, 400}),
            (client.post(path, content=b"x", headers={"Content-Type": "text/html"}), {415, 400}),
            (client.put(path, content=b"{}"), {405, 400}),
            (client.post(path, content=b" " * (state.settings.max_body + 1)), {413, 400}),
        ]
        state.work.taken = 1
        wrong.append((client.post(path, content=b"{}"), {429}))
        state.work.taken = 0
        for response, statuses in wrong:
            assert response.status_code in statuses, (path, response.text)
            assert shape_of(response.content) == shape_of(body), (path, response.text)


def test_a_missing_key_is_refused_in_the_shape_of_the_dialect(tmp_path: Path) -> None:
    """Also where a text is posted to the path of the page, which is open."""
    state = fake_state(tmp_path, release=FakeRelease(), api_key=KEY)
    with TestClient(create_app(state)) as client:
        for dialect, path in posted(state):
            response = client.post(path, json={})
            status, body = dialect.failure(401, "", "UnauthorizedError")
            assert response.status_code == status == 401, path
            assert shape_of(response.content) == shape_of(body), path
            assert response.headers["www-authenticate"] == "Bearer"
            known = client.post(path, json={}, headers={"Authorization": f"Bearer {KEY}"})
            assert known.status_code != 401, path


def test_what_nobody_foresaw_has_the_shape_of_the_dialect(tmp_path: Path) -> None:
    """The answer is in the client's words, and without details."""

    class Broken(FakeBundle):
        def encode_titles(self, texts: object, *, progress: object = None) -> object:  # type: ignore[override]
            raise RuntimeError("a detail")

    state = fake_state(tmp_path, bundle=Broken())
    with TestClient(create_app(state), raise_server_exceptions=False) as client:
        response = client.post("/embed", json={"inputs": "shoe"})
        assert response.status_code == 500
        assert response.json()["error_type"] == "Backend"
        assert "a detail" not in response.text
        own = client.post("/v1/match", json={"query": "shoe", "titles": ["shoe"]})
        assert own.status_code == 500
        assert own.json()["error_type"] == "InternalError"


def test_headers_of_a_failure_are_those_of_its_status() -> None:
    """A full service says when to come back, in every dialect."""
    for path in ("/v1/match", *(sorted(dialect.paths)[0] for dialect in DIALECTS)):
        response = failure_for(path, 429, "full", "BusyError", {"X-Other": "1"})
        assert response.headers["retry-after"] == "1"
        assert response.headers["x-other"] == "1"
        assert response.media_type == "application/json"


def test_the_document_describes_every_route_with_body_and_answer(client: TestClient, state: State) -> None:
    """Every reference leads somewhere, and every route of a dialect says what it takes and answers."""
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schemas
    for _, path in posted(state):
        if path == "/":
            continue  # stands for /embed where a client knows the address only
        described = document["paths"][path]["post"]
        assert described["requestBody"]["content"]["application/json"]["schema"]
        assert described["responses"]["200"]["content"]["application/json"]["schema"]
