"""Title vectors and query vectors in Redis. The only file that imports redis: its errors end here.

A title is a hash at `<prefix>:<id>`, where the prefix is `dualtower:<version>`, with the fields id, title,
vector (raw little-endian float32) and the kept fields as text. That is redisvl's layout, so that a redisvl
index can be laid over the same keys; nothing here needs more than a plain Redis.
`dualtower:release:<version>` exists once all titles of the release are there, and says how many.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from towers.errors import InputError, RedisUnavailableError

NAMESPACE: Final = "dualtower"
VECTOR_TYPE: Final = np.dtype("<f4")
CHUNK: Final = 500  # titles a pipeline carries: 0.8 MB at 384 dimensions
DEFAULT_TIMEOUT_S: Final = 1.0  # guess: who waits longer than this is better off with the memory map
_RESERVED: Final = frozenset({"id", "title", "vector"})

_log = logging.getLogger(__name__)


def release_prefix(version: str) -> str:
    """The prefix of a release's hashes."""
    return f"{NAMESPACE}:{version}"


class _Connection:
    """A Redis client whose errors are ours, and whose address can be shown."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.address = _address(url)
        try:
            self.client = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                # One immediate second try finds a Redis that was restarted; more would only delay the answer.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError as exc:
            raise InputError(
                f"cannot use {self.address!r} as Redis URL ({exc}); expected redis://host:6379/0"
            ) from exc

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as exc:
            raise RedisUnavailableError(f"Redis at {self.address}: {exc}") from exc


def _address(url: str) -> str:
    """The URL as it may be shown: without user and password."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or parts.path
        return f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return "an address that cannot be read"


class RedisTitles:
    """The titles of one release in Redis; safe to use from many threads.

    Args:
        url: redis://, rediss:// or unix://.
        prefix: of the release's hashes, as its manifest says.
        dim: the length of a vector.
        timeout_s: how long to wait for Redis, for each answer.
    """

    def __init__(self, url: str, *, prefix: str, dim: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._redis = _Connection(url, timeout_s=timeout_s)
        self._prefix = prefix
        self._seal = f"{NAMESPACE}:release:{prefix.removeprefix(NAMESPACE + ':')}"
        self._dim = dim

    @property
    def address(self) -> str:
        """Where this Redis is, without user and password."""
        return self._redis.address

    def ping(self) -> None:
        """Check that Redis answers.

        Raises:
            RedisUnavailableError: it does not.
        """
        with self._redis.errors():
            self._redis.client.ping()

    def write(
        self,
        ids: Sequence[str],
        titles: Sequence[str],
        fields: Sequence[Mapping[str, Any]],
        vectors: np.ndarray,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write titles; writing one again changes nothing.

        Args:
            ids: n ids.
            titles: their texts.
            fields: their kept fields. One that is named id, title or vector stays out: those names are taken.
            vectors: float32 (n, dim).
            progress: told of the number of titles newly written.

        Raises:
            RedisUnavailableError: Redis did not answer or refused, for example for lack of memory.
        """
        data = vectors.astype(VECTOR_TYPE, copy=False)
        for start in range(0, len(ids), CHUNK):
            part = range(start, min(start + CHUNK, len(ids)))
            with self._redis.errors(), self._redis.client.pipeline(transaction=False) as pipeline:
                for i in part:
                    mapping: dict[Any, Any] = {"id": ids[i], "title": titles[i], "vector": data[i].tobytes()}
                    pipeline.hset(self._key(ids[i]), mapping=mapping | _as_text(fields[i]))
                pipeline.execute()
            if progress is not None:
                progress(len(part))

    def count(self, ids: Sequence[str]) -> int:
        """How many of some ids are there."""
        found = 0
        for start in range(0, len(ids), CHUNK):
            with self._redis.errors():
                found += int(self._redis.client.exists(*(self._key(i) for i in ids[start : start + CHUNK])))
        return found

    def seal(self, count: int) -> None:
        """Note that the release is complete, with so many titles."""
        with self._redis.errors():
            self._redis.client.set(self._seal, str(count))

    def sealed(self) -> int | None:
        """How many titles the release has here, or None when it is not complete."""
        with self._redis.errors():
            count = self._redis.client.get(self._seal)
        return None if count is None else int(count)

    def vectors(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of some ids.

        Args:
            ids: n ids.

        Returns:
            float32 (n, dim), zero where there is none; bool (n,), whether it was found.

        Raises:
            RedisUnavailableError: Redis did not answer.
        """
        with self._redis.errors():
            raw = self._raw_vectors([self._key(i).encode("utf-8", "surrogatepass") for i in ids])
        size = self._dim * VECTOR_TYPE.itemsize
        found = np.array([value is not None and len(value) == size for value in raw], bool)
        self._warn_of_odd_sizes(raw, found)
        data = b"".join(value for value, good in zip(raw, found, strict=True) if value is not None and good)
        present = np.frombuffer(data, VECTOR_TYPE).reshape(-1, self._dim).astype(np.float32, copy=False)
        if found.all():  # the usual case, without another 1.5 MB for 1,000 titles
            return present, found
        vectors = np.zeros((len(ids), self._dim), np.float32)
        vectors[found] = present
        return vectors, found

    def delete_release(self) -> int:
        """Remove the release's hashes.

        Returns:
            How many there were.
        """
        deleted = 0
        with self._redis.errors():
            client = self._redis.client
            client.delete(self._seal)  # first: what is half deleted must not look complete
            waiting: list[bytes] = []
            for key in client.scan_iter(match=f"{self._prefix}:*", count=CHUNK):
                waiting.append(key)
                if len(waiting) == CHUNK:
                    deleted += int(client.unlink(*waiting))
                    waiting = []
            if waiting:
                deleted += int(client.unlink(*waiting))
        return deleted

    def close(self) -> None:
        """Close the connections."""
        self._redis.client.close()

    def _key(self, identifier: str) -> str:
        return f"{self._prefix}:{identifier}"

    def _raw_vectors(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The vector field of many hashes, in one round trip.

        The commands are written out here because redis-py's pipeline takes 8.2 ms for 1,000 of them, of which
        6 ms go into packing; a Lua script takes 4.6 ms and holds up all other clients meanwhile; this takes
        2.6 ms.
        """
        if not keys:
            return []
        command = b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n$6\r\nvector\r\n"
        pool = self._redis.client.connection_pool
        connection: Any = pool.get_connection()
        try:
            connection.send_packed_command([b"".join([command % (len(key), key) for key in keys])])
            return [connection.read_response(disable_decoding=True) for _ in keys]
        except BaseException:
            connection.disconnect()  # answers may be under way that the next user must not read as its own
            raise
        finally:
            pool.release(connection)

    def _warn_of_odd_sizes(self, raw: list[bytes | None], found: np.ndarray) -> None:
        odd = sum(value is not None for value in raw) - int(found.sum())
        if odd:
            _log.warning(
                "Redis at %s has %d vectors under %s that are not %d float32 long; they count as missing",
                self.address, odd, self._prefix, self._dim,
            )  # fmt: skip


def _as_text(fields: Mapping[str, Any]) -> dict[str, str]:
    """Kept fields as redisvl expects them: text as it is, anything else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in fields.items()
        if name not in _RESERVED
    }


class RedisQueries:
    """Query vectors that any process of the service has computed lately; safe to use from many threads.

    Args:
        url: redis://, rediss:// or unix://.
        bundle_id: of the bundle that makes the vectors: another bundle's vectors are never found.
        dim: the length of a vector.
        ttl_s: how many seconds a vector stays.
        timeout_s: how long to wait for Redis, for each answer.
    """

    def __init__(
        self, url: str, *, bundle_id: str, dim: int, ttl_s: int, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self._redis = _Connection(url, timeout_s=timeout_s)
        self._prefix = f"{NAMESPACE}:q:{bundle_id}"
        self._dim = dim
        self._ttl_s = ttl_s

    def get(self, text: str) -> np.ndarray | None:
        """The vector of a query, float32 (dim,), or None.

        Raises:
            RedisUnavailableError: Redis did not answer.
        """
        return self.by_id(_query_id(text))

    def by_id(self, query_id: str) -> np.ndarray | None:
        """The vector, float32 (dim,), of the query whose text has this SHA-256 in hexadecimal digits, or None.

        Raises:
            RedisUnavailableError: Redis did not answer.
        """
        with self._redis.errors():
            data: Any = self._redis.client.get(f"{self._prefix}:{query_id}")
        if data is None or len(data) != self._dim * VECTOR_TYPE.itemsize:
            return None
        return np.frombuffer(data, VECTOR_TYPE).astype(np.float32)

    def put(self, text: str, vector: np.ndarray) -> None:
        """Keep the vector of a query, float32 (dim,), for the time to live.

        Raises:
            RedisUnavailableError: Redis did not answer.
        """
        with self._redis.errors():
            data = vector.astype(VECTOR_TYPE).tobytes()
            self._redis.client.set(f"{self._prefix}:{_query_id(text)}", data, ex=self._ttl_s)

    def close(self) -> None:
        """Close the connections."""
        self._redis.client.close()


def _query_id(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
