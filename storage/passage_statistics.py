"""What the database's statistics know of the words of passages, read now and then on each connection."""

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from storage.pool import Conn, reached

FRESH_SECONDS = 300.0  # statistics change by a tenth of the table; reading them costs about 2 ms


async def common_words(conn: Conn, *, least: int) -> Mapping[str, float]:
    """Return what `read` returned on this connection in the last minutes, else read it."""
    session, now = reached(conn), asyncio.get_running_loop().time()
    known = _KNOWN.get(session)
    if known is None or now - known[0] > FRESH_SECONDS:
        known = _KNOWN[session] = now, await read(conn, least=least)
    return known[1]


async def read(conn: Conn, *, least: int) -> Mapping[str, float]:
    """Return the words that statistics expect in `least` passages or more, with their share of all passages.

    There are none before the table was first analysed.
    """
    row = await conn.fetchrow(_READ)
    if row is None:
        return {}
    shares = zip(row["words"] or (), row["shares"] or (), strict=False)
    return {word: share for word, share in shares if share * row["total"] >= least}


_KNOWN: WeakKeyDictionary[Any, tuple[float, Mapping[str, float]]] = WeakKeyDictionary()

# The last of the frequencies are the least, the most and that of nulls: they belong to no word.
_READ = """
select s.most_common_elems::text::text[] as words, s.most_common_elem_freqs as shares,
       greatest(c.reltuples, 0)::float8 as total
  from pg_stats s, pg_class c
 where c.oid = 'passages'::regclass
   and s.schemaname = current_schema and s.tablename = 'passages' and s.attname = 'words'
"""
