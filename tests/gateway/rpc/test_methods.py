"""Calls: found, allowed, decoded, bounded in time."""

from typing import Any

import anyio
import pytest
from msgspec import Struct

from bench.provider import Provider
from gateway.auth import READ, SCOPES, Caller
from gateway.config import Settings
from gateway.errors import AnswerTooLargeError
from gateway.rpc.method import Call, Method
from gateway.rpc.methods import ANSWER_BYTES, METHODS, Rpc
from storage.pool import Pool
from tests.gateway.calling import Calls, Logs
from tests.gateway.rest.talking import new_agent, talking

NOBODY = "agent-00000000-0000-4000-8000-00000000000a"
RUN = "run-00000000-0000-4000-8000-00000000000a"
SAMPLES: dict[str, dict[str, Any]] = {
    "agent.send": {"agent": NOBODY, "messages": [{"role": "user", "content": "hi"}]},
    "agent.list": {},
    "run.cancel": {"run": RUN},
    "run.steer": {"run": RUN, "messages": [{"role": "user", "content": "hi"}]},
    "run.resume": {"agent": NOBODY, "resume": [{"interruptId": "i", "status": "cancelled"}]},
    "tool.result": {"agent": NOBODY, "toolCallId": "c", "content": "x"},
    "memory.update": {"agent": NOBODY, "label": "human", "value": "x"},
    "context.get": {"agent": NOBODY},
    "conversation.create": {"agent": NOBODY},
    "history": {"agent": NOBODY},
}


def test_the_methods_are_those_of_the_protocol() -> None:
    assert {method.name for method in METHODS} == set(SAMPLES)
    assert all(method.scope in SCOPES for method in METHODS)


async def test_a_method_that_does_not_exist_is_named(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        call = Calls(served)
        await call.refused("agent.sned", 104, "known: agent.send", agent="x")


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_every_method_needs_its_scope_and_an_agent_that_is_there(
    method: Method, pool: Pool, provider: Provider
) -> None:
    sample = SAMPLES[method.name]
    async with talking(pool, provider) as served:
        poor = Calls(served, Caller("token:a", scopes=SCOPES - {method.scope}))
        await poor.refused(method.name, 403, method.scope, **sample)
        if sample:
            await Calls(served).refused(method.name, 404, "not found", **sample)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_agents_of_others_are_not_there(method: Method, pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        run = (await Calls(served)("agent.send", agent=agent, messages=[{"role": "user", "content": "x"}]))[
            "run"
        ]
        sample = {**SAMPLES[method.name]}
        sample |= {name: value for name, value in {"agent": agent, "run": run}.items() if name in sample}
        for stranger in (Caller("token:a", "org-other"), Caller("token:a", agents=frozenset({NOBODY}))):
            call = Calls(served, stranger)
            if method.name == "agent.list":
                assert (await call("agent.list"))["agents"] == []
            else:
                await call.refused(method.name, 404, "not found", **sample)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_unknown_fields_and_other_shapes_are_refused_by_name(
    method: Method, pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        call = Calls(served)
        await call.refused(method.name, 422, "`nope`", **SAMPLES[method.name], nope=1)
        for wrong in (b"null", b"[]", b"1", b'"x"', b"{", b"", b"{}x", b"\xff", b'{"a":NaN}'):
            await call.refused_raw(method.name, 422, "", wrong)
        deep = b'{"a":' * 200 + b"1" + b"}" * 200
        await call.refused_raw(method.name, 422, "nested deeper", deep)


async def test_a_fault_names_its_field(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        call = Calls(served)
        message, tool = {"role": "user", "content": "hi"}, {"name": "a b"}
        faults: tuple[tuple[str, dict[str, Any]], ...] = (
            ("agent: expected", {"agent": "agent-1", "messages": [message]}),
            ("conversation: expected", {"agent": agent, "conversation": "c-1", "messages": [message]}),
            ("agent: name the agent", {"messages": [message]}),
            ("$.messages[0].role", {"agent": agent, "messages": [{**message, "role": "boss"}]}),
            ("messages.0.content: ", {"agent": agent, "messages": [{**message, "content": []}]}),
            ("messages: ", {"agent": agent, "messages": []}),
            ("$.whenBusy", {"agent": agent, "messages": [message], "whenBusy": "never"}),
            ("$.maxSteps", {"agent": agent, "messages": [message], "maxSteps": 0}),
            ("$.clientMessageId", {"agent": agent, "messages": [message], "clientMessageId": ""}),
            (
                "clientTools.0.name: ",
                {"agent": agent, "messages": [message], "clientTools": [tool]},
            ),
            ("NUL", {"agent": agent, "messages": [{**message, "content": "a\0b"}]}),
        )
        for field, data in faults:
            await call.refused("agent.send", 422, field, **data)
        await call.refused("run.cancel", 422, "run: expected", run="run-1")
        await call.refused("history", 422, "$.limit", agent=agent, limit=1001)


class Nothing(Struct, frozen=True):
    """Nothing."""


async def answer_at_length(call: Call, data: Nothing) -> str:
    return "x" * ANSWER_BYTES


async def test_an_answer_that_no_frame_holds_is_refused(pool: Pool, provider: Provider) -> None:
    long = Method(
        name="long", data=Nothing, answer=str, scope=READ, run=answer_at_length, summary="Says much"
    )
    async with talking(pool, provider) as served:
        methods = Rpc(served.host, Settings(), Logs(served), methods=[long])
        with pytest.raises(AnswerTooLargeError):
            await methods.call(Caller("x"), "long", b"{}")


async def test_a_method_has_a_deadline(pool: Pool, provider: Provider) -> None:
    async def hang(call: Call, data: Nothing) -> None:
        await anyio.sleep_forever()

    slow = Method(name="slow", data=Nothing, answer=None, scope=READ, run=hang, summary="Hangs", seconds=0.01)
    async with talking(pool, provider) as served:
        methods = Rpc(served.host, Settings(), Logs(served), methods=[slow])
        with pytest.raises(TimeoutError):
            await methods.call(Caller("x"), "slow", b"{}")
