"""The files of the embedded Postgres: how they are made, where its socket is, what its complaints mean."""

import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from storage.binaries import Account, closed_directory
from storage.datadir import write_private
from storage.errors import EmbeddedError

PORT = "5432"  # only the last part of the socket's name: nothing listens on a network
SOCKET_BYTES = 107  # of `sun_path` on Linux, without its end; macOS has 103
CREATE_SECONDS = 120.0

# Sorted by code point on every machine alike; upper and lower case by Unicode, which search relies on.
LOCALE = ("--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
# What is a letter is asked of the system, which knows this name nearly everywhere. By plain C all that is not
# ASCII is one: words keep their quotation marks, and a sentence of Chinese is one word.
LETTERS = "--lc-ctype=C.UTF-8"

# Nothing of ours: PG* variables would change what Postgres does, and keys are none of its business.
ENVIRONMENT: Mapping[str, str] = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def create(home: Path, programs: Path, account: Account | None, *, durable: bool) -> None:
    """Make the database files beside `home` and move them there whole: a crash leaves all or nothing.

    Whoever can open the socket is let in, for it stands in a directory of the server's user alone. The
    user `nobody` is shared by strangers: there a password guards it, kept in a file of the caller's.

    Raises:
        EmbeddedError: the directory cannot be used or the files cannot be made; names the remedy.
    """
    for rest in home.parent.glob("pg.new-*"):
        shutil.rmtree(rest, ignore_errors=True)
    token = secrets.token_hex(4)
    draft, answer = home.with_name(f"pg.new-{token}"), home.with_name(f"password.new-{token}")
    options = [] if durable else ["--no-sync"]
    try:
        _give(draft, account)
        if account is not None and account.name != "postgres":
            write_private(answer, _password(home))
            os.chown(answer, account.uid, account.gid)
            options += ["--auth=scram-sha-256", f"--pwfile={answer}"]
        else:
            options += ["--auth=trust"]
        options = [f"--pgdata={draft}", *options]
        said = _run_initdb(programs, account, [LETTERS, *options])
        if said is not None and "invalid locale name" in said:
            said = _run_initdb(programs, account, options)
        if said is not None:
            raise failure("could not create its database", said, home, account)
        draft.rename(home)
        _sync(home.parent)
    except OSError as error:
        said = f"{error.strerror}: {error.filename}"
        raise failure("could not create its database", said, home, account) from error
    finally:
        answer.unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)


def dsn(home: Path, sockets: Path) -> str:
    """Return the address of the server, with the password where it wants one."""
    secret = home.with_name("password")
    password = f":{secret.read_text(encoding='utf-8').strip()}" if secret.exists() else ""
    return f"postgresql://postgres{password}@/postgres?host={quote(str(sockets), safe='')}&port={PORT}"


def socket_dir(home: Path, account: Account | None) -> Path:
    """Return the directory of the socket: `home`, or a short private one where that path is too long.

    The short one is remembered beside `home` and used again as long as it is still there and private.
    """
    limit = SOCKET_BYTES if sys.platform == "linux" else 103
    if len(os.fsencode(home / f".s.PGSQL.{PORT}")) <= limit:
        return home
    note = home.with_name("sockets")
    owner = os.geteuid() if account is None else account.uid
    if note.exists():
        known = Path(note.read_text(encoding="utf-8").strip())
        if _is_private(known, owner):
            return known
    # Not $TMPDIR, which may be long as well.
    fresh = Path(tempfile.mkdtemp(prefix="wakeful-", dir="/tmp"))
    if account is not None:
        os.chown(fresh, account.uid, account.gid)
    write_private(note, f"{fresh}\n")
    return fresh


def failure(
    what: str, said: str, home: Path, account: Account | None, *, log: Path | None = None
) -> EmbeddedError:
    """Return an error that says what to do about what Postgres `said` when it failed."""
    if account is not None and "Permission denied" in said:
        closed = closed_directory(home / "PG_VERSION", account)
        if closed is not None:
            return EmbeddedError(
                f"the data directory {home.parent} cannot be used: Postgres does not run as root, it runs as "
                f"user {account.name!r}, who may not enter {closed}. Choose another with --data-dir (the "
                "default is /var/lib/wakeful), or set DATABASE_URL"
            )
    if "database files are incompatible with server" in said:
        made_by = (home / "PG_VERSION").read_text(encoding="utf-8").strip()
        return EmbeddedError(
            f"the database in {home} was made by Postgres {made_by}, not by the one that comes with this "
            "release: dump it with the release that made it, or set DATABASE_URL"
        )
    lines = [line for line in said.splitlines() if line.strip()]
    grave = [line for line in lines if re.search(_GRAVE, line)]
    last = re.sub(rf"^.*?({_GRAVE})\s*", "", (grave or lines or ["it said nothing"])[-1].strip())
    where = f" (see {log})" if log is not None else ""
    return EmbeddedError(f"the embedded Postgres {what}: {last}{where}")


_GRAVE = r"FATAL:|PANIC:|error:"


def _give(draft: Path, account: Account | None) -> None:
    draft.mkdir(mode=0o700)
    if account is not None:
        os.chown(draft, account.uid, account.gid)


def _password(home: Path) -> str:
    """Return the password of the cluster to be; it is kept before anything depends on it."""
    secret = home.with_name("password")
    if not secret.exists():
        write_private(secret, f"{secrets.token_urlsafe(24)}\n")
    return secret.read_text(encoding="utf-8")


def _run_initdb(programs: Path, account: Account | None, options: list[str]) -> str | None:
    """Run `initdb` and return None, or what it complained about."""
    user = None if account is None else account.uid
    group = None if account is None else account.gid
    try:
        done = subprocess.run(  # noqa: S603 - every part is ours
            [str(programs / "initdb"), *LOCALE, "--username=postgres", *options],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CREATE_SECONDS,
            cwd="/",
            env=ENVIRONMENT,
            user=user,
            group=group,
            extra_groups=None if account is None else [],
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {CREATE_SECONDS:.0f} s"
    return None if done.returncode == 0 else done.stdout.decode(errors="replace")


def _is_private(directory: Path, owner: int) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == owner and stat.S_IMODE(found.st_mode) == 0o700


def _sync(directory: Path) -> None:
    """See a renamed entry of `directory` to the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
