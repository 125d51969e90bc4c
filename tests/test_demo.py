"""The demo, as real processes: what it prints, how it stops, and that it leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the demo, with source files in place of an installed package; it is ended with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start_demo(*options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "examples/demo.py", "--work", tmp_path, "--port", 0, *options]
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "DUALTOWER_REDIS": "redis://127.0.0.1:1/0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        processes.append(process)
        return process

    yield start_demo
    for process in processes:
        process.terminate()
        process.communicate(timeout=60)


def served_url(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """Read what the demo prints until it serves: (URL, all of it)."""
    assert demo.stdout is not None
    lines: list[str] = []
    for line in demo.stdout:
        lines.append(line)
        if line.startswith("Serving at "):
            return line.split()[2], "".join(lines)
    raise AssertionError("the demo ended before it served:\n" + "".join(lines))


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/live", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def test_the_demo_shows_answers_serves_and_stops_with_ctrl_c(start: Start, tiny_bundle_path: Path) -> None:
    """It prints each request with its answer, then serves until Ctrl-C, stops the service and ends with 0."""
    demo = start("--bundle", tiny_bundle_path)
    url, shown = served_url(demo)
    for route in ("search", "match", "sentiment"):
        assert f"POST /v1/{route}" in shown
    assert "iphone15 手机套" in shown
    assert answers(url)
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=60)
    assert (demo.returncode, rest.strip()) == (0, "The service has stopped.")
    assert not answers(url)


def test_a_demo_that_is_told_to_end_takes_its_service_along(start: Start, tiny_bundle_path: Path) -> None:
    """SIGTERM stops the service, too; so do a closed terminal and an error, which go the same way."""
    demo = start("--bundle", tiny_bundle_path)
    url, _ = served_url(demo)
    demo.terminate()
    demo.communicate(timeout=60)
    assert demo.returncode == 128 + signal.SIGTERM
    assert not answers(url)


def test_a_missing_bundle_is_told(start: Start, tmp_path: Path) -> None:
    """The command's own message is shown, and the demo fails."""
    demo = start("--once", "--bundle", tmp_path / "nowhere")
    shown, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "nowhere is no bundle" in shown
    assert "The demo failed: dualtower index ended with status 1" in shown
    assert "Traceback" not in shown


BROKEN = """
import sys
import demo
demo.DUALTOWER = [sys.executable, "-c", "import sys; sys.exit('no room left' if 'serve' in sys.argv else 0)"]
sys.exit(demo.main())
"""


def test_a_service_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    """When the service ends before it is ready, the demo fails and shows the end of its log."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, "--once", "--work", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "examples")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the service did not start, it ended with status 1" in done.stderr
    assert "no room left" in done.stderr
