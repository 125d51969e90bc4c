"""The examples of nginx and Caddy, as real proxies before a real service."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.proof.proxy import Proxy
from benchmarks.proof.services import free_port
from service.server import KEEP_ALIVE_S
from service.settings import Settings
from tests.service.served import Served, eventually
from tests.tools import need

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CADDYFILE = DEPLOY / "proxy" / "Caddyfile"
HIDDEN = ("/metrics", "/docs", "/openapi.json")  # by the proxies
QUESTION = json.dumps({"query": "confidential shoe", "k": 1}).encode()


class TestNginx:
    """The example as it is, but for names, ports and a certificate of a day; a second copy of the service is away."""

    @pytest.fixture
    def proxied(self, root: Path, tmp_path: Path) -> Iterator[tuple[Served, Proxy]]:
        need("nginx", "nginx-light")
        certificate(tmp_path)
        with Served(root) as server, Proxy(tmp_path, [free_port(), server.port], tls=True) as proxy:
            eventually(lambda: listens(proxy.port), "nginx listens")
            yield server, proxy

    def test_it_ends_tls_and_hands_requests_on(self, proxied: tuple[Served, Proxy], tmp_path: Path) -> None:
        """Also one that it has tried to hand to the copy that is away; the request's id is the same in both logs."""
        server, proxy = proxied
        for _ in range(4):
            answer = https(proxy.port, tmp_path / "fullchain.pem", "POST", "/v1/search", QUESTION)
            assert answer.status == 200
            assert json.loads(answer.content)["matches"]
            assert answer.headers["Strict-Transport-Security"]
            asked = answer.headers["X-Request-ID"]
            assert asked in {line["request_id"] for line in server.logged("request")}

    @pytest.mark.parametrize("path", HIDDEN)
    def test_it_hides_what_is_for_operators(
        self, proxied: tuple[Served, Proxy], tmp_path: Path, path: str
    ) -> None:
        """From all but the machine itself; 127.0.0.2 stands for the world."""
        _, proxy = proxied
        trusted = tmp_path / "fullchain.pem"
        assert https(proxy.port, trusted, "GET", path).status == 200
        assert https(proxy.port, trusted, "GET", path, source="127.0.0.2").status == 403

    def test_it_bounds_the_body(self, proxied: tuple[Served, Proxy], tmp_path: Path) -> None:
        """At the service's own limit."""
        body = b" " * (Settings.model_fields["max_body"].default + 1)
        answer = https(proxied[1].port, tmp_path / "fullchain.pem", "POST", "/v1/search", body)
        assert answer.status == 413


class TestCaddy:
    """The example as it is, but for names and ports; a second copy of the service is away."""

    def test_it_takes_the_file(self, tmp_path: Path) -> None:
        """As it is shipped."""
        command = [need("caddy", "caddy"), "validate", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        environ = os.environ | {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
        assert done.returncode == 0, done.stderr

    def test_it_ends_tls_and_hands_requests_on(self, root: Path, tmp_path: Path) -> None:
        """With its own authority; also those that it has tried to hand to the copy that is away."""
        with Served(root) as server, started_caddy(tmp_path, [free_port(), server.port]) as port:
            trusted = tmp_path / "caddy/pki/authorities/local/root.crt"
            eventually(lambda: trusted.is_file() and answers(port, trusted), "caddy answers")
            for _ in range(8):
                answer = https(port, trusted, "POST", "/v1/search", QUESTION)
                assert answer.status == 200
                assert json.loads(answer.content)["matches"]
                assert answer.headers["Strict-Transport-Security"]
            for path in HIDDEN:
                assert https(port, trusted, "GET", path).status == 404
            body = b" " * (Settings.model_fields["max_body"].default + 1)
            # Older ones, Debian's 2.6 among them, say 502 where they notice it only while they pass it on.
            assert https(port, trusted, "POST", "/v1/search", body).status in (413, 502)

    def test_it_ends_idle_connections_before_the_service_does(self) -> None:
        """Else a question might meet a connection that is just being closed."""
        (seconds,) = re.findall(r"^\s*keepalive (\d+)s", CADDYFILE.read_text("utf-8"), re.MULTILINE)
        assert int(seconds) < KEEP_ALIVE_S


@contextlib.contextmanager
def started_caddy(folder: Path, services: list[int]) -> Iterator[int]:
    """Caddy on a port of the loopback interface that is told; what it writes is in the folder."""
    program = need("caddy", "caddy")
    port, text = free_port(), CADDYFILE.read_text(encoding="utf-8")
    for old, new in (
        ("dualtower.example {", f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1"),
        ("127.0.0.1:8000 {", f"127.0.0.1:{services[0]} {{"),
        ("# to 127.0.0.1:8001", f"to 127.0.0.1:{services[1]}"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    # No second listener, no change of the system's certificates.
    text = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n" + text
    (folder / "Caddyfile").write_text(text)
    environ = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def certificate(folder: Path) -> None:
    """A key and a certificate for 127.0.0.1."""
    options = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout privkey.pem"
    options += " -out fullchain.pem -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [need("openssl", "openssl"), *options.split()], cwd=folder, check=True, capture_output=True
    )


class Answer(NamedTuple):
    status: int
    headers: Message
    content: bytes


def https(
    port: int, trusted: Path, method: str, path: str, body: bytes | None = None, *, source: str = "127.0.0.1"
) -> Answer:
    """The answer to one request from a loopback address."""
    context = ssl.create_default_context(cafile=str(trusted))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=30, source_address=(source, 0), context=context
    )
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def answers(port: int, trusted: Path) -> bool:
    try:
        return https(port, trusted, "GET", "/health/ready").status == 200
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
