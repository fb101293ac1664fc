"""What load is put on."""

import asyncio
from pathlib import Path

import pytest

from bench import loaded
from bench.case import Bench, Effort
from bench.foreign import Address, Foreign, address
from bench.loaded import Floor
from bench.provider import Provider
from bench.targets import Relay, Wakeful
from storage.pool import Pool
from tests.gateway.rest.talking import talking
from tests.serving import listening


def test_a_target_of_the_command_line_is_read() -> None:
    assert address("letta=http://h:1/,key=a=b,model=openai/x,embedding=e") == Address(
        kind="letta", url="http://h:1", key="a=b", model="openai/x", embedding="e"
    )
    assert address("openai=https://h/v1?a=1,2") == Address(kind="openai", url="https://h/v1?a=1,2")


@pytest.mark.parametrize("text", ["http://h", "smtp=http://h", "letta=h:1", "", "letta"])
def test_what_is_no_target_is_refused_with_the_syntax(text: str) -> None:
    with pytest.raises(ValueError, match="letta=URL"):
        address(text)


def test_this_server_streams_by_three_doors_and_answers_whole_by_one(
    tmp_path: Path, provider: Provider
) -> None:
    ours, relay = Wakeful(tmp_path, provider), Relay(tmp_path, provider)
    assert [door.wire for door in loaded.doors(ours, "stream", "m")] == ["websocket", "letta", "agui"]
    assert [door.wire for door in loaded.doors(ours, "blocking", "m")] == ["letta"]
    assert [door.wire for door in loaded.doors(relay, "stream", "m")] == ["relay"]
    names = [door.name for way in ("stream", "blocking") for door in loaded.doors(ours, way, "m")]
    assert len(set(names)) == 4


def test_a_server_s_own_model_is_asked_for_where_one_was_named(provider: Provider) -> None:
    (mine,) = loaded.doors(Foreign(address("openai=http://h/v1,model=gpt")), "stream", "fixed-t1")
    (scripted,) = loaded.doors(Foreign(address("openai=http://h/v1")), "stream", "fixed-t1")
    (floor,) = loaded.doors(Floor(provider), "stream", "fixed-t1")
    assert [loaded.asking(door, "fixed-t2").model for door in (mine, scripted, floor)] == [
        "gpt",
        "fixed-t2",
        "fixed-t2",
    ]
    assert loaded.doors(Foreign(address("agui=http://h/run")), "blocking", "m") == []


def test_agents_are_made_once_and_as_many_as_are_missing(provider: Provider, tmp_path: Path) -> None:
    bench, floor = Bench(provider, tmp_path, Effort()), Floor(provider)
    two = loaded.agents(bench, floor, 2, "m")
    three = loaded.agents(bench, floor, 3, "m")
    assert (len(two), three[:2]) == (2, two)
    assert len(three) == 3
    assert loaded.agents(bench, floor, 2, "m") == two


@pytest.mark.timeout(60)
async def test_agents_of_a_foreign_server_are_made_and_deleted_again(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url:
        foreign = Foreign(address(f"letta={url}"))
        made = await asyncio.to_thread(foreign.make, 3, "fixed-t1")
        agents = await served.json("GET", "/v1/agents/")
        assert {agent["id"] for agent in agents} == set(made)
        assert {agent["llm_config"]["handle"] for agent in agents} == {"openai/fixed-t1"}
        await asyncio.to_thread(foreign.stop)
        assert await served.json("GET", "/v1/agents/") == []


@pytest.mark.timeout(60)
async def test_a_foreign_server_that_makes_no_agent_says_why(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url:
        foreign = Foreign(address(f"letta={url},model=nobody/knows"))
        with pytest.raises(RuntimeError, match="was answered 4"):
            await asyncio.to_thread(foreign.make, 1, "m")


@pytest.mark.timeout(60)
async def test_agents_have_answered_once_before_they_are_put_under_load(
    pool: Pool, provider: Provider, tmp_path: Path
) -> None:
    bench = Bench(provider, tmp_path, Effort())
    async with talking(pool, provider) as served, listening(served.app) as url:
        made = await asyncio.to_thread(
            loaded.fresh, bench, Foreign(address(f"letta={url}")), 2, "fixed-t1-d20000"
        )
        for agent in made:
            said = await served.json("GET", f"/v1/agents/{agent}/messages?order=asc")
            texts = [message["content"] for message in said if message["message_type"] == "assistant_message"]
            assert texts == ["Awake."]
