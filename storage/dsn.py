"""Addresses of databases: as the driver takes them, and as people may see them. Pure."""

import re
from urllib.parse import parse_qs, urlsplit


def plain_dsn(dsn: str) -> str:
    """Return `dsn` without a driver's name in its scheme (`postgresql+asyncpg://` and the like)."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", dsn.strip())


def address(dsn: str) -> str:
    """Return where `dsn` points, for people: host, port and database, never a password."""
    try:
        parts = urlsplit(plain_dsn(dsn))
        query = parse_qs(parts.query)
        host = query.get("host", [parts.hostname or "localhost"])[0]
        port = query.get("port", [str(parts.port or 5432)])[0]
        database = parts.path.lstrip("/") or query.get("dbname", query.get("database", ["(default)"]))[0]
    except ValueError:
        return "an address that is not a URL like postgresql://user:password@host:5432/database"
    return f"host {host}, port {port}, database {database}"


def password(dsn: str | None) -> str | None:
    """Return the password in `dsn`, so that it can be kept out of what is shown."""
    try:
        parts = urlsplit(plain_dsn(dsn or ""))
        given = parse_qs(parts.query).get("password", [None])[0] or parts.password
    except ValueError:
        return dsn  # nobody can tell which part it is
    return given
