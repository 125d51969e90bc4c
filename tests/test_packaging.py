"""What a user installs: the metadata, the pins, the files in the package, the containers."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import os
import re
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.settings import PREFIX, Settings
from tests.tools import do_without, need

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BASE = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["project"]["optional-dependencies"].items()
}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parts = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in parts}


def needed_by(requirements: Iterable[Requirement]) -> set[str]:
    """Names of all that these requirements install here, from the metadata of what is installed."""
    names: set[str] = set()
    seen = set()
    queue = list(requirements)
    while queue:
        wanted = queue.pop()
        for extra in ("", *wanted.extras):
            if (wanted.name, extra) in seen:
                continue
            seen.add((wanted.name, extra))
            names.add(canonicalize_name(wanted.name))
            needed = [Requirement(text) for text in importlib.metadata.requires(wanted.name) or []]
            queue += [one for one in needed if not one.marker or one.marker.evaluate({"extra": extra})]
    return names


def test_every_requirement_has_a_pin_in_its_range() -> None:
    """constraints.txt fixes one version, of those that pyproject.toml allows, for each requirement."""
    pinned = pins()
    for wanted in [*BASE, *EXTRAS["train"], *EXTRAS["otel"], *EXTRAS["dev"]]:
        if wanted.name != "dualtower":
            assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, wanted


def test_what_runs_needs_no_torch_and_is_pinned_throughout() -> None:
    """The base dependencies bring neither torch nor transformers, and each thing they bring has a pin."""
    installed = needed_by(BASE)
    assert not installed & {"torch", "transformers", "sentence-transformers", "datasets", "onnx"}
    assert installed <= set(pins())


def test_what_trains_and_tests_is_pinned_throughout() -> None:
    """So are the extras and all that they bring; torch must be, an open range brings gigabytes."""
    wanted = [one for one in [*EXTRAS["train"], *EXTRAS["otel"], *EXTRAS["dev"]] if one.name != "dualtower"]
    assert needed_by(wanted) - {"setuptools"} <= set(pins())
    assert pins()["torch"]


def test_the_console_script_is_the_command_line() -> None:
    """`dualtower` calls what pyproject.toml names, and that is a function."""
    module, name = PROJECT["project"]["scripts"]["dualtower"].split(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert module in PROJECT["tool"]["setuptools"]["py-modules"]


def package_files() -> list[str]:
    """Files of the packages that git knows or would take, but for Python's own."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "towers", "index", "service"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if not name.endswith(".py")]


def test_every_data_file_is_in_the_package() -> None:
    """Whatever lies in a package and is no Python file, such as the default bundle, is named as package data."""
    if not (ROOT / ".git").exists():
        do_without("not a clone: git says which files belong to the project")
    patterns = [
        f"{package}/{pattern.replace('**/', '')}"
        for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
    ]
    files = package_files()
    assert {"towers/py.typed", "index/py.typed", "service/py.typed"} <= set(files)
    for name in files:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), f"{name} would not be installed"


def test_the_default_bundle_fits() -> None:
    """The bundle that is shipped has at most 25 MB."""
    files = [path for path in (ROOT / "towers" / "bundles" / "default").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6


# The containers.


def dockerfile_stages() -> list[str]:
    return re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return content


def test_compose_file_is_valid() -> None:
    """The compose tool reads docker-compose.yml without complaint."""
    program = need("docker-compose", "docker-compose")
    done = subprocess.run(
        [program, "--profile", "monitoring", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_waits_for_the_release_and_redis() -> None:
    """The service starts when Redis answers and the index job, which runs once, has published."""
    services = compose()["services"]
    waits = {
        name: {on: rule["condition"] for on, rule in one.get("depends_on", {}).items()}
        for name, one in services.items()
    }
    assert waits["index"] == {"redis": "service_healthy"}
    assert waits["service"] == {"redis": "service_healthy", "index": "service_completed_successfully"}
    assert services["index"]["restart"] == "no"
    assert "--publish" in services["index"]["command"]


def test_containers_set_only_settings_that_exist() -> None:
    """Every DUALTOWER_ variable of the image and the compose file is a setting of the service."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in ("Dockerfile", "docker-compose.yml"):
        assert set(re.findall(rf"\b{PREFIX}[A-Z_]+", (ROOT / name).read_text(encoding="utf-8"))) <= known


def test_the_image_is_not_root_and_has_no_extras() -> None:
    """The last stage ends as another user than root, and no stage installs an extra."""
    *_, last = dockerfile_stages()
    assert re.findall(r"^USER (\S+)", last, flags=re.MULTILINE)[-1] != "root"
    assert "HEALTHCHECK" in last
    assert not any("[train]" in stage or "[dev]" in stage for stage in dockerfile_stages())


def test_the_builder_gets_what_the_wheel_is_made_of() -> None:
    """.dockerignore lets every file through that pyproject.toml names, and no tests or data."""
    let_through = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    packages = {
        pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    metadata = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    modules = {f"{name}.py" for name in PROJECT["tool"]["setuptools"]["py-modules"]}
    assert set(let_through) == packages | metadata | modules | {"pyproject.toml", "constraints.txt"}


def test_make_lists_its_targets() -> None:
    """`make` alone says what there is, one line a target, and does nothing."""
    make = need("make", "make")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run([make], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert listed == ["help", "demo", "test", "check", "bundle", "walk", "benchmarks", "proof", "clean"]
