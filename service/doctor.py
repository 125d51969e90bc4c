"""`dualtower doctor`: is this installation sound, and if not, what to do about it?"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console
from rich.text import Text

from index.redis_titles import RedisTitles
from index.release import Release, Releases, open_release
from service.cli import BundleOption, JsonOption, ReleasesOption
from service.settings import load_settings, without_password
from towers import Bundle, open_bundle
from towers.errors import DualtowerError

Status = Literal["ok", "warn", "FAIL"]
COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red"}

RUNTIME = (
    "numpy",
    "onnxruntime",
    "tokenizers",
    "faiss-cpu",
    "redis",
    "fastapi",
    "uvicorn",
    "pydantic",
    "pyarrow",
)
FASTER = {
    "uvloop": "a faster event loop",
    "httptools": "a faster HTTP parser",
    "hiredis": "a faster Redis client",
}
# What int8 kernels of ONNX Runtime make use of, best last.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni")
PROBES = 64  # rows of a release that are looked at


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        status: "warn" works, but not as well as it could; "FAIL" does not work.
        found: What was found.
        way_out: What to do about it; empty when nothing needs doing.
    """

    name: str
    status: Status
    found: str
    way_out: str = ""


def doctor_command(
    releases: ReleasesOption = None,
    bundle: BundleOption = None,
    redis: Annotated[str | None, typer.Option(help="Redis URL to look at; default: none.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check this installation: versions, processor, bundle, release, Redis. Exit status 1 if one fails."""
    checks = []
    for check in examine(releases, bundle, redis):
        checks.append(check)
        if not as_json:
            _print(check)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], ensure_ascii=False))
    if any(check.status == "FAIL" for check in checks):
        raise typer.Exit(1)


def examine(releases: Path | None, bundle: Path | None, redis: str | None) -> Iterator[Check]:
    """All checks, one after the other."""
    settings = load_settings(releases=releases, bundle=bundle, redis=redis)
    yield check_python()
    yield from check_packages()
    yield check_processor(Path("/proc/cpuinfo"))
    check, opened = check_bundle(settings.bundle)
    yield check
    if opened is not None:
        yield check_sentiment(opened)
    yield check_release(settings.releases, opened)
    yield check_redis(settings.redis)


def check_python() -> Check:
    """The interpreter."""
    found = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    return Check("python", "ok", found)


def check_packages() -> Iterator[Check]:
    """What must be installed, and what makes things faster."""
    found = {name: _installed(name) for name in RUNTIME}
    missing = [name for name, number in found.items() if number is None]
    listed = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    if missing:
        yield Check(
            "packages", "FAIL", f"missing: {', '.join(missing)}", "pip install --force-reinstall dualtower"
        )
    else:
        yield Check("packages", "ok", listed)
    slower = [name for name in FASTER if _installed(name) is None]
    for name in slower:
        yield Check(name, "warn", f"not installed: {FASTER[name]}", f"pip install {name}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_processor(cpuinfo: Path) -> Check:
    """Cores, and the instructions that int8 arithmetic profits from."""
    cores = f"{os.cpu_count()} cores"
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return Check("processor", "ok", f"{cores}, {platform.machine()}; features unknown here")
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    flags = [flag for flag in CPU_FLAGS if flag in line.split()]
    found = f"{cores}, {platform.machine()}, {' '.join(flags) or 'none of ' + ' '.join(CPU_FLAGS)}"
    if platform.machine() == "x86_64" and "avx2" not in flags:
        return Check("processor", "warn", found, "encoding will be several times slower than with AVX2")
    return Check("processor", "ok", found)


def check_bundle(path: Path | None) -> tuple[Check, Bundle | None]:
    """Every file's SHA-256, and whether encoder and scorer give what they must."""
    try:
        bundle = open_bundle(path, verify=True)
        query = bundle.encode_queries(["a smoke test"])
        titles = bundle.encode_titles(["a smoke test", "短标题"])
        scores = bundle.score(query[0], titles)
    except (DualtowerError, OSError) as exc:
        return Check("bundle", "FAIL", str(exc), "reinstall dualtower, or export the bundle again"), None
    lengths = np.linalg.norm(np.concatenate([query, titles]), axis=1)
    if not (np.allclose(lengths, 1, atol=1e-3) and ((scores >= 0) & (scores <= 1)).all()):
        found = f"vectors have lengths {lengths.tolist()}, scores are {scores.tolist()}"
        return Check("bundle", "FAIL", found, "export the bundle again"), None
    found = (
        f"{bundle.path}: {bundle.bundle_id[:12]}, {bundle.dim} dimensions, threshold {bundle.threshold:.3f}"
    )
    return Check("bundle", "ok", found), bundle


def check_sentiment(bundle: Bundle) -> Check:
    """Whether the bundle classifies."""
    if not bundle.has_sentiment:
        way_out = "make one with `dualtower fit-sentiment` if you need it"
        return Check("sentiment", "warn", "the bundle has no sentiment head", way_out)
    probabilities = bundle.sentiment(["a smoke test"])[0]
    if abs(float(probabilities.sum()) - 1) > 1e-3:
        return Check(
            "sentiment", "FAIL", f"probabilities are {probabilities.tolist()}", "export the bundle again"
        )
    exits = f", exits after layers {list(bundle.exit_layers)}" if bundle.exit_layers else ""
    return Check("sentiment", "ok", f"labels {list(bundle.labels)}{exits}")


def check_release(root: Path, bundle: Bundle | None) -> Check:
    """Whether the published release is whole, belongs to the bundle and finds its own titles."""
    try:
        published = Releases(root).current()
        if published is None:
            way_out = f"dualtower index TITLES --releases {root} --publish"
            return Check("release", "warn", f"none is published in {root}", way_out)
        with closing(open_release(root, bundle=bundle)) as release:
            manifest = release.manifest
            found = f"{published}: {release.count} titles, {manifest.index_kind}, recall {manifest.recall}"
            problem = _lost_rows(release)
    except (DualtowerError, OSError) as exc:
        return Check("release", "FAIL", str(exc), "dualtower releases rollback, or index again")
    if problem:
        return Check(
            "release", "FAIL", f"{published}: {problem}", "dualtower releases rollback, or index again"
        )
    return Check("release", "ok", found)


def _lost_rows(release: Release) -> str:
    """What is wrong with some vectors spread over the release; empty when nothing is."""
    rows = np.unique(np.linspace(0, release.count - 1, PROBES).astype(np.int64))
    vectors = release.vectors(rows)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.01):
        return "vectors do not have length 1"
    for title, row in zip(release.titles(rows), rows.tolist(), strict=True):
        if release.row_of(title.id) != row:
            return f"id {title.id} is not found in its row {row}"
    return ""


def check_redis(url: str | None) -> Check:
    """Whether Redis answers; it is optional, so none is fine."""
    if url is None:
        return Check("redis", "ok", "not configured: title vectors come from the memory map")
    shown = without_password(url)
    try:
        with closing(RedisTitles(url, prefix="dualtower:doctor", dim=1)) as client:
            start = time.perf_counter()
            client.ping()
    except DualtowerError as exc:
        return Check(
            "redis", "FAIL", f"{shown}: {exc}", "start it, or correct --redis; the service runs without it"
        )
    return Check("redis", "ok", f"{shown} answers in {(time.perf_counter() - start) * 1000:.1f} ms")


def _print(check: Check) -> None:
    line = Text.assemble((f"{check.status:5}", COLOURS[check.status]), f"{check.name:10}", check.found)
    if check.way_out:
        line.append(f" → {check.way_out}")
    Console(soft_wrap=True).print(line)
