from datetime import timedelta

import pytest

from storage import ownership
from storage.errors import OwnedError
from storage.pool import Pool, connection
from storage.records import SHARDS


async def test_every_claim_raises_every_fence(pool: Pool) -> None:
    async with connection(pool) as conn:
        first = await ownership.claim(conn, name="a", instance="1")
        second = await ownership.claim(conn, name="a", instance="2")
    assert len(first.fences) == SHARDS
    assert all(b == a + 1 for a, b in zip(first.fences, second.fences, strict=True))


async def test_another_name_is_refused_while_the_lease_runs(pool: Pool) -> None:
    async with connection(pool) as conn:
        await ownership.claim(conn, name="a", instance="1")
        with pytest.raises(OwnedError, match="host 'a' owns this database") as caught:
            await ownership.claim(conn, name="b", instance="2")
        assert 0 < caught.value.lease_seconds <= 5
        assert await conn.fetchval("select count(*) from hosts where name = 'b'") == 0


async def test_another_name_takes_over_when_the_lease_has_run_out(pool: Pool) -> None:
    async with connection(pool) as conn:
        old = await ownership.claim(conn, name="a", instance="1", lease=timedelta(0))
        new = await ownership.claim(conn, name="b", instance="2")
        assert new.fences[0] == old.fences[0] + 1
        assert not await ownership.renew(conn, old)
        assert await ownership.renew(conn, new)


async def test_the_older_process_of_one_name_cannot_renew(pool: Pool) -> None:
    async with connection(pool) as conn:
        old = await ownership.claim(conn, name="a", instance="1")
        new = await ownership.claim(conn, name="a", instance="2")
        assert not await ownership.renew(conn, old)
        assert await ownership.renew(conn, new)


async def test_a_released_lease_lets_any_name_in_at_once(pool: Pool) -> None:
    async with connection(pool) as conn:
        lease = await ownership.claim(conn, name="a", instance="1")
        await ownership.release(conn, lease)
        await ownership.claim(conn, name="b", instance="2")
