"""What can be set from outside: one class, read once in `serve`, passed in, printed without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.cores import cores
from towers.errors import InputError

PREFIX = "DUALTOWER_"
# How many processes answer by default, where there are as many cores. Two on two cores answer 1.4 to 2.2 times as many
# requests as one with two threads, for 150 MB (benchmarks/results/proof_rates.json); 8 is a guess, untested.
MOST_BY_DEFAULT = 8
COUNTED = {"processes": "cores, at most 8", "workers": "cores ÷ processes"}  # defaults, as they are shown
ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+")


def _processes() -> int:
    return min(cores(), MOST_BY_DEFAULT)


def _workers(values: dict[str, Any]) -> int:
    processes: int = values.get("processes", 1)
    return max(1, cores() // processes)


class Settings(BaseSettings):
    """Settings of the service. From the environment each is read as `DUALTOWER_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    releases: Path = Field(
        Path("releases"), description="directory of releases; the one in CURRENT is served"
    )
    bundle: Path | None = Field(
        None, description="bundle directory; unset: the bundle shipped with the package"
    )
    redis: str | None = Field(
        None,
        description="Redis URL for title vectors and the query cache; unset: memory map and process only",
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every network")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one and logs it")
    api_key: SecretStr | None = Field(
        None,
        min_length=8,
        description="one key, in clear; when any key is set, all but health and the page's files asks for one",
    )
    api_keys: str | None = Field(
        None, description="several keys as NAME:SHA256, with commas; `dualtower key NAME` makes them"
    )
    api_keys_file: Path | None = Field(
        None, description="file with one NAME:SHA256 a line; read again when it changes"
    )
    rate_limit: float | None = Field(
        None,
        gt=0,
        description="requests per second of one key, or of all where there are no keys, on this machine; unset: "
        "no limit",
    )
    rate_burst: int = Field(
        20, ge=1, description="requests that a key may send at once before the rate limit holds it back"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins, with commas, whose pages may ask from a browser; * for all; unset: none"
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_texts: bool = Field(
        False, description="log unforeseen errors with their messages, which may quote texts of requests"
    )

    processes: int = Field(
        default_factory=_processes,
        ge=1,
        description="processes that answer, started and watched by one more; 1: the only one answers",
    )
    workers: int = Field(
        default_factory=_workers,
        ge=1,
        description="requests that each process computes at the same time; as many lists of more than 32 texts "
        "beside them",
    )
    queue: int = Field(
        64, ge=0, description="requests that may wait for a worker of each process; the next one gets 429"
    )
    threads: int | None = Field(
        None, ge=1, description="threads of one encoding; unset: the cores, divided among the processes"
    )

    max_body: int = Field(4 * 2**20, ge=1024, description="bytes of one request body")
    max_titles: int = Field(5000, ge=1, description="titles or pairs of one match request")
    max_texts: int = Field(
        2048, ge=1, description="titles, queries or sentiment texts to encode in one request"
    )
    max_text_length: int = Field(10_000, ge=1, description="characters of one text or id")
    max_k: int = Field(1000, ge=1, description="largest k of a search")
    max_candidates: int = Field(5000, ge=1, description="largest number of candidates of a search")
    body_timeout_s: float = Field(20.0, gt=0, description="seconds that a client may take to send a body")

    query_cache: int = Field(
        10_000, ge=0, description="query vectors kept in each process, and once more by all of them together"
    )
    query_ttl_s: int = Field(86_400, ge=1, description="seconds that Redis keeps a query vector")
    redis_timeout_s: float = Field(
        0.25, gt=0, description="seconds to wait for Redis before going on without"
    )
    redis_probe_s: float = Field(1.0, gt=0, description="seconds between two looks at whether Redis answers")
    release_poll_s: float = Field(1.0, gt=0, description="seconds between two looks at CURRENT")
    release_retry_s: float = Field(5.0, gt=0, description="seconds until a refused release is tried again")

    drain_s: float = Field(
        1.0, ge=0, description="seconds of stopping in which ready says 503 but requests are still taken"
    )
    shutdown_s: int = Field(30, ge=1, description="seconds that requests in work get to finish at a stop")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        origins = tuple(origin.strip().rstrip("/") for origin in given.split(",") if origin.strip())
        for origin in origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; one looks like https://shop.example or *")
        return origins

    def shown(self) -> dict[str, Any]:
        """The settings as plain values fit for a log: no key, no password."""
        values = self.model_dump(mode="json")
        for name in ("api_key", "api_keys"):
            values[name] = "set" if getattr(self, name) else None
        values["redis"] = without_password(self.redis) if self.redis else None
        return values


def load_settings(**given: Any) -> Settings:
    """Read the environment; what is `given` and not None (options of the command line) goes first.

    Raises:
        InputError: A value is out of bounds; the message names the variable and the option.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as exc:
        raise InputError("; ".join(_complaint(error["loc"], error["msg"]) for error in exc.errors())) from exc


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Names in the environment that look like settings but are none: most likely misspelt."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def settings_table() -> list[tuple[str, str, str, str]]:
    """Rows (name, environment variable, default, meaning) for the documentation, in order."""
    return [
        (name, PREFIX + name.upper(), _shown_default(name), str(field.description))
        for name, field in Settings.model_fields.items()
    ]


def without_password(url: str) -> str:
    """The URL with what stands before the `@` replaced: it may hold a password."""
    return re.sub(r"//[^/]*@", "//***@", url)


def _shown_default(name: str) -> str:
    if name in COUNTED:
        return COUNTED[name]
    default = Settings.model_fields[name].default
    return "" if default is None or default == () else str(default)


def _complaint(loc: tuple[int | str, ...], message: str) -> str:
    name = str(loc[0]) if loc else "settings"
    return f"setting {name} (variable {PREFIX}{name.upper()}): {message}"
