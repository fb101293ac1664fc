"""Runs are cancelled, steered and resumed over the websocket's methods."""

from typing import Any

from bench.provider import Provider
from gateway.auth import Caller
from storage.pool import Pool
from tests.gateway.calling import Calls, until
from tests.gateway.rest.talking import MODEL, new_agent, talking
from tests.gateway.rpc.test_agents import HI, SLOW, ended
from tests.serving import Served

RULE = {"type": "requires_approval", "tool_name": "memory_insert"}


def insertion(call_id: str, text: str = "Likes tea") -> dict[str, Any]:
    """Return a call that waits for an approval."""
    return {"name": "memory_insert", "arguments": {"label": "human", "new_string": text}, "id": call_id}


async def asking(served: Served, call: Calls, **fields: Any) -> tuple[str, str]:
    """Let an agent ask for approvals; return (agent, run)."""
    agent = await served.agent(
        model=MODEL, memory_blocks=[{"label": "human", "value": ""}], tool_rules=[RULE], **fields
    )
    run = (await call("agent.send", agent=agent["id"], messages=HI))["run"]
    await ended(served, run, agent["id"])
    return agent["id"], run


def answer(interrupt_id: str, status: str = "resolved", **payload: Any) -> dict[str, Any]:
    return {"interruptId": interrupt_id, "status": status, **({"payload": payload} if payload else {})}


async def value_of(served: Served, agent: str) -> str:
    block = await served.json("GET", f"/v1/agents/{agent}/core-memory/blocks/human")
    return block["value"]


async def busy(served: Served, call: Calls) -> tuple[str, str, str]:
    """Make an agent work and let one more run wait; return it, the run under way and the one that waits."""
    agent = await new_agent(served)
    running = (await call("agent.send", agent=agent, messages=HI))["run"]
    await until(lambda: served.host.running_step(agent, running))
    return agent, running, (await call("agent.send", agent=agent, messages=HI))["run"]


# --- cancel and steer -----------------------------------------------------------------------


async def test_a_run_is_cancelled_once(pool: Pool, provider: Provider) -> None:
    await provider.script([SLOW])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, running, waiting = await busy(served, call)
        for run in (waiting, running):
            said = await call("run.cancel", run=run)
            assert (said["accepted"], said["run"]) == (True, run)
            assert said["appliedThrough"]["channel"] == f"conv:{agent}"
            assert await ended(served, run, agent) == "cancelled"
            await call.refused("run.cancel", 409, "run already finished", run=run)


async def test_a_run_that_asks_is_cancelled_by_denying(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [insertion("c-1")]}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, run = await asking(served, call)
        await call("run.cancel", run=run)
        await call.refused("run.resume", 409, "c-1", agent=agent, resume=[answer("c-1", approved=True)])
        await call.refused("run.cancel", 409, "run already finished", run=run)


async def test_steering_joins_the_named_run_or_is_refused(pool: Pool, provider: Provider) -> None:
    await provider.script([SLOW])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, running, waiting = await busy(served, call)
        asked = {"run": running, "messages": HI, "clientMessageId": "s-1"}
        steered = await call("run.steer", **asked)
        assert steered["disposition"] == "steered"
        again = await call("run.steer", **asked)
        assert (again["run"], again["disposition"], again["replayed"]) == (steered["run"], "steered", True)
        await call.refused("run.steer", 409, "already used", **{**asked, "messages": [*HI, *HI]})
        await call.refused("run.steer", 409, "waits its turn", run=waiting, messages=HI)
        await provider.open("go")
        for run in (running, waiting, steered["run"]):
            assert await ended(served, run, agent) == "completed"
        await call.refused("run.steer", 409, "already finished", run=running, messages=HI)
        again = await call("run.steer", **asked)
        assert (again["run"], again["status"]) == (steered["run"], "completed")
        await call.refused("run.steer", 422, "messages: ", run=running, messages=[])


# --- resume ---------------------------------------------------------------------------------


async def test_all_interrupts_are_answered_at_once_and_once(pool: Pool, provider: Provider) -> None:
    calls = [insertion("c-1", "Likes tea"), insertion("c-2", "Hates rain")]
    await provider.script([{"tool_calls": calls}, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, _ = await asking(served, call)
        one = answer("c-1", approved=True)
        await call.refused("run.resume", 409, "missing: c-2", agent=agent, resume=[one])
        strange = [one, answer("c-2", "cancelled"), answer("c-3", approved=True)]
        await call.refused(
            "run.resume", 409, "nothing waits for an answer to c-3", agent=agent, resume=strange
        )
        edited = answer("c-2", approved=True, editedArgs={"label": "human", "new_string": "Loves rain"})
        said = await call("run.resume", agent=agent, resume=[one, edited])
        assert said["accepted"] is True
        assert await ended(served, said["run"], agent) == "completed"
        assert await value_of(served, agent) == "Likes tea\nLoves rain"
        again = await call("run.resume", agent=agent, resume=[one, edited])
        assert (again["run"], again["replayed"], again["status"]) == (said["run"], True, "completed")
        other = [one, answer("c-2", approved=False)]
        await call.refused(
            "run.resume", 409, "nothing waits for an answer to c-1, c-2", agent=agent, resume=other
        )
        assert await value_of(served, agent) == "Likes tea\nLoves rain"


async def test_a_denial_tells_the_model_why(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [insertion("c-1")]}, {"text": "Well."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, _ = await asking(served, call)
        denied = answer("c-1", approved=False, reason="not that one")
        said = await call("run.resume", conversation=agent, resume=[denied])
        await ended(served, said["run"], agent)
        shown = (await call("history", agent=agent))["messages"]
        [result] = [m for m in shown if m["message_type"] == "tool_return_message"]
        assert "not that one" in result["tool_return"]


async def test_one_interrupt_after_the_other_is_answered(pool: Pool, provider: Provider) -> None:
    asks = [{"tool_calls": [insertion("c-1", text)]} for text in ("one", "two")]
    await provider.script([*asks, {"text": "Done."}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, _ = await asking(served, call)
        first = await call("run.resume", agent=agent, resume=[answer("c-1", approved=True)])
        await ended(served, first["run"], agent)
        [request] = await served.json("GET", f"/v1/agents/{agent}/pending-requests")
        [asked] = request["calls"]
        second = await call("run.resume", agent=agent, resume=[answer(asked["tool_call_id"], approved=True)])
        assert second["run"] != first["run"]
        assert await ended(served, second["run"], agent) == "completed"
        assert await value_of(served, agent) == "one\ntwo"


async def test_another_answer_to_the_same_interrupts_is_refused(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [insertion("c-1")]}, SLOW])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, _ = await asking(served, call)
        await call("run.resume", agent=agent, resume=[answer("c-1", approved=True)])
        await call.refused("run.resume", 409, "", agent=agent, resume=[answer("c-1", "cancelled")])
        await provider.open("go")


async def test_an_answer_says_what_it_says(pool: Pool, provider: Provider) -> None:
    await provider.script([{"tool_calls": [insertion("c-1")]}])
    async with talking(pool, provider) as served:
        call = Calls(served)
        agent, _ = await asking(served, call)
        for field, resume in (
            ("resume: ", []),
            ("resume: an interrupt is answered once", [answer("c-1", approved=True)] * 2),
            ("resume.0.payload.approved: ", [answer("c-1")]),
            ("resume.0.payload: ", [answer("c-1", approved=True, content="x")]),
            ("resume.0.payload.editedArgs: ", [answer("c-1", approved=False, editedArgs={})]),
            ("resume.0.payload.reason: ", [answer("c-1", approved=False, reason="x" * 10_001)]),
            ("resume.0.interruptId: ", [answer("", approved=True)]),
            ("$.resume[0].status", [answer("c-1", "maybe", approved=True)]),
            ("`yes`", [answer("c-1", yes=True)]),
        ):
            await call.refused("run.resume", 422, field, agent=agent, resume=resume)
        stranger = Calls(served, Caller("token:a", agents=frozenset()))
        await stranger.refused("run.resume", 404, "", agent=agent, resume=[answer("c-1", approved=True)])
