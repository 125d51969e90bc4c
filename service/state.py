"""Everything that lives as long as the service, and what is known about its health."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from service.follow import Follower
from service.keys import Keys
from service.metrics import Metrics
from service.query_vectors import QueryVectors
from service.redis_guard import RedisGuard
from service.serving import InUse
from service.settings import Settings
from service.work import Work
from towers import Bundle

LIMITS = ("max_body", "max_titles", "max_texts", "max_text_length", "max_k", "max_candidates")


@dataclass(frozen=True)
class Reason:
    """What is wrong, and the same without paths and addresses, for who has no key."""

    full: str
    short: str


@dataclass
class State:
    """The parts that routes use. compose.py puts the real ones together; tests bring small fakes.

    `common` is the directory of what several processes share, None for a process alone.
    """

    settings: Settings
    bundle: Bundle
    metrics: Metrics
    queries: QueryVectors
    in_use: InUse
    follower: Follower
    work: Work
    keys: Keys
    guard: RedisGuard | None = None
    common: Path | None = None
    draining: bool = field(default=False, init=False)

    def not_ready(self, *, full: bool = True) -> list[str]:
        """What keeps requests from being answered; empty when the service is ready."""
        return _told(self._not_ready(), full=full)

    def ready(self, *, full: bool = True) -> dict[str, Any]:
        """The body of /health/ready; reasons name paths and addresses where it is to be full."""
        reasons = self.not_ready(full=full)
        return {
            "ready": not reasons,
            "not_ready": reasons,
            "degraded": _told(self._degraded(), full=full),
            "release": self.in_use.version,
        }

    def _not_ready(self) -> Iterator[Reason]:
        if self.draining:
            said = "stopping: requests in work are finished, new ones should go elsewhere"
            yield Reason(said, said)
        if self.in_use.version is None and self.follower.problem is not None:
            yield Reason(f"release: {self.follower.problem}", "release: the published one cannot be used")
        elif self.in_use.version is None:
            yield Reason(f"release: {nothing_published(self.settings)}", "release: no release is published")

    def _degraded(self) -> Iterator[Reason]:
        """What is broken while requests are answered all the same."""
        version = self.in_use.version
        if self.guard is not None and not self.guard.up:
            then = "going on with the memory map"
            yield Reason(f"redis: {self.guard.problem}; {then}", f"redis: it does not answer; {then}")
        elif self.guard is not None and self.in_use.title_vectors == "memory map":
            said = f"redis: release {version} is not there completely; going on with the memory map"
            yield Reason(f"{said}; write it with `dualtower index … --redis URL`", said)
        if version is not None and self.follower.problem is not None:
            then = f"release {version} stays in use"
            yield Reason(
                f"release: {self.follower.problem}; {then}",
                f"release: the published one cannot be used; {then}",
            )
        if self.keys.problem is not None:
            then = "those before stay in force"
            yield Reason(f"keys: {self.keys.problem}; {then}", f"keys: the file cannot be used; {then}")

    def info(self) -> dict[str, Any]:
        """The body of /info."""
        bundle = self.bundle
        with self.in_use.use() as serving:
            return {
                "version": version(),
                "bundle": {
                    "bundle_id": bundle.bundle_id,
                    "dim": bundle.dim,
                    "short_dims": list(bundle.short_dims),
                    "max_tokens": bundle.max_tokens,
                    "threshold": bundle.threshold,
                    "sentiment": bundle.has_sentiment,
                    "exit_layers": list(bundle.exit_layers),
                    "base_model": bundle.manifest.base_model.get("name"),
                    "metrics": bundle.manifest.metrics,
                },
                "release": serving.about or None,
                "title_vectors": serving.title_vectors,
                "limits": {name: getattr(self.settings, name) for name in LIMITS},
            }

    def watches(self) -> list[tuple[Callable[[], None], float]]:
        """What has to be looked at again and again, and the seconds between two looks."""
        looks = [] if self.guard is None else [(self.look_at_redis, self.settings.redis_probe_s)]
        looks.append((self.follower.look, self.settings.release_poll_s))
        if self.keys.watched:
            looks.append((self.keys.look, self.settings.release_poll_s))
        return looks

    def look_at_redis(self) -> None:
        """See whether Redis answers, and whether it has the release."""
        if self.guard is not None:
            self.guard.probe()
        with self.in_use.use() as serving:
            if serving.remote is not None:
                serving.remote.look()

    def close(self) -> None:
        """Finish what is running and let go of the release."""
        self.work.close()
        self.in_use.close()


def _told(reasons: Iterable[Reason], *, full: bool) -> list[str]:
    return [reason.full if full else reason.short for reason in reasons]


def nothing_published(settings: Settings) -> str:
    """What to say while there is no release."""
    return (
        f"no release is published in {settings.releases}; make one with "
        f"`dualtower index TITLES --releases {settings.releases} --publish`"
    )


def version() -> str:
    """The installed version of dualtower."""
    try:
        return installed_version("dualtower")
    except PackageNotFoundError:  # run from a source tree
        return "0+source"
