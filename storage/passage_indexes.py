"""Indexes of vectors: one for each length that archives use, made when it is first seen."""

import logging

import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it ships none

from storage import passage_search
from storage.errors import SchemaError
from storage.pool import Conn, transaction

log = logging.getLogger("wakeful.storage")

BUILD_SECONDS = 3600.0  # few rows have a new length; but to find them the whole table is read

_LENGTHS = "select distinct dimensions from archives where dimensions is not null"
_EXISTS = "select to_regclass($1) is not null"

# Processes that see a new length at the same time wait for one another, and the later finds it done.
_BUILD = """
select pg_advisory_xact_lock(hashtext('wakeful.passage_indexes'));
set local statement_timeout = 0;
select set_config(name, '0', true) from pg_settings where name = 'transaction_timeout';
create index if not exists {name} on passages using hnsw (({expression}) {operators})
 where dimensions = {length};
"""


async def make_missing(conn: Conn) -> list[int]:
    """Make the indexes that archives need and the database lacks; return the lengths of their vectors.

    Each is made in a transaction of its own, which this opens.
    Without pgvector there are none, nor of vectors that are too long for it: those are compared one by
    one. Writes to passages wait while an index is made, searches do not; cancelling leaves nothing behind.

    Raises:
        SchemaError: The user of the database may not make indexes; searches work without, slower.
    """
    if not conn.has_vectors:
        return []
    made: list[int] = []
    for row in await conn.fetch(_LENGTHS):
        length: int = row["dimensions"]
        name, expression = passage_search.index_name(length), passage_search.indexed("embedding", length)
        if expression is None or await conn.fetchval(_EXISTS, name):
            continue
        kind = expression.partition("::")[2].partition("(")[0]
        statement = _BUILD.format(
            name=name, expression=expression, operators=f"{kind}_cosine_ops", length=length
        )
        try:
            async with transaction(conn):
                await conn.execute(statement, timeout=BUILD_SECONDS)
        except asyncpg.exceptions.InsufficientPrivilegeError as error:
            raise SchemaError(f"the user of DATABASE_URL may not make index {name!r}") from error
        log.info("index made", extra={"index": name})
        made.append(length)
    return made
