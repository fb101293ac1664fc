"""Postgres processes of one cluster: who is there, whether it is ready, and how to make it end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from storage.errors import EmbeddedError

POLL_SECONDS = 0.005
ORPHAN_SECONDS = 10.0

# What a server is sent and how long it then has: a fast shutdown with its checkpoint, an immediate one,
# and the end. After the last two the next start recovers from the log.
ENDINGS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 2.0))


def status(home: Path) -> tuple[int, str]:
    """Return the main process and its state as it noted them: `starting`, `ready` or `stopping`.

    (0, "") when there is no note. Its lines are those of `src/include/utils/pidfile.h`, which `pg_ctl`
    reads in the same way.
    """
    try:
        lines = (home / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else "starting"
    except (FileNotFoundError, IndexError, ValueError):
        return 0, ""


def socket_dir(home: Path) -> Path | None:
    """Return the directory of the socket of a server that is ready, as it noted it itself."""
    try:
        lines = (home / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    ready = len(lines) > 7 and lines[7].strip() == "ready" and lines[4].strip() != ""
    return Path(lines[4].strip()) if ready else None


def belongs(pid: int, home: Path) -> bool:
    """Return whether `pid` is a live Postgres process of the cluster in `home`.

    Every one of them has `home` as its working directory, and so may the shell of a curious person.
    """
    if sys.platform != "linux":
        return _is_listed(pid, home)
    with contextlib.suppress(OSError):  # ended meanwhile, or another user's
        if os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(home):
            return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "postgres"
    return False


def members(home: Path) -> list[int]:
    """Return every live Postgres process of the cluster in `home` (elsewhere than Linux the main one)."""
    if sys.platform != "linux":
        pids = [status(home)[0]]
    else:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [pid for pid in pids if pid and belongs(pid, home)]


def clearing(home: Path) -> Iterator[float]:
    """End what a former server left running in `home`, yielding the pauses to make until it is gone.

    The caller holds the data directory, so no live owner is behind it. After a kill of the owner its
    server is shutting down by itself; after a kill of the server its children are on their way out. A new
    server must start beside neither.

    Raises:
        EmbeddedError: it does not end; names the processes.
    """
    main, _ = status(home)
    if main == 0:
        return
    if belongs(main, home):
        yield from ending(main, lambda: not belongs(main, home))
    deadline = time.monotonic() + ORPHAN_SECONDS
    while left := members(home):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"processes {left} still use {home}: stop them, then start again")
        for pid in left:
            _send(pid, signal.SIGQUIT)
        yield POLL_SECONDS * 4
    if sys.platform == "linux" and _exists(main):
        # The number went to somebody else, or nobody collected the dead one: Postgres would take either
        # for a running server. Elsewhere we do not see its children, and leave the judgement to Postgres.
        _remove_notes(home)


def ending(pid: int, ended: Callable[[], bool]) -> Iterator[float]:
    """Shut the server `pid` down, harder and harder, yielding the pauses to make until it `ended`.

    Raises:
        EmbeddedError: it survived even a kill (it is stuck in the kernel).
    """
    for number, grace in ENDINGS:
        if ended():
            return
        _send(pid, number)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            if ended():
                return
            yield POLL_SECONDS
    if not ended():  # whoever looks may be late himself
        raise EmbeddedError(f"the Postgres process {pid} cannot be stopped")


def _remove_notes(home: Path) -> None:
    """Remove the note of a dead server and the lock of its socket, which holds the same number."""
    note = home / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):  # it took the note along when it ended in good order
        lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
        note.unlink()
        if len(lines) > 4 and lines[4]:
            (Path(lines[4]) / f".s.PGSQL.{lines[3]}.lock").unlink()


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_listed(pid: int, home: Path) -> bool:
    """Ask `ps`, where there is no /proc: the command line of the main process names the cluster."""
    command = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return "postgres" in listing.stdout and str(home) in listing.stdout
