"""The Postgres that comes with wakeful: one server for each data directory, alive as long as its owner."""

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio

from storage import cluster, datadir, processes
from storage.binaries import account_for, programs_for
from storage.errors import EmbeddedError

log = logging.getLogger(__name__)

START_SECONDS = 60.0  # includes recovery after a crash, which replays at most `max_wal_size`
POLL_SECONDS = 0.005
WATCH_SECONDS = 0.2
RETRY_SECONDS = 5.0  # the longest pause between attempts to bring a dead server back
LOG_BYTES = 4 << 20  # at a start a larger log is put aside; one old one is kept

# A small footprint: no replication, no parallel workers, no I/O processes. What commits is on the disk.
# The log gets neither statements nor values of rows, for they hold what people wrote.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": cluster.PORT,
    "unix_socket_permissions": "0700",
    "cluster_name": "wakeful",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "32MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm is small in containers and not cleared after a kill
    "jit": "off",
    "io_method": "sync",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_compression": "off",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",
    "checkpoint_timeout": "10min",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
UNSAFE: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# Becomes Postgres: takes the other user's identity, ties its life to ours, runs the program. It is a
# program of its own because Python between fork and exec (`preexec_fn`) can deadlock when a restart
# forks a process that has threads. The order matters: Linux forgets the death signal at a change of
# user, a parent that died before the signal was set shows only in the parent's id, and the other user may
# not be able to read Python's own files, so every import comes first.
_BECOME = """
import ctypes, os, signal, sys
parent, uid, gid = map(int, sys.argv[1:4])
libc = ctypes.CDLL(None)
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if sys.platform == "linux":
    libc.prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG; Postgres: fast shutdown
    if os.getppid() != parent:
        sys.exit("the owner is gone")
os.execv(sys.argv[4], sys.argv[4:])
"""


class Embedded:
    """A running Postgres of ours, made by `start`. `dsn` stays the same through restarts."""

    def __init__(self, held: datadir.Hold, data_dir: Path, settings: Mapping[str, str]) -> None:
        self._held = held
        self._owner = os.getpid()
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = settings
        self._home = data_dir / "pg"
        self._log = data_dir / "postgres.log"
        self._account = account_for(self._home)
        self._programs = programs_for(self._account)
        if not self._home.exists():
            cluster.create(self._home, self._programs, self._account, durable=settings["fsync"] == "on")
        self._sockets = cluster.socket_dir(self._home, self._account)
        self.dsn = cluster.dsn(self._home, self._sockets)

    @property
    def pid(self) -> int | None:
        """The process id of the server's main process, None when it was stopped."""
        return None if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Return whether the server's main process runs; it may still be recovering."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Bring the server back after its main process died. Blocks; for the main thread only.

        Raises:
            EmbeddedError: it does not start; the message carries the last words of its log.
        """
        for pause in self._starting():
            time.sleep(pause)

    async def watch(self) -> None:
        """Bring the server back whenever its main process dies, until `stop`. For the main thread only.

        A server that does not start (its disk is full, say) is tried again for ever, at most
        `RETRY_SECONDS` apart. Cancelling is safe at any moment: a server that is starting goes on.
        """
        pause = WATCH_SECONDS
        while not self._stopped:
            await anyio.sleep(pause)
            if self.alive() or self._stopped:
                continue
            log.error("embedded postgres died", extra={"exit_code": self._exit_code()})
            try:
                for wait in self._starting():
                    await anyio.sleep(wait)
            except (EmbeddedError, OSError) as error:
                pause = min(pause * 2, RETRY_SECONDS)
                log.error("embedded postgres does not start", extra={"reason": str(error)})
            else:
                pause = WATCH_SECONDS
                log.warning("embedded postgres restarted", extra={"pid": self.pid})

    def stop(self) -> None:
        """Shut the server down and let go of the data directory. Blocks; may be called twice.

        Raises:
            EmbeddedError: it survived every signal, so the data directory stays held.
        """
        if os.getpid() != self._owner:
            return  # a forked child inherits the exit handler, but not the server
        self._stopped = True
        atexit.unregister(self.stop)
        if (process := self._process) is not None:
            for pause in processes.ending(process.pid, lambda: process.poll() is not None):
                time.sleep(pause)
            self._process = None
        self._held.release()

    def _starting(self) -> Iterator[float]:
        """Start the server, yielding the pauses to make until it accepts connections."""
        _require_main_thread()
        yield from processes.clearing(self._home)
        if self._process is not None:
            self._process.poll()  # the one that is gone needs no zombie
        if self._stopped:
            return
        if not self._home.exists():
            raise EmbeddedError(f"the database in {self._home} is gone: restore it, then start again")
        offset = _turn_log(self._log)
        self._process = process = self._spawn()
        deadline = time.monotonic() + START_SECONDS
        while processes.status(self._home) != (process.pid, "ready"):
            if process.poll() is not None:
                raise self._failure("did not start", offset)
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready after {START_SECONDS:.0f} s", offset)
            yield POLL_SECONDS

    def _spawn(self) -> subprocess.Popen[bytes]:
        user = (-1, -1) if self._account is None else (self._account.uid, self._account.gid)
        become = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *map(str, user)]
        server = [str(self._programs / "postgres"), "-D", str(self._home), "-k", str(self._sockets)]
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        with self._log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - every part is ours
                [*become, *server, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=cluster.ENVIRONMENT,  # not ours: it holds keys of other services
                start_new_session=True,  # Ctrl-C at the terminal is for the owner, which then stops it
            )

    def _failure(self, what: str, log_offset: int) -> EmbeddedError:
        with self._log.open("rb") as file:
            file.seek(log_offset)
            said = file.read().decode(errors="replace")
        return cluster.failure(what, said, self._home, self._account, log=self._log)

    def _exit_code(self) -> int | None:
        return None if self._process is None else self._process.returncode


def start(data_dir: Path, *, durability_off: bool = False) -> Embedded:
    """Start the Postgres of `data_dir`, creating its database the first time. Blocks until it accepts.

    Takes the data directory for this process, recovers whatever a former owner left, and stops the
    server when this process ends, however it ends. `durability_off` is for throw-away databases of
    tests: a crash of the machine may lose or destroy everything.

    Raises:
        EmbeddedError: another process owns the directory, the server's user cannot reach it, no Postgres
            comes with this platform, this is not the main thread, or it does not start. Names the remedy.
    """
    _require_main_thread()
    data_dir = data_dir.resolve()
    held = datadir.hold(data_dir)
    with contextlib.ExitStack() as undo:
        undo.callback(held.release)
        try:
            server = Embedded(held, data_dir, {**SETTINGS, **UNSAFE} if durability_off else SETTINGS)
            undo.callback(server.stop)
            server.restart()
        except OSError as error:
            raise EmbeddedError(f"the embedded Postgres cannot be started in {data_dir}: {error}") from error
        undo.pop_all()
    atexit.register(server.stop)
    return server


def running_dsn(data_dir: Path) -> str | None:
    """Return the address of the server that another process runs in `data_dir`; None if it is not ready."""
    home = data_dir.resolve() / "pg"
    sockets = processes.socket_dir(home)
    return None if sockets is None else cluster.dsn(home, sockets)


def _require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise EmbeddedError(
            "the embedded Postgres must be started from the main thread: "
            "Linux stops it when the thread that started it ends"
        )


def _turn_log(path: Path) -> int:
    """Put a log aside that has grown large, and return where the next entry will stand."""
    path.touch(mode=0o600)
    size_bytes = path.stat().st_size
    if size_bytes <= LOG_BYTES:
        return size_bytes
    path.replace(path.with_suffix(".log.old"))
    path.touch(mode=0o600)
    return 0
