"""A program that owns an embedded Postgres: says where it is, then writes rows until it is killed.

Arguments: the data directory, or `-` for the default one; `idle` ends when its input does.
"""

import asyncio
import itertools
import json
import sys
from pathlib import Path

import asyncpg

from storage import datadir, embedded


async def write(dsn: str) -> None:
    """Insert one row after another; tell each number once it is committed."""
    conn = await asyncpg.connect(dsn)
    await conn.execute("create table if not exists numbers (n int primary key)")
    for n in itertools.count():
        await conn.execute("insert into numbers values ($1)", n)
        print(n, flush=True)


if __name__ == "__main__":
    where, mode = sys.argv[1:]
    server = embedded.start(datadir.default_data_dir() if where == "-" else Path(where))
    print(json.dumps({"dsn": server.dsn, "pid": server.pid}), flush=True)
    if mode == "write":
        asyncio.run(write(server.dsn))
    sys.stdin.read()
