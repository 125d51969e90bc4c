"""API keys: several, each with a name. The service knows only their SHA-256; a request brings the key itself.

A line is `NAME:SHA256`, and `dualtower key NAME` makes one. Made keys are 256 random bits, which nobody finds by
trying, so a fast hash is enough. The same name may stand in several lines: while a key is exchanged, the old and the
new one are both taken, and counted together.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.settings import Settings
from towers.errors import InputError

log = logging.getLogger(__name__)

LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")
SINGLE = "default"  # the name of the one key that DUALTOWER_API_KEY gives
PREFIX = "dt-"  # so that people and scanners of repositories see what it is


@dataclass(frozen=True)
class Key:
    """The name of a key and its SHA-256."""

    name: str
    digest: bytes


def new_key(name: str) -> tuple[str, str]:
    """A new key, and the line under which the service will know it.

    Raises:
        InputError: The name has other characters than letters, digits, dots, dashes and underscores.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    parse_lines([line])
    return key, line


def parse_lines(lines: list[str]) -> list[Key]:
    """The keys of lines; empty ones and those that begin with # are skipped.

    Raises:
        InputError: A line is no `NAME:SHA256`. The message gives its number and not its text, which may be a key.
    """
    keys = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = LINE.fullmatch(text)
        if found is None:
            raise InputError(
                f"key {number} is not NAME:SHA256 with a name of at most 64 letters, digits, dots, dashes and "
                "underscores and 64 hexadecimal digits; `dualtower key NAME` prints such a line"
            )
        keys.append(Key(found[1], bytes.fromhex(found[2])))
    return keys


def given_key(headers: Mapping[str, str]) -> bytes:
    """The key that a request brings, empty when it brings none.

    Args:
        headers: By names that are looked up whatever their case.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return given.strip().encode("latin-1")  # the bytes as they were sent


class Keys:
    """The keys in force. A file of keys is read again when it changes."""

    def __init__(self, settings: Settings) -> None:
        single = settings.api_key.get_secret_value() if settings.api_key else None
        self._fixed = [Key(SINGLE, hashlib.sha256(single.encode()).digest())] if single else []
        self._fixed += parse_lines((settings.api_keys or "").split(","))
        self._file = settings.api_keys_file
        self._read: bytes | None = None
        self._keys = self._fixed if self._file is None else self._fixed + self._from_file(self._file)
        # A file without keys still asks for one: an emptied file must not open the service.
        self.wanted = bool(self._fixed) or self._file is not None
        self.problem: str | None = None

    @property
    def names(self) -> list[str]:
        """The names of all keys, each once."""
        return sorted({key.name for key in self._keys})

    @property
    def watched(self) -> bool:
        """Whether `look` can find anything new."""
        return self._file is not None

    def name_of(self, given: bytes) -> str | None:
        """The name of a key, None for an unknown one; takes as long whichever fits, and if none does."""
        digest = hashlib.sha256(given).digest()
        name = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.digest):
                name = key.name
        return name

    def trust(self, headers: Mapping[str, str]) -> bool:
        """Whether a request may see what only operators should: it brings a key, or none is wanted."""
        return not self.wanted or self.name_of(given_key(headers)) is not None

    def look(self) -> None:
        """Take over a changed file; one that cannot be used changes nothing but `problem`."""
        if self._file is None:
            return
        before = self._read
        try:
            keys = self._fixed + self._from_file(self._file)
        except InputError as exc:
            if self.problem is None:
                log.error("file of keys refused, those before stay in force", extra={"reason": str(exc)})
            self.problem = str(exc)
            return
        self._keys, self.problem = keys, None
        if self._read != before:
            log.info("keys read", extra={"names": self.names})

    def _from_file(self, path: Path) -> list[Key]:
        try:
            content = path.read_bytes()
            keys = parse_lines(content.decode().splitlines())
        except (OSError, UnicodeDecodeError, InputError) as exc:
            raise InputError(f"cannot use the file of keys {path}: {exc}") from exc
        self._read = content
        return keys
