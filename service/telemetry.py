"""OpenTelemetry: FastAPI makes a span and measurements of each request, this adds the Matcher's stages.

FastAPI sends them where the standard variables say, in OTLP over HTTP: nothing happens unless
OTEL_EXPORTER_OTLP_ENDPOINT (or that of one signal) is set, and the extra `otel` brings what sends. Until then the
interface of OpenTelemetry, which FastAPI brings along, does nothing.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from service.open_paths import is_open

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

ENDPOINTS = tuple(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "METRICS_"))
SENDER = "opentelemetry.exporter.otlp.proto.http"
TRACER = "dualtower"
RESOURCE = "OTEL_RESOURCE_ATTRIBUTES"
INSTANCE = "service.instance.id"


def config() -> TelemetryConfig:
    """What FastAPI should trace and measure."""
    return {
        "auto_configure": True,
        "logs": False,  # they would carry the messages of errors, which may quote texts
        "operation_spans": False,  # every route does the same few things; the stages say more
        "exclude": _uninteresting,
    }


def cannot_send(environ: Mapping[str, str] = os.environ) -> str | None:
    """Why nothing is sent although the environment asks for it; None when all is well."""
    asked = [name for name in ENDPOINTS if environ.get(name)]
    if not asked or environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or _installed():
        return None
    return f"{asked[0]} is set, but OpenTelemetry's exporter is not installed; pip install 'dualtower[otel]'"


def trace_stages(milliseconds: Mapping[str, float]) -> None:
    """Add a span for each stage of an answer that has just been made; the stages ran one after the other."""
    if not trace.get_current_span().is_recording():
        return
    tracer = trace.get_tracer(TRACER)
    start = time.time_ns() - _nanoseconds(sum(milliseconds.values()))
    for stage, spent in milliseconds.items():
        end = start + _nanoseconds(spent)
        tracer.start_span(stage, start_time=start).end(end)
        start = end


def trace_id() -> str | None:
    """The id of the current request's trace; None where nothing is traced."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def _nanoseconds(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)


def _installed() -> bool:
    try:
        return importlib.util.find_spec(SENDER) is not None
    except ModuleNotFoundError:  # one of the packages above it
        return False


def _uninteresting(scope: MutableMapping[str, Any]) -> bool:
    """Probes, scrapes and the page's files would be most of all traces."""
    return scope["path"] == "/metrics" or is_open(scope["path"], scope.get("method", ""))


def tell_apart(place: int) -> None:
    """Give one of several processes a name of its own: measurements of two under one name contradict each other."""
    given = os.environ.get(RESOURCE, "")
    named = re.search(rf"(?:^|,)\s*{INSTANCE}=([^,]*)", given)
    name = f"{named[1]}-{place}" if named else f"{socket.gethostname()}-{os.getpid()}"
    os.environ[RESOURCE] = ",".join(filter(None, [given, f"{INSTANCE}={name}"]))  # the last one holds
