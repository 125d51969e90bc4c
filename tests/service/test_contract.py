"""Every route answers what its document says, whatever the document lets a client send.

schemathesis reads the routes from a running service's own /openapi.json, so that a new route is tested as soon as it
is there. DUALTOWER_EXAMPLES sets the random requests to each route; `make proof` asks for many more than the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.releases import Releases
from tests.service.served import Served, make_release
from towers import Bundle

EXAMPLES = os.environ.get("DUALTOWER_EXAMPLES", "5")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
KEY = "a-key-of-the-tests"
BEARER = {"Authorization": f"Bearer {KEY}"}
# One path of each shape of errors, one that takes no body, and the open ones.
ONE_OF_EACH = (
    "/v1/match",
    "/embed",
    "/v1/models",
    "/v1/rerank",
    "/v2/rerank",
    "/info",
    "/metrics",
    "/health",
    "/health/ready",
)
OPTIONS = [
    "--phases=examples,coverage,fuzzing",
    "--checks=all",
    # Not all that the document allows is accepted: bounds are settings, and ids have to be known.
    "--exclude-checks=positive_data_acceptance",
    "--continue-on-failure",
    "--generation-database=none",
    "--request-timeout=60",
    "--warnings=off",
    "--no-color",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("contract") / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    with Served(root) as server:
        yield server


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Served]:
    """The same, but with a key."""
    root = tmp_path_factory.mktemp("locked") / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    with Served(root, api_key=KEY) as server:
        yield server


def schemathesis(document: str, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it over all routes of a document; the folder is where it looks for settings of its own."""
    command = [str(SCHEMATHESIS), "run", document, *OPTIONS, *options]
    environ = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ)


def test_every_route_answers_what_its_document_says(server: Served, tmp_path: Path) -> None:
    """No failure of ours, no status, type, header or body that the document lacks, and nothing wrong is taken."""
    document = f"http://127.0.0.1:{server.port}/openapi.json"
    # The same requests every time: a test that fails now and then is not read. More of them vary.
    seed = [] if "DUALTOWER_EXAMPLES" in os.environ else ["--seed=1"]
    done = schemathesis(document, f"--max-examples={EXAMPLES}", *seed, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.ready()["ready"], server.log
    assert not server.logged("unforeseen error")


def test_with_keys_it_is_so_for_who_has_one_and_for_who_has_none(locked: Served, tmp_path: Path) -> None:
    """Every route that the document locks is locked, in the shape that it tells; the others are open."""
    with locked.connect() as client:
        content = client.ask("GET", "/openapi.json", headers=BEARER)[1]
    (tmp_path / "locked.json").write_text(json.dumps(content))
    options = [f"--url=http://127.0.0.1:{locked.port}", "--max-examples=1", "--seed=1", "--phases=fuzzing"]
    with_key = [f"--header={name}: {value}" for name, value in BEARER.items()]
    without = [f"--include-path={path}" for path in ONE_OF_EACH]
    for more in (with_key, without):
        done = schemathesis("locked.json", *options, *more, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_says_how_a_key_is_sent(server: Served, locked: Served) -> None:
    """Where none is wanted it may be left out, and health never needs one."""
    document = server.get("/openapi.json")[1]
    with locked.connect() as client:
        asked = client.ask("GET", "/openapi.json", headers=BEARER)[1]
    schemes = {"bearer": ("http", None), "header": ("apiKey", "X-API-Key")}
    for one in (document, asked):
        found = one["components"]["securitySchemes"]
        assert {name: (it["type"], it.get("name")) for name, it in found.items()} == schemes
        open_ = [path for path, way in one["paths"].items() if way.get("get", {}).get("security") == []]
        assert sorted(open_) == ["/health", "/health/live", "/health/ready"]
        for path in ("/info", "/metrics"):
            refused = one["paths"][path]["get"]["responses"]
            assert {"401", "429"} <= set(refused)
    assert {} in document["security"]
    assert asked["security"] == [{"bearer": []}, {"header": []}]


def test_a_document_that_is_wrong_is_found(server: Served, tmp_path: Path) -> None:
    """The same run fails when the document promises something else than the service answers."""
    status, document = server.get("/openapi.json")
    assert status == 200
    document["paths"] = {"/info": document["paths"]["/info"]}
    document["components"]["schemas"]["InfoAnswer"]["properties"]["version"]["type"] = "integer"
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    url = f"--url=http://127.0.0.1:{server.port}"
    done = schemathesis("wrong.json", url, "--max-examples=1", folder=tmp_path)
    assert done.returncode == 1
    assert "Response violates schema" in done.stdout
