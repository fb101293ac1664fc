"""What the doctor sees of the machine: Python, platform, memory, and the data directory."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gateway import database
from gateway.config import Settings
from gateway.doctor.findings import Finding, error, mebibytes, ok, warning
from storage import binaries
from storage.errors import EmbeddedError

TIGHT_BYTES, FULL_BYTES = 2 * 1024**3, 256 * 1024**2  # free room on the disk of the database
SERVER_BYTES = 256 * 1024**2  # what the server takes beside its hot agents, its embedder included
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
MOUNTS = "/proc/self/mountinfo"
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
ON_LOAN = ("tmpfs", "ramfs", "overlay", "aufs")  # file systems that end with the container or the machine


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is to be said about this machine."""
    yield _platform(settings)
    yield _memory(settings)
    yield from _data_dir(settings)


def _platform(settings: Settings) -> Finding:
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if settings.database_url is None:
        try:
            binaries.installed()
        except EmbeddedError as problem:
            return error("platform", f"{text}: {problem}", remedy="set DATABASE_URL to a Postgres of yours")
    if sys.platform != "linux":
        return warning("platform", f"{text}: tested on Linux only", remedy="report what does not work here")
    return ok("platform", text)


def _memory(settings: Settings) -> Finding:
    available = available_bytes()
    if available is None:
        return ok("memory", "how much memory is available cannot be read on this platform")
    text = f"{mebibytes(available)} available, hot agents may use {mebibytes(settings.hot_bytes)}"
    if available < settings.hot_bytes + SERVER_BYTES:
        fitting = max(64 * 1024**2, (available - SERVER_BYTES) // 2)
        return warning("memory", text, remedy=f"set WAKEFUL_HOT_BYTES={fitting}")
    return ok("memory", text)


def available_bytes() -> int | None:
    """Return the memory that may still be taken: the machine's, or the container's if that is less."""
    available: int | None = None
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    except OSError:
        return None
    for path in CGROUP_LIMITS:
        try:
            limit = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdecimal() and available is not None:
            available = min(available, int(limit))
    return available


def _data_dir(settings: Settings) -> Iterator[Finding]:
    if settings.database_url is not None and settings.host_name is not None:
        return  # nothing is kept there
    home = database.data_dir(settings)
    standing = next(path for path in (home, *home.parents) if path.exists())
    if not standing.is_dir():
        yield error("data directory", f"{standing} is no directory", remedy="choose another with --data-dir")
        return
    if not os.access(standing, os.W_OK | os.X_OK):
        yield error(
            "data directory",
            f"{home} cannot be written by user id {os.geteuid()}",
            remedy="choose another with --data-dir, or run as its owner",
        )
        return
    if settings.database_url is not None:
        yield ok("data directory", f"{home} holds the host's name only; the data is in DATABASE_URL")
        return
    yield _room(home, standing)
    yield _keeps(home, standing)


def _room(home: Path, standing: Path) -> Finding:
    free = shutil.disk_usage(standing).free
    state = "" if home.exists() else " (not there yet: `wakeful serve` makes it)"
    text = f"{home}{state}: {mebibytes(free)} free"
    if free < FULL_BYTES:
        return error("data directory", text, remedy="make room: Postgres stops when its disk is full")
    if free < TIGHT_BYTES:
        return warning("data directory", text, remedy="make room before the disk is full")
    return ok("data directory", text)


def _keeps(home: Path, standing: Path) -> Finding:
    kind = _file_system(standing)
    if kind in ON_LOAN and (kind in ("tmpfs", "ramfs") or in_container()):
        end = "container" if in_container() else "machine's present life"
        return warning(
            "volume",
            f"{home} is on {kind}: the agents are gone with the {end}",
            remedy=f"mount a volume at {home}, or set DATABASE_URL",
        )
    where = "a container's volume" if in_container() else "this machine's disk"
    return ok("volume", f"{home} is on {where} ({kind or 'unknown file system'})")


def in_container() -> bool:
    """Return whether this process runs in a container, as far as one can tell."""
    return any(Path(mark).exists() for mark in CONTAINER_MARKS) or "KUBERNETES_SERVICE_HOST" in os.environ


def _file_system(path: Path) -> str | None:
    """Return the kind of file system that holds `path`: that of the longest mount point above it."""
    try:
        lines = Path(MOUNTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    resolved = path.resolve()
    for line in lines:  # proc(5): mount point in field 5, kind after the separator
        before, _, after = line.partition(" - ")
        mount = before.split()[4].encode().decode("unicode_escape")
        if len(mount) > best and resolved.is_relative_to(mount):
            best, kind = len(mount), after.split()[0]
    return kind


def resident(pid: int) -> tuple[int, dict[str, int]] | None:
    """Return the resident bytes of a process, and those of its children by name; None if it is gone."""
    own = _rss(pid)
    if own is None:
        return None
    children: dict[str, int] = {}
    for child in _children(pid):
        name, size = _name(child), _rss(child)
        if size is not None:
            children[name] = children.get(name, 0) + size
    return own, children


def _children(pid: int) -> list[int]:
    try:
        text = " ".join(
            (task / "children").read_text(encoding="ascii") for task in Path(f"/proc/{pid}/task").iterdir()
        )
    except OSError:
        return []
    direct = [int(word) for word in text.split()]
    return direct + [grandchild for child in direct for grandchild in _children(child)]


def _rss(pid: int) -> int | None:
    """Return a process's share of memory; what several map is divided among them where that is told."""
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace").splitlines()
            found = next((line for line in lines if line.startswith(key)), None)
            if found is not None:
                return int(found.split()[1]) * 1024
    return None


def _name(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "other"
    command = " ".join(words)
    if "embedder" in command:
        return "embedder"
    return "Postgres" if command.startswith("postgres:") or "/postgres" in words[0] else "other"
