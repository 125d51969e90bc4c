"""A real index job is killed with SIGKILL, again and again, at moments that nobody has chosen."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from index.release import open_release
from index.releases import Releases
from index.vectors import VECTORS_FILE
from tests.index.conftest import sample_rows, write_rows

ROOT = Path(__file__).parents[2]
TITLES = 800
BLOCK_SECONDS = 0.05  # 15 blocks of 50 titles: most of a second of encoding, so that most kills hit it


def start(titles: Path, releases: Path, log: Path) -> subprocess.Popen[bytes]:
    """The offline job as a process of its own, with an encoder that takes its time and logs what it encodes."""
    arguments = [str(titles), str(releases), str(log), str(BLOCK_SECONDS), ""]
    command = [sys.executable, "-m", "tests.index.fake_encoder", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> str:
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    return said.decode()


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill -9 unless it has finished; whether it was killed."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    return process.returncode == -signal.SIGKILL


def finished_blocks(releases: Path) -> int:
    return len(list(releases.glob(".building-*/blocks/block-*.npy")))


def contents(releases: Path) -> dict[str, bytes]:
    """Every file that belongs to a release or says which is published."""
    return {
        str(path.relative_to(releases)): path.read_bytes()
        for path in sorted(releases.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_killed_at_random_moments_the_release_is_the_same(tmp_path: Path) -> None:
    """However often the job is killed, the last run's release is byte-identical to an uninterrupted one.

    And no finished block is encoded twice: a kill costs at most the block that was under way.
    """
    titles = write_rows(tmp_path / "titles.jsonl", sample_rows(TITLES))
    began = time.monotonic()
    finish(start(titles, tmp_path / "whole", tmp_path / "whole.log"))
    duration = time.monotonic() - began

    seed = random.randrange(2**32)
    moments = random.Random(seed)
    print(f"seed {seed}, uninterrupted {duration:.2f} s")  # shown when the test fails
    releases, log = tmp_path / "killed", tmp_path / "killed.log"
    kills = 0
    for _ in range(5):
        kills += kill_after(start(titles, releases, log), moments.uniform(0, duration))
        assert Releases(releases).current() is None or open_release(releases).count == TITLES
    before = finished_blocks(releases)
    # Killed after the last block, the job has nothing to say of blocks: it goes on with the vectors or the release.
    needed = (
        not any(releases.glob(f".building-*/release/{VECTORS_FILE}")) and not Releases(releases).versions()
    )
    said = finish(start(titles, releases, log))
    if before and needed:
        assert f"{before} of them finished by an earlier run" in said
    assert contents(releases) == contents(tmp_path / "whole")
    times = Counter(log.read_text(encoding="utf-8").splitlines())
    assert len(times) == 15  # the different texts, 50 at a time
    assert sum(times.values()) <= len(times) + kills


def test_killed_before_every_rename(tmp_path: Path) -> None:
    """A file or directory gets its name by a rename: death right before any of them loses nothing."""
    titles = write_rows(tmp_path / "titles.jsonl", sample_rows(120))
    command = [sys.executable, "-m", "tests.integration.index_deaths", str(titles), str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert process.returncode == 0, process.stderr.decode()
    deaths = int(process.stdout)
    assert deaths > 15
    expected = contents(tmp_path / "whole")
    for death in range(1, deaths + 1):
        assert contents(tmp_path / f"died-{death}") == expected, f"killed before rename {death}"
