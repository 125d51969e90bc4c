"""What is counted and timed, under the names that /metrics shows. One registry per service, none global."""

from __future__ import annotations

from collections import Counter as TextsByLayer
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from service.shared_metrics import shared_registry
from service.telemetry import trace_stages

RELEASE = "dualtower_release_info"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds. Dense between 0.5 and 20 ms, where answers are expected; the rest is for trouble.
BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics of one service.

    Args:
        shared: Where several processes keep theirs, see shared_metrics.py, and the number of their parent; None for
            one process. A gauge's `multiprocess_mode` says what the values of several become.
    """

    def __init__(self, shared: tuple[Path, int] | None = None) -> None:
        self.registry = r = CollectorRegistry()
        self._shown = r
        self._used: tuple[str, str] | None = None
        if shared is None:
            ProcessCollector(registry=r)  # memory, file descriptors, processor seconds
        else:
            self._shown = shared_registry(*shared, unless_zero=RELEASE)
        self.requests = Counter(
            "dualtower_requests", "Requests by route and status", ["route", "status"], registry=r
        )
        self.key_requests = Counter(
            "dualtower_key_requests",
            "Requests by the name of their API key and status; without a name: no key or an unknown one",
            ["key", "status"],
            registry=r,
        )
        self.rate_limited = Counter(
            "dualtower_rate_limited", "Requests refused for their key's rate limit", ["key"], registry=r
        )
        self.seconds = Histogram(
            "dualtower_request_seconds", "Time to answer", ["route"], buckets=BUCKETS, registry=r
        )
        self.stages = Histogram(
            "dualtower_stage_seconds",
            "Time in encode, search, fetch, score",
            ["stage"],
            buckets=BUCKETS,
            registry=r,
        )
        self.cancelled = Counter(
            "dualtower_requests_cancelled",
            "Requests whose client went away before their answer; they were not computed to the end",
            ["route"],
            registry=r,
        )
        self.in_flight = Gauge(
            "dualtower_requests_in_flight",
            "Requests not answered yet",
            registry=r,
            multiprocess_mode="livesum",
        )
        self.queries = Counter(
            "dualtower_query_vectors",
            "Query vectors by source: process, machine (another process of it), redis, encoder",
            ["source"],
            registry=r,
        )
        self.titles = Counter(
            "dualtower_title_vectors", "Title vectors by source: redis, memory_map", ["source"], registry=r
        )
        self.exits = Counter(
            "dualtower_sentiment_exits",
            "Texts by the layer after which the sentiment head was sure",
            ["layer"],
            registry=r,
        )
        self.redis_up = Gauge(
            "dualtower_redis_up",
            "1 when Redis answers every process, 0 when not or unset",
            registry=r,
            multiprocess_mode="livemin",
        )
        self.redis_failures = Counter("dualtower_redis_failures", "Calls to Redis that failed", registry=r)
        self.release = Gauge(
            RELEASE,
            "The release in use; two while processes change",
            ["version", "bundle_id"],
            registry=r,
            multiprocess_mode="livemax",
        )
        self.release_titles = Gauge(
            "dualtower_release_titles",
            "Titles in the release in use",
            registry=r,
            multiprocess_mode="livemax",
        )
        self.release_changes = Counter(
            "dualtower_release_changes", "Releases taken into use, by each process", registry=r
        )
        self.release_refused = Gauge(
            "dualtower_release_refused",
            "1 while a process refuses the published release",
            registry=r,
            multiprocess_mode="livemax",
        )
        self.restarts = Counter(
            "dualtower_process_restarts", "Processes started in place of one that had ended", registry=r
        )

    def observe_stages(self, milliseconds: Mapping[str, float]) -> None:
        """Count one answer's stages, and show them in its trace."""
        trace_stages(milliseconds)
        for stage, spent in milliseconds.items():
            self.stages.labels(stage).observe(spent / 1000)

    def observe_exits(self, layers: Sequence[int]) -> None:
        """Count after which layers the texts of one answer left."""
        for layer, texts in TextsByLayer(layers).items():
            self.exits.labels(layer).inc(texts)

    def use_release(self, version: str, about: Mapping[str, Any]) -> None:
        """Name the release in use; the one before disappears from /metrics."""
        if self._used is not None:
            self.release.labels(*self._used).set(0)  # what several processes share cannot be cleared
        if self._shown is self.registry:
            self.release.clear()
        self._used = (version, about["bundle_id"])
        self.release.labels(*self._used).set(1)
        self.release_titles.set(about["count"])
        self.release_changes.inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._shown)
