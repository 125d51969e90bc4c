"""What a result depends on beside the code: the machine, the commit, the versions of packages."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from towers.encoder import available_cores

# As /proc/cpuinfo spells them: what int8 and fp32 matrix products can use.
FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
PACKAGES = (
    "numpy",
    "onnxruntime",
    "tokenizers",
    "faiss-cpu",
    "torch",
    "transformers",
    "sentence-transformers",
    "scikit-learn",
    "redis",
    "hiredis",
    "fastapi",
    "uvicorn",
)


def machine() -> dict[str, Any]:
    """Processor, its instructions that matter, cores that may be used, memory, and how busy others keep it."""
    facts = _cpuinfo()
    found = (facts.get("flags") or facts.get("Features", "")).split()
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in found],
        "cores": available_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.system(),
        # Over a second in which this process sleeps. The load average would count the benchmark before this one.
        "busy_percent": psutil.cpu_percent(interval=1.0),
    }


def _cpuinfo() -> dict[str, str]:
    """The facts about the first core; empty where there is no /proc."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = text.partition("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def commit(root: Path) -> str:
    """The commit that is measured, with "+" when the code was changed since."""
    results = (":!benchmarks/results", ":!benchmarks/README.md")  # written by measuring
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *results)
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"
    return head + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that do the work."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
