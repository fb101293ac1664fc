"""The fleet and the users' channels: who sees what, and that it follows what agents do."""

from typing import cast

import anyio
import pytest

from actors.host import Host
from bench.provider import Provider
from gateway.auth import LOOPBACK, Caller
from gateway.feeds.fleet import FleetFeed
from gateway.realtime.protocol import PERMISSION_DENIED, History, ProtocolError, Subscribe
from storage.pool import Pool
from storage.records import DEFAULT_USER
from tests.gateway.feeding import Recorder, data_of, new_id, published
from tests.gateway.feeds.test_state import _send, watching
from tests.gateway.rest.talking import new_agent, user
from tests.gateway.state_watching import view

pytestmark = pytest.mark.timeout(90)

GATED = {"type": "requires_approval", "tool_name": "conversation_search"}
SEARCH = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}]}


async def test_the_fleet_shows_every_agent_and_what_it_does(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        one, two = await new_agent(served), await new_agent(served)
        viewer, _ = await view(feeds, "fleet")
        assert set(viewer.document["agents"]) == {one, two}
        assert viewer.document["agents"][one]["status"] == "idle"
        await provider.script([{"text": "a b c", "gate": "open"}])
        async with anyio.create_task_group() as group:
            group.start_soon(_send, served, one, "hi")
            await viewer.shows(lambda fleet: fleet["agents"][one]["status"] == "running")
            await provider.open("open")
        await viewer.shows(lambda fleet: fleet["agents"][one]["status"] == "idle")
        await viewer.shows(lambda fleet: fleet["agents"][one].get("step_ms", 0) > 0)
        assert viewer.document["agents"][two]["status"] == "idle"
        late, _ = await view(feeds, "fleet")
        assert late.document == viewer.document


async def test_a_fleet_holds_only_the_agents_of_the_token(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (served, feeds):
        one, two = await new_agent(served), await new_agent(served)
        viewer, _ = await view(feeds, "fleet", caller=Caller("one", agents=frozenset((one,))))
        stranger, _ = await view(feeds, "fleet", caller=Caller("far", organization_id=new_id("org")))
        everything, _ = await view(feeds, "fleet")
        for agent_id in (one, two):
            await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("hi"))
        await everything.shows(
            lambda fleet: all(fleet["agents"][agent].get("step_ms") for agent in (one, two))
        )
        assert set(viewer.document["agents"]) == {one}
        assert stranger.document == {"agents": {}}


async def test_an_agent_that_is_made_later_appears_and_a_deleted_one_disappears(
    pool: Pool, provider: Provider
) -> None:
    async with watching(pool, provider) as (served, feeds):
        viewer, subscribed = await view(feeds, "fleet")
        agent_id = await new_agent(served)
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("hi"))
        await viewer.shows(lambda fleet: agent_id in fleet["agents"])
        place = (subscribed.epoch, viewer.offset)
        _, again = await view(feeds, "fleet", since=place, document=viewer.document)
        assert again.recovered
        await served.json("DELETE", f"/v1/agents/{agent_id}")
        await viewer.shows(lambda fleet: agent_id not in fleet["agents"])


def test_a_fleet_that_is_known_remembers_no_deleted_agents() -> None:
    feed = FleetFeed(cast("Host", None), ("org", None), left=lambda _: None)
    feed.gone("agent-1")
    assert feed._gone == {"agent-1"}, "it may be in what the database says"
    feed._known = True
    feed.gone("agent-2")
    assert "agent-2" not in feed._gone


async def test_a_user_hears_of_approvals_and_finds_them_again(pool: Pool, provider: Provider) -> None:
    channel = f"user:{DEFAULT_USER}"
    async with watching(pool, provider) as (served, feeds):
        agent_id = await new_agent(served, tool_rules=[GATED])
        sink, other = Recorder(), Recorder()
        subscribed = await feeds.subscribe(LOOPBACK, Subscribe(channel), sink)
        nobody = Caller("none", agents=frozenset())
        await feeds.subscribe(nobody, Subscribe(channel), other)
        await provider.script([SEARCH, {"text": "done"}])
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("look"))
        [asked] = sink.frames
        assert asked.kind == "CUSTOM:wakeful.approval"
        assert published(asked.pub)["tags"]["agent"] == agent_id
        subscribed.close()
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json=_decision(sink))
        again = Recorder()
        missed = await feeds.subscribe(
            LOOPBACK, Subscribe(channel, True, subscribed.epoch, asked.offset), again
        )
        assert missed.recovered
        assert [data["name"] for data in data_of(missed.publications)] == ["wakeful.approval"]
        assert published(missed.publications[0])["offset"] == asked.offset + 1
        assert other.frames == []


async def test_nobody_follows_another_user(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (_, feeds):
        with pytest.raises(ProtocolError) as refused:
            await feeds.subscribe(LOOPBACK, Subscribe(f"user:{new_id('user')}"), Recorder())
        assert refused.value.code == PERMISSION_DENIED


async def test_reading_a_users_channel_leaves_no_feed_behind(pool: Pool, provider: Provider) -> None:
    async with watching(pool, provider) as (_, feeds):
        for _ in range(3):
            someone = Caller("someone", user_id=new_id("user"))
            await feeds.history(someone, History(f"user:{someone.user_id}", limit=5))
        assert feeds._states._users == {}


def _decision(sink: Recorder) -> dict[str, object]:
    event = sink.frames[0].event
    calls = [call.id for call in event.calls]  # type: ignore[union-attr]
    approvals = [{"type": "approval", "tool_call_id": call, "approve": True} for call in calls]
    return {"messages": [{"type": "approval", "approvals": approvals}]}
