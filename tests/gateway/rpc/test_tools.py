"""Clients give the results of calls that they run."""

from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.calling import Calls
from tests.gateway.rest.talking import new_agent, talking
from tests.gateway.rpc.test_agents import HI, ended
from tests.gateway.rpc.test_runs import asking, insertion
from tests.serving import Served

WEATHER = {"name": "weather", "description": "The weather", "parameters": {"type": "object"}}


def weather(call_id: str) -> dict[str, Any]:
    return {"name": "weather", "arguments": {}, "id": call_id}


async def offering(served: Served, call: Calls) -> str:
    """Let an agent wait for a client's results; return it."""
    agent = await new_agent(served)
    run = (await call("agent.send", agent=agent, messages=HI, clientTools=[WEATHER]))["run"]
    await ended(served, run, agent)
    return agent


async def returns(call: Calls, agent: str) -> list[tuple[Any, str]]:
    shown = (await call("history", agent=agent))["messages"]
    found = [m["tool_returns"] for m in shown if m["message_type"] == "tool_return_message"]
    return [(one["tool_return"], one["status"]) for together in found for one in together]


async def test_a_result_goes_to_whoever_waits_for_it(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [weather("c-1")]}, {"text": "Sunny."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent = await offering(served, call)
        said = await call("tool.result", toolCallId="c-1", content="42")
        assert await ended(served, said["run"], agent) == "completed"
        assert await returns(call, agent) == [("42", "success")]
        await call.refused("tool.result", 409, "c-1", toolCallId="c-1", content="42")
        again = await call("tool.result", agent=agent, toolCallId="c-1", content="42")
        assert (again["run"], again["replayed"]) == (said["run"], True)


async def test_the_results_of_one_step_come_together(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [weather("c-1"), weather("c-2")]}, {"text": "Both."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent = await offering(served, call)
        await call.refused("tool.result", 409, "missing: c-2", toolCallId="c-1", content="1")
        failed = {"toolCallId": "c-2", "content": "broken", "status": "error"}
        said = await call("tool.result", toolCallId="c-1", content="1", further=[failed])
        await ended(served, said["run"], agent)
        assert sorted(await returns(call, agent)) == [("1", "success"), ("broken", "error")]
        twice = {"toolCallId": "c-1", "content": "1"}
        await call.refused("tool.result", 422, "further: ", **twice, further=[twice])


CLICK = {"type": "text", "text": "Click."}


def picture(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


async def seen(provider: Provider, requests: int) -> list[Any]:
    """Return the pictures that the model was shown last."""
    log = await provider.log(requests=requests, ended=requests)
    content = log[-1].body["messages"][-1]["content"]
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


async def test_results_of_one_step_may_hold_images(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [weather("c-1"), weather("c-2")]}, {"text": "Both."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent = await offering(served, call)
        wrong = {"toolCallId": "c-1", "content": [CLICK, picture("file:///a.png")]}
        await call.refused("tool.result", 422, "content.1.source.url: ", **wrong)
        other = {"toolCallId": "c-2", "content": [picture("https://x.example/b.png")]}
        first = {"toolCallId": "c-1", "content": [CLICK, picture("https://x.example/a.png")]}
        said = await call("tool.result", **first, further=[other])
        assert await ended(served, said["run"], agent) == "completed"
        assert await seen(provider, 2) == ["https://x.example/a.png", "https://x.example/b.png"]
        assert await returns(call, agent) == [
            (first["content"], "success"),
            (other["content"], "success"),
        ]


async def test_a_resume_may_hold_images(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [weather("c-1")]}, {"text": "Sunny."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent = await offering(served, call)
        payload = {"content": [CLICK, picture("https://x.example/a.png")]}
        resume = [{"interruptId": "c-1", "status": "resolved", "payload": payload}]
        said = await call("run.resume", agent=agent, resume=resume)
        await ended(served, said["run"], agent)
        assert await seen(provider, 2) == ["https://x.example/a.png"]


async def test_two_calls_of_one_id_need_an_address(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [weather("c-1")], "repeat": 2}, {"text": "a", "repeat": 2}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        first, second = await offering(served, call), await offering(served, call)
        await call.refused("tool.result", 400, "conversation: ", toolCallId="c-1", content="1")
        for agent in (second, first):
            said = await call("tool.result", conversation=agent, toolCallId="c-1", content="1")
            assert said["conversation"] == agent


async def test_a_decision_is_no_result(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [insertion("c-1")]}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, _ = await asking(served, call)
        for place in ({}, {"agent": agent}):
            await call.refused("tool.result", 400, "run.resume", toolCallId="c-1", content="1", **place)
        await call.refused("tool.result", 422, "toolCallId: ", toolCallId="", content="1")


async def test_a_client_s_result_may_come_as_a_resume(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [weather("c-1")]}, {"text": "Sunny."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent = await offering(served, call)
        yes = {"interruptId": "c-1", "status": "resolved", "payload": {"approved": True}}
        await call.refused("run.resume", 400, "c-1", agent=agent, resume=[yes])
        result = {"interruptId": "c-1", "status": "resolved", "payload": {"content": "42"}}
        said = await call("run.resume", agent=agent, resume=[result])
        await ended(served, said["run"], agent)
        assert await returns(call, agent) == [("42", "success")]
