from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp.web
import pytest

from bench.provider import Provider
from gateway.chat.client import AwayError, ChatError, Client, RefusedError
from gateway.config import Settings
from storage.pool import Pool
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import listening, serving


@asynccontextmanager
async def connected(pool: Pool, provider: Provider) -> AsyncGenerator[Client]:
    async with talking(pool, provider) as served, listening(served.app) as url, Client(url, None) as client:
        yield client


async def test_an_agent_is_found_by_its_name_and_by_its_id(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as client:
        made = await client.create_agent({"persona": "I am kind.", "human": ""})
        assert await client.find_agent(made.name) == made
        assert await client.find_agent(made.id) == made
        with pytest.raises(ChatError, match="there is no agent 'nobody'"):
            await client.find_agent("nobody")
        with pytest.raises(ChatError, match="there is no agent 'agent-nobody'"):
            await client.find_agent("agent-nobody")


async def test_one_of_several_agents_of_a_name_must_be_named_by_its_id(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url, Client(url, None) as client:
        ids = [(await served.agent(name="Ada the 2nd", model=MODEL))["id"] for _ in range(2)]
        with pytest.raises(ChatError, match="2 agents are named 'Ada the 2nd'") as caught:
            await client.find_agent("Ada the 2nd")
        assert all(agent_id in str(caught.value) for agent_id in ids)


async def test_a_runs_state_and_what_it_said_are_read(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three"}])
    async with talking(pool, provider) as served, listening(served.app) as url, Client(url, None) as client:
        agent_id = (await served.agent(model=MODEL))["id"]
        body = {"messages": [{"role": "user", "content": "hello"}]}
        said = await served.json("POST", f"/v1/agents/{agent_id}/messages", json=body)
        run_id = said["messages"][-1]["run_id"]
        run = await client.run(run_id)
        assert (run.status, run.stop_reason) == ("completed", "end_turn")
        assert [message.content for message in await client.messages(run_id)] == ["one two three"]
        with pytest.raises(RefusedError) as refused:
            await client.run(f"run-{uuid4()}")
        assert refused.value.status == 404


async def test_a_wrong_key_is_told_with_its_remedy(pool: Pool) -> None:
    async with serving(pool, settings=Settings(api_key="right")) as served, listening(served.app) as url:
        async with Client(url, "right") as client:
            await client.create_agent({})
        async with Client(url, "wrong") as client:
            with pytest.raises(ChatError, match="the server has another API key: mend --api-key"):
                await client.create_agent({})
        async with Client(url, None) as client:
            with pytest.raises(ChatError, match="the server wants its API key: use --api-key"):
                await client.create_agent({})


async def test_where_nothing_answers_the_server_is_away() -> None:
    async with Client("http://127.0.0.1:1", None) as client:
        with pytest.raises(AwayError, match=r"nothing answers at http://127\.0\.0\.1:1"):
            await client.find_agent("ada")


@pytest.mark.parametrize("url", ["nowhere", "ftp://x", "http://", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none_is_named(url: str) -> None:
    async with Client(url, None) as client:
        with pytest.raises(ChatError):
            await client.find_agent("ada")


async def test_an_address_of_another_protocol_is_told_what_one_looks_like() -> None:
    async with Client("ftp://127.0.0.1:1", None) as client:
        with pytest.raises(ChatError, match="no address like http://"):
            await client.find_agent("ada")


@asynccontextmanager
async def answering(response: aiohttp.web.Response) -> AsyncGenerator[str]:
    """Run a server that gives every request this answer."""

    async def answer(_: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        return response

    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(answer))
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_server_that_takes_no_work_says_when_to_come_again() -> None:
    busy = aiohttp.web.json_response(
        {"error": {"message": "not now"}}, status=503, headers={"retry-after": "2"}
    )
    async with answering(busy) as url, Client(url, None) as client:
        with pytest.raises(AwayError, match="not now") as away:
            await client.run("run-1")
        assert away.value.retry_after == 2


async def test_another_kind_of_server_is_noticed() -> None:
    page = aiohttp.web.Response(text="<html>", content_type="text/html")
    async with answering(page) as url, Client(url, None) as client:
        with pytest.raises(ChatError, match="does not answer like a wakeful server"):
            await client.run("run-1")


async def test_a_refusal_that_is_not_of_this_kind_of_server_names_the_address() -> None:
    page = aiohttp.web.Response(text="<html>", content_type="text/html", status=404)
    async with answering(page) as url, Client(url, None) as client:
        with pytest.raises(ChatError, match=rf"what answers at {url} is no wakeful server \(status 404\)"):
            await client.find_agent("ada")


async def test_a_list_is_read_page_by_page_to_its_end(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url, Client(url, None) as client:
        made = [(await served.agent(name="same"))["id"] for _ in range(3)]
        pages = [[a["id"] for a in page] async for page in client.pages("/v1/agents/?name=same", limit=2)]
        assert pages == [[made[2], made[1]], [made[0]]]
        assert [page async for page in client.pages("/v1/agents/?name=other")] == []
