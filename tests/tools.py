"""What tests want from the system. `.ci/run` installs all of it, so that nothing is skipped there."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str, packages: str) -> str:
    """Return the path of a program; a test that lacks it is skipped on a person's machine and fails in CI.

    Args:
        program: Its name.
        packages: Debian's packages that bring it.
    """
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        do_without(f"{program} is not installed (Debian: apt-get install {packages})")
    assert path is not None
    return path


def do_without(reason: str) -> None:
    """Skip the test; fail it in CI, where everything is there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
