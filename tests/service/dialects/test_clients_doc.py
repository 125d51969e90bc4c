"""Every example of docs/clients.md is run as a user would run it, against a service that `make demo` would start."""

from __future__ import annotations

import io
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from rich.console import Console

from index.build import BuildOptions, index_titles
from index.progress import Reporter
from index.releases import Releases
from tests.service.served import ROOT, Served
from towers import open_bundle
from towers.bundle import DEFAULT_BUNDLE

PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8000"
FENCE = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLES = 100


def examples(kind: str) -> list[ParameterSet]:
    """The blocks of a kind, each named by the line that it begins in."""
    return [
        pytest.param(match[2], id=f"line-{PAGE.count(chr(10), 0, match.start()) + 1}")
        for match in FENCE.finditer(PAGE)
        if match[1] == kind
    ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("clients") / "releases"
    Releases(root).publish(release_of_examples(root))
    with Served(root, bundle=DEFAULT_BUNDLE) as served:
        yield served


def release_of_examples(root: Path) -> str:
    """A release of the first example titles; all of them would take longer than the tests."""
    lines = (ROOT / "examples" / "titles.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    source = root.parent / "titles.tsv"
    source.write_text("".join(lines[:TITLES]), encoding="utf-8")
    with (root.parent / "index.log").open("w", encoding="utf-8") as said:
        report = Reporter(Console(file=said))
        return index_titles(
            source, Releases(root), open_bundle(), options=BuildOptions(), report=report
        ).version


@pytest.fixture(scope="module")
def python() -> Iterator[ProcessPoolExecutor]:
    """A fresh interpreter. All examples share it, because some clients take ten seconds to be imported."""
    with pytest.MonkeyPatch.context() as patch, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        patch.delenv("HF_HUB_OFFLINE", raising=False)  # the client would refuse even loopback
        patch.setenv("NO_PROXY", "127.0.0.1")
        pool.submit(os.getpid).result()
        yield pool


def printed(code: str) -> str:
    """What an example prints."""
    with redirect_stdout(io.StringIO()) as out:
        exec(code, {"__name__": "__main__"})
    return out.getvalue()


def here(code: str, served: Served) -> str:
    """An example with the address of the service."""
    assert ADDRESS in code
    return code.replace(ADDRESS, f"127.0.0.1:{served.port}")


@pytest.mark.parametrize("code", examples("python"))
def test_an_example_in_python_runs_and_prints(served: Served, python: ProcessPoolExecutor, code: str) -> None:
    """With nothing changed but the port."""
    assert python.submit(printed, here(code, served)).result().strip()


@pytest.mark.parametrize("code", examples("sh"))
def test_an_example_for_the_shell_runs_and_prints(served: Served, code: str) -> None:
    """Every command succeeds, and no answer is an error."""
    script = here(code, served).replace("curl -s ", "curl -sS --fail-with-body ")
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_every_fence_is_an_example() -> None:
    """None is passed over because it is written in another way."""
    assert PAGE.count("```") == 2 * len([*examples("python"), *examples("sh")]) > 0
