"""Messages are sent, and agents listed, over the websocket's methods."""

import asyncio
from typing import Any

from bench.provider import Provider
from gateway.auth import Caller
from gateway.config import Settings
from storage import runs
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from tests.gateway.calling import Calls, until
from tests.gateway.rest.talking import MODEL, new_agent, talking
from tests.serving import Served

HI: Any = [{"role": "user", "content": "hi"}]
SLOW: Any = {"text": "slow", "gate": "go", "repeat": "forever"}


async def ended(served: Served, run_id: str, agent_id: str) -> str:
    """Wait for the end of a run; return its status."""
    async with asyncio.timeout(20):
        async for batch in served.host.ref(agent_id).follow(run_id, agent_id):
            del batch
    async with connection(served.pool) as conn:
        return (await runs.get(conn, run_id, organization_id=DEFAULT_ORGANIZATION)).status


async def test_a_message_is_answered_when_it_is_durable(pool: Pool, provider: Provider) -> None:
    await provider.script([SLOW])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        said = await Calls(served)("agent.send", agent=agent, messages=HI)
        at = said.pop("appliedThrough")
        assert said == {
            "accepted": True,
            "disposition": "started",
            "run": said["run"],
            "conversation": agent,
        }
        assert at["channel"] == f"conv:{agent}"
        assert at["epoch"] == served.host.logs.channel(agent, agent).epoch
        async with connection(pool) as conn:
            run = await runs.get(conn, said["run"], organization_id=DEFAULT_ORGANIZATION)
        assert (run.status in ("created", "running"), run.background) == (True, True)
        await provider.open("go")
        assert await ended(served, said["run"], agent) == "completed"


async def test_a_conversation_is_enough_of_an_address(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a", "repeat": 4}])
    async with talking(pool, provider) as served:
        agent, other = await new_agent(served), await new_agent(served)
        call = Calls(served)
        made = (await call("conversation.create", agent=agent))["id"]
        for data in ({"conversation": made}, {"agent": agent, "conversation": made}):
            assert (await call("agent.send", messages=HI, **data))["conversation"] == made
        for data in ({"conversation": agent}, {"agent": agent, "conversation": "default"}):
            assert (await call("agent.send", messages=HI, **data))["conversation"] == agent
        for wrong in (made, agent):
            await call.refused("agent.send", 404, "not found", agent=other, conversation=wrong, messages=HI)


async def test_messages_queue_steer_and_are_refused_as_asked(pool: Pool, provider: Provider) -> None:
    await provider.script([SLOW])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        call = Calls(served)
        first = await call("agent.send", agent=agent, messages=HI)
        await until(lambda: served.host.running_step(agent, first["run"]))
        second = await call("agent.send", agent=agent, messages=HI)
        third = await call("agent.send", agent=agent, messages=HI, whenBusy="queue")
        assert [(m["disposition"], m["position"]) for m in (second, third)] == [("queued", 1), ("queued", 2)]
        steered = await call("agent.send", agent=agent, messages=HI, whenBusy="steer")
        assert (steered["disposition"], "position" in steered) == ("steered", False)
        await call.refused("agent.send", 409, first["run"], agent=agent, messages=HI, whenBusy="reject")
        await provider.open("go")
        for sent in (first, second, third, steered):
            assert await ended(served, sent["run"], agent) == "completed"


async def test_a_message_that_interrupts_is_the_next_one(pool: Pool, provider: Provider) -> None:
    await provider.script([SLOW])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        call = Calls(served)
        first = await call("agent.send", agent=agent, messages=HI)
        await until(lambda: served.host.running_step(agent, first["run"]))
        waits = await call("agent.send", agent=agent, messages=HI)
        asked = {"agent": agent, "messages": HI, "whenBusy": "interrupt", "clientMessageId": "cm-1"}
        urgent = await call("agent.send", **asked)
        assert (urgent["disposition"], urgent["position"]) == ("queued", 1)
        assert await ended(served, first["run"], agent) == "cancelled"
        await provider.open("go")
        for sent in (urgent, waits):
            assert await ended(served, sent["run"], agent) == "completed"
        again = await call("agent.send", **asked)
        assert (again["run"], again["replayed"], again["status"]) == (urgent["run"], True, "completed")


async def test_a_client_message_id_names_one_run(pool: Pool, provider: Provider) -> None:
    await provider.script([SLOW])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        call = Calls(served)
        asked = {"agent": agent, "messages": HI, "clientMessageId": "cm-9"}
        first = await call("agent.send", **asked)
        assert "replayed" not in first
        await until(lambda: served.host.running_step(agent, first["run"]))
        queued = await call("agent.send", agent=agent, messages=HI, clientMessageId="cm-10")
        again = await call("agent.send", **asked)
        assert (again["run"], again["replayed"], again["disposition"]) == (first["run"], True, "started")
        assert again["status"] in ("created", "running")
        again = await call("agent.send", agent=agent, messages=HI, clientMessageId="cm-10")
        assert (again["run"], again["disposition"], again["position"]) == (queued["run"], "queued", 1)
        # However it is to be delivered, and although it is busy with that very message.
        again = await call("agent.send", **asked, whenBusy="reject")
        assert again["run"] == first["run"]
        other = {**asked, "messages": [{"role": "user", "content": "else"}]}
        await call.refused("agent.send", 409, "already used", **other)
        await call.refused("agent.send", 409, "already used", **{**asked, "maxSteps": 3})
        await provider.open("go")
        await ended(served, queued["run"], agent)
        again = await call("agent.send", **asked)
        assert (again["run"], again["status"], again["disposition"]) == (first["run"], "completed", "started")


async def test_the_same_message_at_once_is_one_run(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a", "repeat": "forever"}])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        call = Calls(served)
        asked = {"agent": agent, "messages": HI, "clientMessageId": "cm"}
        sent = await asyncio.gather(*(call("agent.send", **asked) for _ in range(8)))
        assert len({one["run"] for one in sent}) == 1
        assert sum("replayed" not in one for one in sent) == 1


async def test_a_client_message_id_is_its_caller_s_own(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a", "repeat": "forever"}])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        asked = {"agent": agent, "messages": HI, "clientMessageId": "cm"}
        ann, bob = (Calls(served, Caller(name)) for name in ("token:ann", "token:bob"))
        assert (await ann("agent.send", **asked))["run"] != (await bob("agent.send", **asked))["run"]


async def test_a_model_that_nobody_serves_is_refused(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        await Calls(served).refused("agent.send", 404, "not known", agent=agent, messages=HI, model="x/y")


# --- lists ----------------------------------------------------------------------------------


async def test_agents_are_listed_page_by_page(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        call = Calls(served)
        assert await call("agent.list") == {"agents": [], "more": False}
        made = [await new_agent(served, name=f"n{i}", tags=["t"] if i else []) for i in range(3)]
        page = await call("agent.list", limit=2, order="asc")
        assert ([a["id"] for a in page["agents"]], page["more"]) == (made[:2], True)
        page = await call("agent.list", limit=2, order="asc", after=made[1])
        assert ([a["id"] for a in page["agents"]], page["more"]) == (made[2:], False)
        assert [a["name"] for a in (await call("agent.list"))["agents"]] == ["n2", "n1", "n0"]
        assert [a["name"] for a in (await call("agent.list", tags=["t"]))["agents"]] == ["n2", "n1"]
        assert [a["name"] for a in (await call("agent.list", query="N1"))["agents"]] == ["n1"]
        [one] = (await call("agent.list", name="n0"))["agents"]
        assert (one["model"], one["status"]) == (MODEL, "idle")
        await call.refused("agent.list", 404, "not found", after="agent-1")
        few = Calls(served, Caller("token:a", agents=frozenset(made[1:2])))
        assert [a["id"] for a in (await few("agent.list"))["agents"]] == made[1:2]


async def test_a_list_says_how_agents_are_doing(pool: Pool, provider: Provider) -> None:
    await provider.script([SLOW])
    async with talking(pool, provider, settings=Settings()) as served:
        agent = await new_agent(served)
        call = Calls(served)
        run = await call("agent.send", agent=agent, messages=HI)
        await until(lambda: served.host.running_step(agent, run["run"]))
        await call("agent.send", agent=agent, messages=HI)
        [busy] = (await call("agent.list"))["agents"]
        assert (busy["status"], busy["active"], busy["queued"]) == ("running", 1, 1)
        await provider.open("go")
        await until(lambda: served.host.health().unfinished_runs == 0)
        [rests] = (await call("agent.list"))["agents"]
        assert (rests["status"], "queued" in rests, rests["stepMs"] > 0) == ("idle", False, True)
        assert rests["contextTokens"] > 0
