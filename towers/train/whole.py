"""Directories that are written whole or not at all, and never in the place of somebody else's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from towers.errors import InputError


@contextmanager
def whole_directory(directory: Path) -> Iterator[Path]:
    """Give an empty directory to fill, which takes the place of another one when the block has ended well.

    Args:
        directory: What is replaced, if it is there; of a block that fails nothing stays.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(directory, ignore_errors=True)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(out: Path, *, what: str, marker: str, replace: bool) -> None:
    """Refuse a target directory before hours are spent on what would go into it.

    Args:
        out: The directory.
        what: What it would hold, for the error.
        marker: A file that every such directory has; one without it is never replaced.
        replace: Whether the user allowed it.

    Raises:
        InputError: It exists and is not empty, and `replace` is off or it holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / marker).is_file():
        raise InputError(f"{out} exists and is no {what}; nothing was written. Choose another directory.")
    if not replace:
        raise InputError(f"{out} already holds a {what}. Choose another directory, or pass --replace.")
