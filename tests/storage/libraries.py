"""Archives and passages that tests of archival memory start from, and databases without pgvector."""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from actors import clock
from storage import archives, passages
from storage.archive_records import Archive, Passage
from storage.migrate import migrate
from storage.pool import Conn, Pool, connect, open_pool
from storage.records import DEFAULT_ORGANIZATION

MODEL = "test/angles"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def angle(degrees: float, dimensions: int = 384) -> tuple[float, ...]:
    """Return a vector whose cosine with that of another angle is that of their difference."""
    turn = math.radians(degrees)
    return (math.cos(turn), math.sin(turn), *([0.0] * (dimensions - 2)))


async def archive(conn: Conn, name: str = "library", *, embedding: str | None = None) -> Archive:
    """Store an archive that no agent has."""
    now = clock.now()
    new = Archive(
        id=clock.new_id("archive"),
        organization_id=DEFAULT_ORGANIZATION,
        name=name,
        embedding=embedding,
        created_at=now,
        updated_at=now,
    )
    return await archives.create(conn, new)


def passage(
    text: str,
    degrees: float | None = None,
    *,
    archive_id: str = "",
    day: int = 0,
    tags: tuple[str, ...] = (),
    model: str = MODEL,
    dimensions: int = 384,
) -> Passage:
    """Return a passage of some day, whose vector has this angle if it has one."""
    at = BEGINNING + timedelta(days=day)
    return Passage(
        id=clock.new_id("passage"),
        organization_id=DEFAULT_ORGANIZATION,
        archive_id=archive_id,
        text=text,
        created_at=at,
        updated_at=at,
        tags=tags,
        embedding_model=None if degrees is None else model,
        vector=None if degrees is None else angle(degrees, dimensions),
    )


async def found(
    conn: Conn,
    agent_id: str,
    query: str | None = None,
    degrees: float | None = None,
    *,
    dimensions: int = 384,
    model: str = MODEL,
    tags: Sequence[str] = (),
    match_all_tags: bool = False,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 10,
) -> list[str]:
    """Search an agent's archives; return the texts that were found."""
    hits = await passages.search(
        conn,
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent_id,
        query=query,
        vector=None if degrees is None else angle(degrees, dimensions),
        embedding_model=model,
        tags=tags,
        match_all_tags=match_all_tags,
        start=start,
        end=end,
        limit=limit,
    )
    return [hit.passage.text for hit in hits]


@asynccontextmanager
async def without_pgvector(
    empty_dsn: str, why: Literal["absent", "forbidden"]
) -> AsyncGenerator[Pool | None]:
    """Open a pool on a database that was migrated where the extension is missing, or may not be installed.

    Yields None where the server cannot be made to miss it.
    """
    admin = await connect(empty_dsn)
    database = urlsplit(empty_dsn).path.lstrip("/")
    role = f"r{uuid4().hex}"
    try:
        if why == "absent":
            if admin.get_server_version().major < 18:
                yield None
                return
            await admin.execute(f"alter database \"{database}\" set extension_control_path = '/nowhere'")
            dsn = empty_dsn
        else:
            await admin.execute(f"create role {role} login password 'pw'")
            await admin.execute(f"grant create, usage on schema public to {role}")
            parts = urlsplit(empty_dsn)
            dsn = urlunsplit(parts._replace(netloc=f"{role}:pw@{parts.netloc.rpartition('@')[2]}"))
        await migrate(dsn)
        pool = await open_pool(dsn, size=2)
        try:
            yield pool
        finally:
            await pool.close()
    finally:
        if why == "forbidden":
            await admin.execute(f"drop owned by {role}")
            await admin.execute(f"drop role {role}")
        admin.terminate()
