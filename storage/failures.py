"""What the failures of a database mean to a caller. Pure."""

from typing import cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it ships none

from storage.dsn import address
from storage.errors import ConflictError, RefusedError, StorageError, UnavailableError

OUTSIDE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def translate(error: BaseException) -> StorageError | None:
    """Return what `error` means to a caller, or None where it is a fault of ours. Pure."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _translate_server(error)
    if isinstance(error, asyncpg.InterfaceError):
        return _translate_client(error)
    if isinstance(error, asyncpg.InternalClientError):
        # Used between the server's last words and the end of the connection, or garbage was received.
        return UnavailableError("the connection was lost")
    if isinstance(error, TimeoutError):
        return UnavailableError("it did not answer in time")
    if isinstance(error, OSError):
        return UnavailableError(error.strerror or type(error).__name__)
    return None


def unreachable(dsn: str, error: BaseException) -> UnavailableError:
    """Return why no connection could be opened; the password stays out of it."""
    known = translate(error)
    if "startup parameter" in str(error):  # PgBouncer; it would lose prepared statements as well
        reason = "a connection pooler stands before it that refuses session settings: name the server itself"
    elif type(error) is ConnectionError or isinstance(error, asyncpg.ConnectionDoesNotExistError):
        reason = "what answers there hangs up; is it a Postgres?"
    elif isinstance(known, UnavailableError):
        reason = str(known).partition(": ")[2]
    else:
        reason = type(error).__name__  # not its text: that repeats parts of the address
    return UnavailableError(f"cannot connect to {address(dsn)}: {reason}")


# --- what the server says --------------------------------------------------------------------

# SQLSTATE, Appendix A of the PostgreSQL manual: two characters name a class, five one condition.
_UNAVAILABLE_CLASSES = {
    "08": "the connection was lost",
    "28": "it refuses our user name or password",
    "40": "the transaction was rolled back to resolve a conflict",
    "53": "it is out of resources",
    "57": "it is shutting down, starting up or stopped the statement",
    "58": "its storage fails",
}
_UNAVAILABLE = {
    "0A000": "a prepared statement is out of date",  # "cached plan must not change result type"
    "25006": "it is read-only",
    "25P03": "the transaction was idle for too long",
    "25P04": "the transaction took too long",
    "3D000": "the database does not exist",
    "53100": "its disk is full",
    "53300": "it has too many connections",
    "55P03": "a lock was not free in time",
    "57014": "the statement took too long",
}
_CONFLICTS = {"23503": "a row that this one refers to is gone", "23505": "it exists already"}
_REFUSED_CLASSES = {
    "22": "a value cannot be stored",
    "23": "a constraint forbids it",
    "54": "a value is too large",
}


def _translate_server(error: asyncpg.PostgresError) -> StorageError | None:
    state = cast("str", getattr(error, "sqlstate", None) or "")
    constraint = cast("str | None", getattr(error, "constraint_name", None))
    if state in _CONFLICTS:
        return ConflictError(f"{_CONFLICTS[state]} ({constraint})", constraint=constraint)
    if isinstance(error.__cause__, TypeError):
        return None  # the driver's own refusal to send an argument of a wrong type: a bug, not content
    if reason := _UNAVAILABLE.get(state) or _UNAVAILABLE_CLASSES.get(state[:2]):
        return UnavailableError(reason)
    if reason := _REFUSED_CLASSES.get(state[:2]):
        return RefusedError(f"{reason} ({constraint or state})")
    return None


def _translate_client(error: asyncpg.InterfaceError) -> StorageError | None:
    # The driver has one class for misuse and for "closed", so its text must tell them apart. It also
    # takes a borrowed connection back by itself when the server hangs up.
    gone = ("closed", "closing", "released back to the pool")
    return UnavailableError("the connection was lost") if any(word in str(error) for word in gone) else None
