"""One request, one run: how repeats are recognised."""

from typing import Any

import anyio
import pytest

from bench.provider import Provider
from storage.pool import Pool, connection
from tests.gateway.rest.talking import new_agent, talking, user
from tests.serving import Served

RETRY = {"x-stainless-retry-count": "1", "x-stainless-read-timeout": "60"}


async def accepted(pool: Pool) -> list[str]:
    async with connection(pool) as conn:
        return [row["run_id"] for row in await conn.fetch("select run_id from inbox order by seq")]


async def start(served: Served, agent_id: str, **more: Any) -> str:
    path = f"/v1/agents/{agent_id}/messages/async"
    return (await served.json("POST", path, **more))["id"]


async def test_every_message_gets_an_otid_and_the_clients_own_is_kept(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        sent = [{"role": "user", "content": "a", "otid": "mine"}, {"role": "user", "content": "b"}]
        await served.json("POST", f"/v1/agents/{agent_id}/messages", json={"messages": sent})
        history = await served.json("GET", f"/v1/agents/{agent_id}/messages")
    first, second = (m["otid"] for m in history if m["message_type"] == "user_message")
    assert first == "mine"
    assert len(second) == 36


async def test_an_assistants_message_from_the_client_is_not_echoed(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        sent = [{"role": "assistant", "content": "I said so"}, {"role": "user", "content": "did you?"}]
        answer = await served.json("POST", f"/v1/agents/{agent_id}/messages", json={"messages": sent})
    assert [m["content"] for m in answer["messages"]] == [
        "This is the scripted provider, and this is its fixed answer."
    ]


async def test_a_retry_finds_the_run_by_its_content_only_for_the_same_request(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        agent_id, other = await new_agent(served), await new_agent(served)
        first = await start(served, agent_id, json=user("hi"))
        assert await start(served, agent_id, json=user("hi"), headers=RETRY) == first
        assert await start(served, agent_id, json=user("hi", max_steps=3), headers=RETRY) != first
        assert await start(served, other, json=user("hi"), headers=RETRY) != first
        assert await start(served, agent_id, json=user("hi")) != first


@pytest.mark.parametrize(
    ("headers", "seconds", "same"),
    [
        ({"x-stainless-retry-count": "1", "x-stainless-read-timeout": "60"}, 70, True),
        ({"x-stainless-retry-count": "1", "x-stainless-read-timeout": "60"}, 80, False),
        ({"x-stainless-retry-count": "2", "x-stainless-read-timeout": "60"}, 140, True),
        ({"x-stainless-retry-count": "1", "x-stainless-read-timeout": "86400"}, 590, True),
        ({"x-stainless-retry-count": "1", "x-stainless-read-timeout": "86400"}, 610, False),
        ({"x-stainless-retry-count": "1"}, 590, True),
        ({"x-stainless-retry-count": "1", "x-stainless-read-timeout": "nan"}, 590, True),
        ({"x-stainless-retry-count": "1", "x-stainless-read-timeout": "-1e30"}, 590, True),
        ({"x-stainless-retry-count": "1", "x-stainless-read-timeout": "soon"}, 610, False),
        ({"x-stainless-retry-count": "many"}, 1, False),
        ({"x-stainless-retry-count": "0"}, 1, False),
    ],
)
async def test_a_retry_reaches_back_as_far_as_its_first_try_can_be(
    pool: Pool, provider: Provider, headers: dict[str, str], seconds: int, same: bool
) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        first = await start(served, agent_id, json=user("hi"))
        async with connection(pool) as conn:
            await conn.execute("update inbox set accepted_at = now() - $1 * interval '1 s'", seconds)
        assert (await start(served, agent_id, json=user("hi"), headers=headers) == first) is same


@pytest.mark.parametrize("otid", [None, "mine"])
async def test_a_retry_is_answered_although_its_own_run_keeps_the_conversation_busy(
    pool: Pool, provider: Provider, otid: str | None
) -> None:
    await provider.script([{"text": "slow", "gate": "go"}])
    body = user("hi", streaming=False, message={"otid": otid})
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        path = f"/v1/conversations/{agent_id}/messages"
        answers: list[Any] = []

        async def ask(headers: dict[str, str]) -> None:
            answers.append(await served.json("POST", path, json=body, headers=headers))

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, {})
                await provider.log(requests=1, keep=True)
                tasks.start_soon(ask, RETRY)
                await served.json("POST", path, json=user("other"), status=409)
                await provider.open("go")
        assert answers[0] == answers[1]
    assert len(await accepted(pool)) == 1
