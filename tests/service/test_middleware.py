"""What surrounds the routes: keys, rate limit, ids, headers, CORS, log lines."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.keys import new_key
from service.logs import JsonFormatter
from service.open_paths import is_open
from service.redis_guard import RedisGuard
from service.settings import Settings
from service.state import State
from tests.service.fakes import FakeRelease, fake_state, serving_of
from towers.errors import RedisUnavailableError

KEY, LINE = new_key("shop")
OTHER, OTHER_LINE = new_key("batch")
REDIS = "redis://127.0.0.1:1/0"
QUESTION = {"query": "red shoe", "k": 1}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# One path of each shape of errors.
PATHS = ("/v1/search", "/embed", "/v1/embeddings", "/v1/rerank", "/v2/rerank", "/nowhere")


def client_of(root: Path, **settings: Any) -> TestClient:
    return TestClient(create_app(fake_state(root, release=FakeRelease(), **settings)))


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[TestClient]:
    """A service with two keys."""
    with client_of(tmp_path, api_keys=f"{LINE},{OTHER_LINE}") as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def guarded(root: Path, **settings: Any) -> Iterator[tuple[State, TestClient]]:
    """A service without a release, which has lost its Redis."""
    state = fake_state(root, **settings)

    def ping() -> None:
        raise RedisUnavailableError(f"{REDIS} does not answer")

    state.guard = RedisGuard(ping, state.metrics, probe_s=60)
    state.guard.probe()
    state.follower.look = lambda: None  # type: ignore[method-assign]
    with TestClient(create_app(state)) as client:
        yield state, client


class TestKeys:
    def test_only_health_and_the_page_answer_without_a_key(self, locked: TestClient) -> None:
        """Whatever routes there are, also those that are added later; with every method and with wrong keys."""
        routes = {getattr(route, "path", "") for route in locked.app.routes}  # type: ignore[attr-defined]
        assert {"/v1/search", "/metrics", "/info", "/openapi.json", "/docs"} <= routes
        for path in [*sorted(routes), "/nowhere", "/health/other", "/health/live/", "/pages", "/page"]:
            real = re.sub(r"\{[^}]*\}", "x", path)
            for method in (method for method in METHODS if not is_open(real, method)):
                for headers in ({}, bearer("wrong"), {"X-API-Key": KEY[:-1]}, bearer(LINE.partition(":")[2])):
                    answer = locked.request(method, real, headers=headers)
                    assert answer.status_code == 401, (method, real)
                    assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_what_is_open_is_health_and_the_page(self, locked: TestClient) -> None:
        """The list is closed: a path that is added to it has to be added here."""
        routes = {getattr(route, "path", "") for route in locked.app.routes}  # type: ignore[attr-defined]
        fixed = {path for path in routes if is_open(path, "GET") and not path.startswith("/page/")}
        assert fixed <= {"/", "/health", "/health/live", "/health/ready"}
        assert not is_open("/", "POST")
        for path in ("/health", "/health/live", "/health/ready"):
            assert locked.get(path).status_code == 200

    @pytest.mark.parametrize(
        "headers", [bearer(KEY), {"X-API-Key": KEY}, {"authorization": f"bearer  {KEY} "}]
    )
    def test_each_key_opens_in_either_header(self, locked: TestClient, headers: dict[str, str]) -> None:
        assert locked.post("/v1/search", json=QUESTION, headers=headers).status_code == 200

    def test_the_refusal_has_the_shape_of_the_path(self, locked: TestClient) -> None:
        """A client of another service understands it; no shape quotes the key."""
        ours = locked.post("/v1/search", headers=bearer("wrong one"))
        theirs = locked.post("/embed", headers=bearer("wrong one"))
        assert ours.json()["error_type"] == "UnauthorizedError"
        assert theirs.json()["error_type"] == "Validation"
        for path in PATHS:
            answer = locked.post(path, headers=bearer("wrong one"))
            assert answer.status_code == 401
            assert "wrong one" not in answer.text
            assert isinstance(answer.json(), dict)

    def test_requests_are_counted_under_the_name(self, locked: TestClient) -> None:
        """Of the key; one without a known key counts under no name."""
        locked.post("/v1/search", json=QUESTION, headers=bearer(KEY))
        locked.post("/v1/search", json=QUESTION, headers=bearer("wrong"))
        text = locked.get("/metrics", headers=bearer(OTHER)).text
        assert 'dualtower_key_requests_total{key="shop",status="200"} 1.0' in text
        assert 'dualtower_key_requests_total{key="",status="401"} 1.0' in text

    def test_reasons_name_no_path_and_no_address_without_a_key(self, tmp_path: Path) -> None:
        """What is wrong is said to everybody; where, to whoever has a key, and to all where none is wanted."""
        file = tmp_path / "keys"
        file.write_text(LINE)
        with guarded(tmp_path, api_keys_file=file) as (state, client):
            file.write_text(KEY)
            state.keys.look()
            for problem in (None, f"ReleaseError: {tmp_path}/v1 is broken"):
                state.follower.problem = problem
                for headers in ({}, bearer("wrong"), {"X-API-Key": LINE.partition(":")[2]}):
                    short = client.get("/health/ready", headers=headers)
                    assert short.status_code == client.get("/health", headers=headers).status_code == 503
                    for secret in (str(tmp_path), "127.0.0.1"):
                        assert secret not in short.text + client.get("/health", headers=headers).text
                    assert "redis: it does not answer" in short.text
                    assert "keys: the file cannot be used" in short.text
                full = client.get("/health/ready", headers=bearer(KEY))
                assert full.json()["not_ready"][0].count(str(tmp_path)) >= 1
                assert str(file) in full.text
                assert REDIS in full.text
                assert str(tmp_path) in client.get("/health", headers={"X-API-Key": KEY}).text
                assert full.json().keys() == short.json().keys()
            state.in_use.replace(serving_of("v1", state.bundle, FakeRelease(), state.metrics))
            assert "cannot be used; release v1 stays in use" in client.get("/health/ready").text
            assert str(tmp_path) not in client.get("/health/ready").text
        with guarded(tmp_path) as (_, client):
            assert REDIS in client.get("/health/ready").text
            assert str(tmp_path) in client.get("/health").text

    def test_a_key_file_that_broke_shows_in_ready(self, tmp_path: Path) -> None:
        """The service stays ready: those before stay in force."""
        file = tmp_path / "keys"
        file.write_text(LINE)
        state = fake_state(tmp_path, release=FakeRelease(), api_keys_file=file)
        file.write_text(KEY)
        state.keys.look()
        assert state.ready()["ready"]
        assert "those before stay in force" in str(state.ready()["degraded"])
        assert KEY not in str(state.ready())


def test_no_secret_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither keys nor their hashes, passwords or texts, in the log, /info, /metrics, /openapi.json or an error."""
    caplog.set_level(logging.DEBUG)
    settings = {"api_key": "open sesame", "api_keys": LINE, "redis": "redis://user:hush@127.0.0.1:1/0"}
    logging.getLogger("service").info("settings", extra=Settings(**settings).shown())
    del settings["redis"]
    told = []
    with client_of(tmp_path, **settings) as client:
        for key in (KEY, "open sesame", "a wrong key"):
            paths = ("/info", "/metrics", "/openapi.json", "/health/ready", "/nowhere")
            told += [client.get(path, headers=bearer(key)).text for path in paths]
            question = {"query": "confidential shoe", "k": 1}
            told.append(client.post("/v1/match", json=question | {"k": []}, headers=bearer(key)).text)
            client.post("/v1/search", json=question, headers=bearer(key))
    told += [JsonFormatter().format(record) for record in caplog.records if record.name.startswith("service")]
    everything = "\n".join(told)
    assert '"key": "shop"' in everything
    for secret in (KEY, "open sesame", LINE.partition(":")[2], "hush", "a wrong key", "confidential"):
        assert secret not in everything


class TestRateLimit:
    def test_too_many_get_429_with_the_seconds_to_wait(self, tmp_path: Path) -> None:
        """In the shape of the path, counted by key; other keys and probes are not held back."""
        with client_of(tmp_path, api_keys=f"{LINE},{OTHER_LINE}", rate_limit=0.25, rate_burst=2) as client:
            for _ in range(2):
                assert client.post("/v1/search", json=QUESTION, headers=bearer(KEY)).status_code == 200
            for path in PATHS:
                refused = client.post(path, json=QUESTION, headers=bearer(KEY))
                assert refused.status_code == 429
                assert 1 <= int(refused.headers["Retry-After"]) <= 4
            assert client.post("/embed", headers=bearer(KEY)).json()["error_type"] == "Overloaded"
            assert client.get("/health/ready").status_code == 200
            metrics = client.get("/metrics", headers=bearer(OTHER)).text
            assert f'dualtower_rate_limited_total{{key="shop"}} {len(PATHS) + 1}.0' in metrics

    def test_without_keys_all_share_one_bucket(self, tmp_path: Path) -> None:
        """So that a service without keys can be limited, too; a wrong key takes no token of anybody."""
        with client_of(tmp_path, rate_limit=0.01, rate_burst=1) as client:
            assert client.post("/v1/search", json=QUESTION).status_code == 200
            assert client.post("/v1/search", json=QUESTION, headers=bearer("any")).status_code == 429

    def test_off_by_default(self, tmp_path: Path) -> None:
        with client_of(tmp_path) as client:
            answers = [client.get("/info").status_code for _ in range(50)]
        assert set(answers) == {200}


class TestRequestIds:
    def test_a_usable_id_is_kept_and_others_are_replaced(self, tmp_path: Path) -> None:
        """Bounded and without characters that could break a line; every answer has one, errors too."""
        with client_of(tmp_path) as client:
            kept = client.get("/info", headers={"X-Request-ID": "trace-7:a/b=c.d_e+f"})
            assert kept.headers["X-Request-ID"] == "trace-7:a/b=c.d_e+f"
            for bad in ("", "a b", 'a"b', "x" * 129, "新".encode(), "a\tb", "a,b"):
                made = client.get("/nowhere", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
                assert re.fullmatch("[0-9a-f]{32}", made)

    def test_every_log_line_of_a_request_has_its_id(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Also a line that a worker thread writes."""
        lines: list[dict[str, Any]] = []
        monkeypatch.setattr(
            caplog.handler, "emit", lambda record: lines.append(json.loads(JsonFormatter().format(record)))
        )
        caplog.set_level(logging.INFO)
        state = fake_state(tmp_path)

        def fail(texts: Any, **_: Any) -> None:
            logging.getLogger("service.inside").info("in a thread")
            raise RuntimeError(" and ".join(texts * 2))

        monkeypatch.setattr(state.bundle, "sentiment", fail)
        with TestClient(create_app(state)) as client:
            client.post("/v1/sentiment", json={"text": "good"}, headers={"X-Request-ID": "mine"})
        mine = [line["message"] for line in lines if line.get("request_id") == "mine"]
        assert mine == ["in a thread", "unforeseen error", "request"]
        assert "good and good" not in str(lines)

    def test_messages_of_errors_are_logged_where_the_setting_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An operator may need them; the default is without."""
        state = fake_state(tmp_path, log_texts=True)
        monkeypatch.setattr(state.bundle, "sentiment", lambda texts, **_: int(texts[0]))
        with TestClient(create_app(state)) as client:
            client.post("/v1/sentiment", json={"text": "good"})
        assert "'good'" in caplog.text


class TestHeaders:
    def test_every_answer_has_them(self, locked: TestClient) -> None:
        """Of data and of errors: guess no types, load nothing, be in no frame, keep nothing."""
        for path, headers in (
            ("/info", bearer(KEY)),
            ("/v1/search", {}),
            ("/nowhere", bearer(KEY)),
            ("/health", {}),
        ):
            answer = locked.get(path, headers=headers).headers
            assert answer["X-Content-Type-Options"] == "nosniff"
            assert answer["Referrer-Policy"] == "no-referrer"
            assert answer["Cache-Control"] == "no-store"
            assert "default-src 'none'" in answer["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]

    def test_an_unforeseen_error_has_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = fake_state(tmp_path)
        monkeypatch.setattr(state.bundle, "sentiment", lambda texts, **_: 1 / 0)
        with TestClient(create_app(state)) as client:
            answer = client.post("/v1/sentiment", json={"text": "good"})
        assert answer.status_code == 500
        assert {"x-request-id", "x-content-type-options", "content-security-policy"} <= set(answer.headers)

    def test_the_page_may_use_its_own_files_only(self, tmp_path: Path) -> None:
        """Nothing inline, nothing from outside."""
        with client_of(tmp_path) as client:
            policy = client.get("/").headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


class TestCors:
    def test_off_by_default(self, tmp_path: Path) -> None:
        with client_of(tmp_path) as client:
            answer = client.get("/info", headers={"Origin": "https://shop.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]

    def test_a_listed_origin_may_ask_and_others_may_not(self, tmp_path: Path) -> None:
        """Preflights need no key, and refusals can be read."""
        with client_of(
            tmp_path, cors_origins="https://shop.example, https://b.example/", api_keys=LINE
        ) as client:
            asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
            asked["Access-Control-Request-Headers"] = "authorization,content-type"
            preflight = client.options("/v1/search", headers=asked)
            assert preflight.status_code == 200
            assert preflight.headers["Access-Control-Allow-Origin"] == "https://shop.example"
            refused = client.post("/v1/search", headers={"Origin": "https://b.example"})
            assert refused.status_code == 401
            assert refused.headers["Access-Control-Allow-Origin"] == "https://b.example"
            asked["Origin"] = "https://evil.example"
            assert client.options("/v1/search", headers=asked).status_code == 400

    def test_an_origin_has_no_path(self) -> None:
        with pytest.raises(ValueError, match="is no origin"):
            Settings(cors_origins="https://shop.example/page")  # type: ignore[arg-type]
