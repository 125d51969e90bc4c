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
