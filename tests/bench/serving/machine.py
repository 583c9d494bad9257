"""The machine: two of its cores, what they are, and who else used them while something was measured."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CORES = 2
PACKAGES = (
    "litserve", "fastapi", "starlette", "uvicorn", "httptools", "uvloop", "python-multipart", "onnxruntime", "numpy",
    "pillow", "imagecodecs",
)  # fmt: skip
_TICKS_S = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # idle and iowait among the numbers of a line in /proc/stat
_TOLD = 8  # guest time, which follows, is in user time already


def use_two_cores() -> None:
    """Leaves all but two cores idle, in this process and those that it starts: all figures are wanted on two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < CORES:
        raise SystemExit(f"this benchmark needs {CORES} cores; this process may use {len(cores)}")
    os.sched_setaffinity(0, cores[:CORES])


def print_machine() -> None:
    """What the figures were measured with."""
    processor = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    print(f"{processor}, {CORES} cores; Python {platform.python_version()}; {versions}", flush=True)


@dataclass
class Others:
    """How much of the cores went to processes that have no part in the benchmark, or was taken by the host.

    A share of each measured span; figures from a machine where it is large say little.
    """

    shares: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def watched(self, server_cpu_s: Callable[[], float]) -> Iterator[None]:
        """Measures a span in which this process, the jobs that it runs and one server work."""
        uptime, busy, known = _uptime_s(), _busy_s(), _own_cpu_s() + server_cpu_s()
        yield
        span, used = CORES * (_uptime_s() - uptime), _own_cpu_s() + server_cpu_s() - known
        self.shares.append(max(0.0, (_busy_s() - busy - used) / span))

    def print(self) -> None:
        middle, worst = statistics.median(self.shares), max(self.shares)
        print(f"the cores' time that went elsewhere while measuring: median {middle:.1%}, worst {worst:.1%}")


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def _busy_s() -> float:
    """Seconds that the cores in use were not idle, time that the host stole included."""
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu"))
    ticks = [
        int(value)
        for name, *values in lines
        if name in names
        for place, value in enumerate(values[:_TOLD])
        if place not in _IDLE
    ]
    return sum(ticks) / _TICKS_S


def _own_cpu_s() -> float:
    """CPU seconds of this process and of the jobs that it ran and waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
