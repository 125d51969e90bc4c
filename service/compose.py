"""Puts the real parts together: bundle, releases, Redis, caches."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from index.release import Release, open_release
from service.follow import Follower
from service.keys import Keys
from service.known_texts import KnownTexts
from service.matcher import Matcher
from service.metrics import Metrics
from service.query_table import QueryTable
from service.query_vectors import QueryVectors
from service.redis_guard import RedisGuard
from service.serving import InUse, Serving
from service.settings import Settings
from service.state import State, nothing_published
from service.title_vectors import NoRelease, ReleaseTitles, RemoteTitles
from service.work import Work
from towers import Bundle, open_bundle

log = logging.getLogger(__name__)


def compose(
    settings: Settings, bundle: Bundle, *, metrics: Metrics | None = None, common: Path | None = None
) -> State:
    """The state of a service; nothing is opened yet but the bundle.

    Args:
        settings: What is wanted.
        bundle: It is open.
        metrics: None for those of one process.
        common: Directory of what several processes share; None for one process.
    """
    metrics = metrics or Metrics()
    table = None if common is None else _table(settings, bundle, common)
    guard, shared = None, None
    if settings.redis:
        from index.redis_titles import RedisQueries  # the client is imported only where there is a Redis

        shared = RedisQueries(
            settings.redis,
            bundle_id=bundle.bundle_id,
            dim=bundle.dim,
            ttl_s=settings.query_ttl_s,
            timeout_s=settings.redis_timeout_s,
        )
        # A probe is a real read: a server that is up but still loading its data fails it, as it should.
        guard = RedisGuard(partial(shared.get, ""), metrics, probe_s=settings.redis_probe_s)
    queries = QueryVectors(
        bundle, metrics, size=settings.query_cache, shared=shared, guard=guard, table=table
    )
    opener = Opener(settings, bundle, queries, metrics, guard)
    in_use = InUse(opener.without_release())
    follower = Follower(settings.releases, in_use, opener.open, metrics, retry_s=settings.release_retry_s)
    work = Work(workers=settings.workers, queue=settings.queue)
    return State(settings, bundle, metrics, queries, in_use, follower, work, Keys(settings), guard, common)


def open_state(settings: Settings, *, metrics: Metrics | None = None, common: Path | None = None) -> State:
    """The state of a service over the bundle that the settings name, ready to be served."""
    bundle = open_bundle(settings.bundle, threads=settings.threads)
    bundle.score(
        bundle.encode_queries(["warm up"])[0], bundle.encode_titles(["warm up"])
    )  # first calls are slow
    return compose(settings, bundle, metrics=metrics, common=common)


class Opener:
    """Opens releases for serving."""

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        queries: QueryVectors,
        metrics: Metrics,
        guard: RedisGuard | None,
    ) -> None:
        self._settings, self._bundle, self._queries = settings, bundle, queries
        self._metrics, self._guard = metrics, guard

    def without_release(self) -> Serving:
        """What is in use before the first release: it matches texts and refuses the rest."""
        nothing = NoRelease(nothing_published(self._settings))
        return Serving(None, Matcher(self._queries, nothing, nothing, self._bundle), nothing)

    def open(self, version: str) -> Serving:
        """Open a release beside the one in use, and touch what its first request would otherwise wait for.

        Raises:
            ReleaseError: It is incomplete or corrupt, or was made with another bundle.
        """
        with ExitStack() as opened:
            release = open_release(self._settings.releases, version, bundle=self._bundle)
            opened.callback(release.close)
            remote = self._remote(release)
            if remote is not None:
                opened.callback(remote.close)
                remote.look()
            titles = ReleaseTitles(release, self._metrics, remote=remote)
            matcher = Matcher(self._queries, release, titles, self._bundle)
            matcher.search(release.vectors(np.array([0]))[0], k=1, candidates=1)
            return Serving(
                version,
                matcher,
                release,
                texts=KnownTexts(release),
                remote=remote,
                about=_about(version, release),
                close=opened.pop_all().close,
            )

    def _remote(self, release: Release) -> RemoteTitles | None:
        url, prefix = self._settings.redis, release.manifest.redis_prefix
        if url is None or prefix is None or self._guard is None:
            return None
        from index.redis_titles import RedisTitles

        timeout_s = self._settings.redis_timeout_s
        shared = RedisTitles(url, prefix=prefix, dim=release.manifest.dim, timeout_s=timeout_s)
        return RemoteTitles(shared, self._guard)


def _table(settings: Settings, bundle: Bundle, common: Path) -> QueryTable | None:
    if settings.query_cache == 0:
        return None
    try:
        # Named by the bundle: a process that is started anew finds another one there if its files were exchanged.
        path = common / f"queries-{bundle.bundle_id}"
        return QueryTable(path, size=settings.query_cache, dim=bundle.dim)
    except OSError as exc:
        log.warning("processes share no query vectors", extra={"reason": str(exc)})
        return None


def _about(version: str, release: Release) -> dict[str, Any]:
    manifest = release.manifest
    return {
        "version": version,
        "bundle_id": manifest.bundle_id,
        "count": manifest.count,
        "index_kind": manifest.index_kind,
        "recall": manifest.recall,
        "fields": manifest.fields,
    }
