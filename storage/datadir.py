"""The directory of one installation: who holds it, and the host's stable name."""

import contextlib
import fcntl
import os
import secrets
import socket
from pathlib import Path

from storage.errors import EmbeddedError

SYSTEM_DIR = Path("/var/lib/wakeful")  # where root keeps data, and binaries that others must be able to run


class Hold:
    """The right to be the one server of a data directory; the kernel ends it with the process."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        """Let the next server in. May be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def default_data_dir() -> Path:
    """Return `/var/lib/wakeful` for root, else the user's data directory. Creates nothing."""
    if os.geteuid() == 0:
        return SYSTEM_DIR
    # XDG Base Directory Specification 0.8: a relative path in the variable is to be ignored.
    configured = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (configured if configured.is_absolute() else Path.home() / ".local" / "share") / "wakeful"


def hold(data_dir: Path) -> Hold:
    """Take `data_dir` for this process and create it where it is missing.

    Raises:
        EmbeddedError: another process holds it (names its pid), or it cannot be created or written.
    """
    try:
        make(data_dir)
        fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(
            f"the data directory {data_dir} cannot be used by user id {os.geteuid()}: {error.strerror} "
            f"({error.filename}); choose another with --data-dir"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise EmbeddedError(
            f"the data directory {data_dir} is in use by the server with process id {holder}: "
            "stop it, or choose another with --data-dir"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return Hold(fd)


def holder(data_dir: Path) -> int | None:
    """Return the id of the process that holds `data_dir`, 0 where it left none; None if nobody holds it.

    Takes nothing and creates nothing. To look, the lock is shared for a few microseconds.

    Raises:
        EmbeddedError: it cannot be told, because the lock may not be opened.
    """
    try:
        fd = os.open(data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise EmbeddedError(f"{data_dir} is no directory: choose another with --data-dir") from error
    except OSError as error:
        raise EmbeddedError(
            f"the data directory {data_dir} belongs to another user ({error.strerror}): "
            "run this as the user who runs the server"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        written = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(written) if written.isdecimal() else 0
    else:
        return None
    finally:
        os.close(fd)


def host_name(data_dir: Path) -> str:
    """Return the name under which this installation owns agents: made once, the same ever after.

    Raises:
        EmbeddedError: the directory cannot be written.
    """
    path = data_dir / "host"
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    name = f"{socket.gethostname().split('.')[0] or 'host'}-{secrets.token_hex(3)}"
    draft = data_dir / f"host.{secrets.token_hex(4)}"
    try:
        make(data_dir)
        write_private(draft, f"{name}\n")
        with contextlib.suppress(FileExistsError):  # another process was first: its name stands
            os.link(draft, path)
        draft.unlink()
    except OSError as error:
        raise EmbeddedError(f"the host's name cannot be kept in {path}: {error.strerror}") from error
    return path.read_text(encoding="utf-8").strip()


def make(directory: Path) -> None:
    """Create `directory` and its missing parents; what exists keeps its owner and mode.

    As root, others may pass through what is created (the database runs as another user); what must be
    private inside is private by itself. As a plain user the directory is the user's alone.
    """
    missing = [directory, *directory.parents]
    missing = [path for path in missing if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            path.chmod(0o711)
    if missing and os.geteuid() != 0:
        directory.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, and see it to the disk before returning."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
