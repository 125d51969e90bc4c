"""A finished release goes to Redis, is counted there, and leaves it when it is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from index.manifest import ReleaseManifest
from index.progress import Reporter
from index.redis_titles import RedisTitles, release_prefix
from index.release import Release, open_release
from index.releases import Releases
from towers.errors import RedisUnavailableError

_TIMEOUT_S: Final = 30.0  # an offline job can wait for a Redis that is busy saving
_ROWS: Final = 2_000


def check_redis(url: str) -> None:
    """Check that Redis answers.

    Raises:
        RedisUnavailableError: it does not.
    """
    redis = RedisTitles(url, prefix=release_prefix("none"), dim=0)
    try:
        redis.ping()
    except RedisUnavailableError as exc:
        raise RedisUnavailableError(
            f"{exc} Start it, correct --redis, or leave it out; nothing was built."
        ) from exc
    finally:
        redis.close()


def write_redis(releases: Releases, manifest: ReleaseManifest, *, redis_url: str, report: Reporter) -> None:
    """Write all titles under the release's prefix, count them, then seal the release there.

    Raises:
        RedisUnavailableError: Redis failed, or does not keep what it is given.
    """
    release = open_release(releases.root, manifest.version, verify=False)
    redis = RedisTitles(
        redis_url, prefix=release_prefix(manifest.version), dim=manifest.dim, timeout_s=_TIMEOUT_S
    )
    try:
        _write(release, redis, report=report)
    except RedisUnavailableError as exc:
        raise RedisUnavailableError(
            f"{exc}. Release {manifest.version} is complete in {release.path} but was not published; run "
            "the same command again when Redis is back (nothing is encoded again), or leave --redis out"
        ) from exc
    finally:
        redis.close()
        release.close()


def _write(release: Release, redis: RedisTitles, *, report: Reporter) -> None:
    count = release.count
    if redis.sealed() == count and _count(release, redis) == count:
        report.say(f"Redis at {redis.address} has release {release.version} already")
        return
    with report.counting("writing to Redis", count) as advance:
        for rows in _row_chunks(count):
            titles = release.titles(rows)
            ids, texts = [title.id for title in titles], [title.title for title in titles]
            redis.write(ids, texts, [title.fields for title in titles], release.vectors(rows), advance)
    found = _count(release, redis)
    if found != count:
        raise RedisUnavailableError(
            f"Redis at {redis.address} holds {found:,} of {count:,} titles after all were written: its "
            "memory limit or eviction policy loses keys"
        )
    redis.seal(count)
    report.say(
        f"wrote {count:,} titles to Redis at {redis.address} under {release_prefix(release.version)}:…"
    )


def _count(release: Release, redis: RedisTitles) -> int:
    return sum(
        redis.count([title.id for title in release.titles(rows)]) for rows in _row_chunks(release.count)
    )


def _row_chunks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, _ROWS):
        yield np.arange(start, min(start + _ROWS, count))


def delete_from_redis(versions: list[str], *, redis_url: str, report: Reporter) -> None:
    """Remove the hashes of some releases.

    Raises:
        RedisUnavailableError: Redis failed; the rest of its hashes can be removed by hand under the prefix
            named.
    """
    for version in versions:
        redis = RedisTitles(redis_url, prefix=release_prefix(version), dim=0, timeout_s=_TIMEOUT_S)
        try:
            report.say(
                f"deleted {redis.delete_release():,} titles of release {version} from Redis at "
                f"{redis.address}"
            )
        finally:
            redis.close()
