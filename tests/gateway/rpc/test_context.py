"""The window is measured over the websocket as over REST."""

from bench.provider import Provider
from gateway.auth import SCOPES, THOUGHTS, Caller
from storage.pool import Pool
from tests.gateway.calling import Calls
from tests.gateway.rest.talking import new_agent, talking


async def test_the_measure_is_that_of_rest(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": "Ann"}])
        call = Calls(served)
        measured = await call("context.get", agent=agent)
        over_rest = await served.json("GET", f"/v1/agents/{agent}/context")
        assert over_rest.pop("messages")
        assert measured.pop("messages") == []
        assert measured == over_rest
        assert "Ann" in measured["core_memory"]
        made = (await call("conversation.create", agent=agent))["id"]
        assert (await call("context.get", conversation=made))["num_messages"] == 1
        blind = Calls(served, Caller("token:a", scopes=SCOPES - {THOUGHTS}))
        await blind.refused("context.get", 403, "agent:read:thoughts", agent=agent)
