"""Traces and measurements reach a collector: a real `serve` sends OTLP over HTTP to a small server on loopback."""

from __future__ import annotations

import gzip
import itertools
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from index.releases import Releases
from service import telemetry
from service.telemetry import cannot_send, tell_apart
from tests.service.served import Served, make_release
from towers import Bundle

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


class Collector:
    """Takes what is sent to it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.measurements: set[str] = set()
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.measurements |= {one.name for scope in resource.scope_metrics for one in scope.metrics}


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    thread = threading.Thread(target=one.server.serve_forever)
    thread.start()
    yield one
    one.server.shutdown()
    thread.join()
    one.server.server_close()


@pytest.fixture
def root(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    root = tmp_path / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    return root


def test_a_collector_sees_the_request_and_its_stages(
    root: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages are inside the request's span, that inside the caller's; no text, no probe and no scrape is sent."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "dualtower")
    with Served(root) as server:
        with server.connect() as client:
            client.ask("GET", "/health/ready")
            client.ask("GET", "/metrics")
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            assert client.ask("POST", "/v1/search", {"query": "confidential shoe"}, headers=headers)[0] == 200
        server.stop()
        assert server.process.wait(timeout=30) == 0
        (line,) = [line for line in server.logged("request") if line["route"] == "/v1/search"]
    (request,) = [span for span in collector.spans if span.name == "POST /v1/search"]
    stages = [span for span in collector.spans if span.parent_span_id == request.span_id]
    assert [span.name for span in stages] == ["encode", "search", "score", "fetch"]
    assert {span.name for span in collector.spans} == {
        "POST /v1/search",
        "encode",
        "search",
        "score",
        "fetch",
    }
    assert request.parent_span_id.hex() == CALLER
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE} == {line["trace_id"]}
    for before, after in itertools.pairwise(stages):
        assert before.start_time_unix_nano <= before.end_time_unix_nano == after.start_time_unix_nano
    assert request.start_time_unix_nano <= stages[0].start_time_unix_nano
    assert stages[-1].end_time_unix_nano <= request.end_time_unix_nano
    assert "http.server.request.duration" in collector.measurements
    assert not [body for body in collector.bodies if b"confidential" in body]


def test_a_collector_that_is_away_costs_no_request(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on port 9; requests are answered all the same."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with Served(root) as server:
        assert [server.post("/v1/search", query="red shoe")[0] for _ in range(3)] == [200] * 3


def test_nothing_is_sent_unless_asked_for(root: Path) -> None:
    """Without the standard variables no line names a trace."""
    with Served(root) as server:
        server.post("/v1/search", query="red shoe")
        assert not [line for line in server.logged("request") if "trace_id" in line]


def test_a_missing_exporter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the environment asks for it; the message says what to install."""
    monkeypatch.setattr(telemetry, "SENDER", "opentelemetry.no_such_package.http")
    asked = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}
    assert "dualtower[otel]" in (cannot_send(asked) or "")
    assert cannot_send({}) is None
    assert cannot_send(asked | {"OTEL_SDK_DISABLED": "true"}) is None
    monkeypatch.undo()
    assert cannot_send(asked) is None


@pytest.mark.parametrize(
    ("given", "name"), [("", r".+-\d+"), ("service.instance.id=pod-1,a=b", "pod-1-2"), ("a=b", r".+-\d+")]
)
def test_each_process_has_a_name(monkeypatch: pytest.MonkeyPatch, given: str, name: str) -> None:
    """What the operator gave is kept, and made the process's own."""
    from opentelemetry.sdk.resources import Resource

    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", given)
    tell_apart(2)
    attributes = Resource.create().attributes
    assert re.fullmatch(name, str(attributes["service.instance.id"]))
    assert ("a" in attributes) == ("a=b" in given)
