"""Metrics of several processes, right whichever of them is asked.

Each process keeps its values in files of a common directory, named by the process's place and not by its number: who
takes the place of a dead process goes on with its counters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
# What one process's measurements become of several. Of open files the process counts that comes nearest to its limit.
TOGETHER: dict[str, Callable[[Iterable[float]], float]] = {
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_cpu_seconds": sum,
    "process_start_time_seconds": min,
    "process_open_fds": max,
    "process_max_fds": min,
}


def keep_in(directory: Path, place: int) -> None:
    """Have all metrics that are made from now on in files of a directory; to be called before any is made."""
    os.environ[DIRECTORY] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: place)  # type: ignore[no-untyped-call]


def forget(directory: Path, place: int) -> None:
    """Drop what only a living process can say, such as how many requests it is answering."""
    mark_process_dead(place, str(directory))  # type: ignore[no-untyped-call]


def shared_registry(directory: Path, parent: int, *, unless_zero: str) -> CollectorRegistry:
    """What the processes of `parent` have counted together; `unless_zero` is shown where it is not 0."""
    registry = CollectorRegistry()
    registry.register(_Files(directory, unless_zero))
    registry.register(_Processes(parent))
    return registry


class _Files(Collector):
    """What stands in the files of all processes."""

    def __init__(self, directory: Path, unless_zero: str) -> None:
        self._unless_zero = unless_zero
        self._files = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """The sums, or what else the metric's mode says."""
        for metric in self._files.collect():  # type: ignore[no-untyped-call]
            if metric.name == self._unless_zero:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


class _Processes(Collector):
    """Memory, processor seconds and open files of the parent and its children. Nothing where there is no /proc."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def collect(self) -> Iterator[Metric]:
        """What ProcessCollector says about one process, of all."""
        found: dict[str, list[float]] = {}
        shown: dict[str, Metric] = {}
        for pid in family(self._parent):
            for metric in ProcessCollector(registry=None, pid=lambda pid=pid: pid).collect():  # type: ignore[misc]
                shown.setdefault(metric.name, metric)
                value = metric.samples[0].value
                if metric.name == "process_resident_memory_bytes":
                    value = proportional_memory(pid) or value
                found.setdefault(metric.name, []).append(value)
        if "process_cpu_seconds" in found:
            found["process_cpu_seconds"].append(seconds_of_the_dead(self._parent))
        for name, metric in shown.items():
            (sample,) = metric.samples
            metric.samples = [Sample(sample.name, sample.labels, TOGETHER[name](found[name]))]
            yield metric


def family(parent: int) -> list[int]:
    """The process numbers of a parent and its children; without the latter where the kernel does not tell."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    except OSError:
        children = [str(os.getpid())]
    return [parent, *map(int, children)]


def proportional_memory(pid: int) -> int | None:
    """Bytes in memory, where a page that several processes hold counts a part in each; None if nobody says."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def seconds_of_the_dead(parent: int) -> float:
    """Processor seconds of children that have ended: without them the sum would fall when one does."""
    try:
        fields = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
