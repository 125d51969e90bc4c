from __future__ import annotations

import json
from pathlib import Path

import pytest

import dualtower
from index.releases import Releases
from service.doctor import check_processor
from tests.conftest import TINY
from tests.service.served import make_release
from towers import Bundle


@pytest.fixture
def releases(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    root = tmp_path / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    return root


def diagnose(
    capsys: pytest.CaptureFixture[str], *options: str, bundle: Path = TINY
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status, and the checks by name."""
    status = dualtower.main(["doctor", "--json", "--bundle", str(bundle), *options])
    return status, {check["name"]: check for check in json.loads(capsys.readouterr().out)}


def test_a_sound_installation(releases: Path, redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every check is ok, nothing needs doing, the status is 0."""
    status, checks = diagnose(capsys, "--releases", str(releases), "--redis", redis_url)
    assert {name for name, check in checks.items() if check["status"] == "FAIL"} == set()
    for name in ("python", "packages", "bundle", "sentiment", "release", "redis"):
        assert (checks[name]["status"], checks[name]["way_out"]) == ("ok", "")
    assert status == 0


def test_a_line_for_each_check(releases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people: status first, then what was found."""
    assert dualtower.main(["doctor", "--bundle", str(TINY), "--releases", str(releases)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warn", "FAIL") for line in lines)
    assert any(line.startswith("ok   release") and "200 titles" in line for line in lines)


def test_nothing_published_is_only_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fresh installation is no broken one; it says what comes next."""
    status, checks = diagnose(capsys, "--releases", str(tmp_path))
    assert (status, checks["release"]["status"]) == (0, "warn")
    assert "dualtower index" in checks["release"]["way_out"]


def test_a_corrupt_bundle_fails(releases: Path, tiny_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the file; the other checks go on."""
    (tiny_copy / "scorer.onnx").write_bytes(b"no graph")
    status, checks = diagnose(capsys, "--releases", str(releases), bundle=tiny_copy)
    assert (status, checks["bundle"]["status"]) == (1, "FAIL")
    assert "scorer.onnx" in checks["bundle"]["found"]
    assert checks["release"]["status"] == "ok"


def test_a_corrupt_release_fails(releases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file that was changed, and how to go on."""
    version = Releases(releases).published()
    vectors = releases / version / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-50])
    status, checks = diagnose(capsys, "--releases", str(releases))
    assert (status, checks["release"]["status"]) == (1, "FAIL")
    assert "vectors.npy" in checks["release"]["found"]
    assert "rollback" in checks["release"]["way_out"]


def test_a_redis_that_does_not_answer_fails_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The URL may be pasted into a bug report."""
    url = "redis://user:hush@127.0.0.1:1/0"
    status, checks = diagnose(capsys, "--releases", str(tmp_path), "--redis", url)
    assert (status, checks["redis"]["status"]) == (1, "FAIL")
    assert "hush" not in json.dumps(checks)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", "avx2 avx512_vnni"),
        ("flags\t\t: fpu sse2\n", "none of"),
        ("", "none of"),
    ],
)
def test_the_processors_features(tmp_path: Path, text: str, words: str) -> None:
    """Those that int8 arithmetic profits from."""
    (tmp_path / "cpuinfo").write_text(text)
    assert words in check_processor(tmp_path / "cpuinfo").found


def test_a_system_without_cpuinfo(tmp_path: Path) -> None:
    """Other systems have no such file, which is no fault."""
    assert check_processor(tmp_path / "none").status == "ok"
