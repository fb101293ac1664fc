"""Whose a channel is: asked of the database, and answered alike for what is missing and what is foreign."""

import pytest

from bench.provider import Provider
from gateway.auth import LOOPBACK, Caller
from gateway.feeds.channel_access import Access, Place
from gateway.feeds.channel_names import Address
from gateway.realtime.protocol import PERMISSION_DENIED, ProtocolError
from storage.errors import UnavailableError
from storage.pool import Pool
from tests.gateway.feeding import new_id
from tests.gateway.rest.talking import new_agent, talking


async def refused(access: Access, channel: str, caller: Caller = LOOPBACK) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as error:
        await access.find(caller, channel)
    return error.value.code, error.value.message


async def test_a_conversation_is_its_agents(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        access = Access(pool)
        agent_id = await new_agent(served)
        opened = await served.json("POST", f"/v1/conversations/?agent_id={agent_id}", json={})
        for conversation in (opened["id"], agent_id):
            assert await access.find(LOOPBACK, f"conv:{conversation}") == Place(
                Address("conv", conversation), LOOPBACK.organization_id, agent_id
            )
        assert (await access.find(LOOPBACK, f"agent:{agent_id}")).agent_id == agent_id
        missing = await refused(access, f"conv:{new_id('conv')}")
        foreign = await refused(access, f"conv:{opened['id']}", Caller("far", new_id("org")))
        assert missing == foreign
        assert missing[0] == PERMISSION_DENIED
        await served.json("DELETE", f"/v1/conversations/{opened['id']}")
        assert await refused(access, f"conv:{opened['id']}") == missing


async def test_who_may_read_nothing_asks_the_database_nothing(pool: Pool) -> None:
    await pool.close()
    nobody = Caller("none", scopes=frozenset())
    assert (await refused(Access(pool), f"agent:{new_id('agent')}", nobody))[0] == PERMISSION_DENIED


async def test_a_database_that_is_away_is_no_refusal(pool: Pool) -> None:
    await pool.close()
    with pytest.raises(UnavailableError):
        await Access(pool).find(LOOPBACK, f"agent:{new_id('agent')}")
