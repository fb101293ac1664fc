"""Who may run agents: hosts with leases on the database's clock, shards with fences that only rise."""

from datetime import timedelta

from msgspec import Struct

from storage.errors import OwnedError
from storage.pool import Conn, transaction

LEASE = timedelta(seconds=5)

_LOCK = "select pg_advisory_xact_lock(hashtext('wakeful.ownership'))"

# A host under another name whose lease still runs and that owns shards: it is alive, or was a moment ago.
_OWNER = """
select h.name, extract(epoch from h.lease_until - now())::float8 as seconds
  from hosts h
 where h.name <> $1 and h.lease_until > now()
   and exists (select from shards s where s.host = h.name)
 order by h.lease_until desc
 limit 1
"""

_REGISTER = """
insert into hosts (name, instance, lease_until)
values ($1, $2, now() + $3::interval)
on conflict (name) do update
   set instance = excluded.instance, lease_until = excluded.lease_until, started_at = now()
"""

# The fence rises at every claim, so whatever an earlier owner still holds commits nothing any more.
_CLAIM = "update shards set host = $1, fence = fence + 1 returning shard, fence"

_RENEW = """
update hosts set lease_until = now() + $3::interval
 where name = $1 and instance = $2
returning name
"""

_STILL_MINE = "select exists (select from shards where host is distinct from $1) as lost"

_RELEASE = "update hosts set lease_until = now() where name = $1 and instance = $2"


class Lease(Struct, frozen=True):
    """A claim on every shard: `fences[shard]` is what this host's activations commit under."""

    name: str
    instance: str
    fences: tuple[int, ...]


async def claim(conn: Conn, *, name: str, instance: str, lease: timedelta = LEASE) -> Lease:
    """Take every shard and raise its fence, in one transaction.

    The same name takes over at once, which the fence makes safe. Another name waits until the
    owner's lease has run out.

    Raises:
        OwnedError: A host of another name is alive; the error names it and its remaining lease.
    """
    async with transaction(conn):
        await conn.execute(_LOCK)
        owner = await conn.fetchrow(_OWNER, name)
        if owner is not None:
            raise OwnedError(owner["name"], owner["seconds"])
        await conn.execute(_REGISTER, name, instance, lease)
        rows = await conn.fetch(_CLAIM, name)
    fences = [0] * len(rows)
    for row in rows:
        fences[row["shard"]] = row["fence"]
    return Lease(name, instance, tuple(fences))


async def renew(conn: Conn, lease: Lease, *, duration: timedelta = LEASE) -> bool:
    """Extend the lease; return False when another process took the name or the shards."""
    if await conn.fetchrow(_RENEW, lease.name, lease.instance, duration) is None:
        return False
    row = await conn.fetchrow(_STILL_MINE, lease.name)
    return row is not None and not row["lost"]


async def release(conn: Conn, lease: Lease) -> None:
    """End the lease now, so that a successor of any name need not wait for it."""
    await conn.execute(_RELEASE, lease.name, lease.instance)
