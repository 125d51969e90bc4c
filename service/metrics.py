"""What is counted and timed, under the names that /metrics shows. One registry per service, none global."""

from __future__ import annotations

from collections import Counter as TextsByLayer
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from service.telemetry import trace_stages

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds. Dense between 0.5 and 20 ms, where answers are expected; the rest is for trouble.
BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, file descriptors, processor seconds
        r = self.registry
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
        self.in_flight = Gauge("dualtower_requests_in_flight", "Requests not answered yet", registry=r)
        self.queries = Counter(
            "dualtower_query_vectors",
            "Query vectors by source: process, redis, encoder",
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
        self.redis_up = Gauge("dualtower_redis_up", "1 when Redis answers, 0 when not or unset", registry=r)
        self.redis_failures = Counter("dualtower_redis_failures", "Calls to Redis that failed", registry=r)
        self.release = Gauge(
            "dualtower_release_info", "The release in use", ["version", "bundle_id"], registry=r
        )
        self.release_titles = Gauge("dualtower_release_titles", "Titles in the release in use", registry=r)
        self.release_changes = Counter("dualtower_release_changes", "Releases taken into use", registry=r)
        self.release_refused = Gauge(
            "dualtower_release_refused", "1 while the published release is refused", registry=r
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
        self.release.clear()
        self.release.labels(version, about["bundle_id"]).set(1)
        self.release_titles.set(about["count"])
        self.release_changes.inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
