"""The routes of runs: reading them, and taking up their streams."""

from typing import Any

import anyio
import msgspec
import pytest

from actors import clock
from bench.provider import Provider
from storage.pool import Pool, connection
from tests.gateway.rest.talking import events, kinds, new_agent, talking, user
from tests.serving import Served

CALL = {
    "text": "Noting.",
    "tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}}],
}
MEMORY = {"memory_blocks": [{"label": "human", "value": ""}]}


async def background(served: Served, agent_id: str, *, tokens: bool = True, **more: Any) -> str:
    """Run a turn in the background to its end; return its stream as text."""
    body = user("I like tea", streaming=True, background=True, stream_tokens=tokens, **more)
    response = await served.http.post(f"/v1/agents/{agent_id}/messages", json=body, timeout=15)
    assert response.status_code == 200, response.text
    return response.text


async def resumed(served: Served, run_id: str, **body: Any) -> list[dict[str, Any]]:
    response = await served.http.post(f"/v1/runs/{run_id}/stream", json=body, timeout=15)
    assert response.status_code == 200, response.text
    return events(response.text)


def numbered(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in shown if event["message_type"] != "ping"]


async def test_a_run_is_read_and_listed_and_filtered(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        one, other = await new_agent(served), await new_agent(served)
        for agent_id in (one, other, one):
            await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("hi"))
        listed = await served.json("GET", "/v1/runs/")
        assert [run["agent_id"] for run in listed] == [one, other, one]
        assert await served.json("GET", f"/v1/runs/{listed[0]['id']}") == listed[0]

        async def ids(**query: Any) -> list[str]:
            return [run["id"] for run in await served.json("GET", "/v1/runs/", params=query)]

        newest, middle, oldest = (run["id"] for run in listed)
        assert await ids(agent_id=one) == await ids(agent_ids=[one]) == [newest, oldest]
        assert await ids(order="asc") == await ids(ascending=True) == [oldest, middle, newest]
        assert await ids(after=newest, limit=1) == [middle]
        assert await ids(before=oldest) == [newest, middle]
        assert await ids(statuses=["failed", "cancelled"]) == await ids(active=True) == []
        assert await ids(stop_reason="end_turn") == [newest, middle, oldest]
        assert await ids(background=True) == []
        assert await ids(conversation_id=other) == [middle]
        assert await ids(conversation_id="default", agent_id=other) == [middle]
        await served.json("GET", "/v1/runs/", params={"conversation_id": "default"}, status=422)
        await served.json("GET", "/v1/runs/", params={"stop_reason": "boredom"}, status=422)
        await served.json("GET", "/v1/runs/run-00000000-0000-4000-8000-000000000000", status=404)
        await served.json("GET", "/v1/runs/run-1", status=422)


async def test_a_runs_usage_is_that_of_its_steps(pool: Pool, provider: Provider) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    await provider.script([{**CALL, "usage": usage}, {"text": "Noted.", "usage": usage}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        answer = await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("hi"))
        found = await served.json("GET", f"/v1/runs/{answer['usage']['run_ids'][0]}/usage")
    assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (20, 8, 28)
    assert answer["usage"]["total_tokens"] == 28


@pytest.mark.parametrize("tokens", [False, True])
async def test_a_background_stream_is_taken_up_at_every_number_exactly(
    pool: Pool, provider: Provider, tokens: bool
) -> None:
    await provider.script([CALL, {"text": "Noted, and so on."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        shown = numbered(events(await background(served, agent_id, tokens=tokens)))
        numbers = [event["seq_id"] for event in shown[:-2]]
        assert numbers == list(range(1_000_001, 1_000_001 + len(numbers)))
        run_id = shown[0]["run_id"]
        for place, number in enumerate([0, *numbers]):
            rest = await resumed(served, run_id, starting_after=number)
            assert rest[0]["message_type"] == "ping"
            assert rest[0]["seq_id"] == (number or 0)
            assert numbered(rest) == shown[place:]
        quiet = await resumed(served, run_id, include_pings=False)
        assert quiet == shown


async def test_a_running_stream_is_taken_up_live(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three four", "gate": "go", "gate_after": 2}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        whole: list[dict[str, Any]] = []
        late: list[dict[str, Any]] = []

        async def first() -> None:
            whole.extend(numbered(events(await background(served, agent_id))))

        async def second(run_id: str) -> None:
            late.extend(numbered(await resumed(served, run_id, starting_after=1_000_001)))

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first)
                await provider.log(requests=1, keep=True)
                [run] = await served.json("GET", "/v1/runs/", params={"active": True, "background": True})
                tasks.start_soon(second, run["id"])
                await provider.open("go")
        assert late == whole[1:]


async def test_types_chosen_at_first_hold_when_a_stream_is_taken_up(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        text = await background(
            served, agent_id, tokens=False, include_return_message_types=["tool_return_message"]
        )
        shown = numbered(events(text))
        assert kinds(shown) == ["tool_return_message", "stop_reason", "usage_statistics"]
        assert numbered(await resumed(served, shown[0]["run_id"])) == shown


async def test_a_trimmed_stream_is_told_from_stored_messages_and_one_day_no_more(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        shown = numbered(events(await background(served, agent_id)))
        run_id = shown[0]["run_id"]
        served.host.logs.budget_bytes = 0
        served.host.logs.trim()
        told = numbered(await resumed(served, run_id, starting_after=shown[-3]["seq_id"]))
        assert kinds(told) == [
            "assistant_message",
            "tool_call_message",
            "tool_return_message",
            "assistant_message",
            "stop_reason",
            "usage_statistics",
        ]
        assert [event["seq_id"] for event in told[:-2]] == [2_000_001, 2_000_002, 2_000_003, 2_000_004]
        assert told[-1] == shown[-1]
        assert numbered(await resumed(served, run_id, starting_after=2_000_003)) == told[3:]
        again = await served.json("GET", f"/v1/runs/{run_id}/messages")
        stored = [m for m in again if m["message_type"] != "user_message"]
        assert [{**event, "seq_id": None} for event in told[:-2]] == stored
        async with connection(pool) as conn:
            await conn.execute("update runs set completed_at = now() - interval '3 hours 1 second'")
        await served.json("POST", f"/v1/runs/{run_id}/stream", status=410)


async def test_a_foreground_run_cannot_be_taken_up(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        answer = await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("hi"))
        run_id = answer["usage"]["run_ids"][0]
        refused = await served.json("POST", f"/v1/runs/{run_id}/stream", status=400)
        assert "was not created in background mode" in refused["detail"]
        missing = "run-00000000-0000-4000-8000-000000000000"
        await served.json("POST", f"/v1/runs/{missing}/stream", status=404)
        await served.json("POST", f"/v1/runs/{run_id}/stream", json={"starting_after": -1}, status=422)


async def test_a_run_that_an_earlier_process_left_is_followed_when_it_wakes(
    pool: Pool, provider: Provider
) -> None:
    """Nobody in this process knows the run yet when its stream is asked for; the poll finds it."""
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        run_id = clock.new_id("run")
        command = {
            "type": "send",
            "conversation_id": agent_id,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "background": True,
        }
        async with connection(pool) as conn:
            await conn.execute(
                "insert into runs (id, organization_id, agent_id, conversation_id, background)"
                " select $1, organization_id, id, id, true from agents where id = $2",
                run_id,
                agent_id,
            )
            await conn.execute(
                "insert into inbox (agent_id, conversation_id, run_id, key, request_hash, caller, command)"
                " values ($1, $1, $2, 'k', '', 'earlier', $3)",
                agent_id,
                run_id,
                msgspec.json.encode(command),
            )
        shown = await resumed(served, run_id)
    assert kinds(shown) == ["ping", "assistant_message", "stop_reason", "usage_statistics"]
