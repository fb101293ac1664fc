"""AG-UI over server-sent events, on a real database with a scripted model."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import jwt
import pytest
from ag_ui.core import AgentCapabilities
from ag_ui_validate.transport import TransportOptions, validate_endpoint
from letta_client.types.agents.letta_streaming_response import LettaStopReason, LettaUsageStatistics

from actors import clock, headstart, recalling
from bench.provider import Provider
from gateway import threads
from gateway.agui import source as agui_source
from gateway.agui import stream as agui_stream
from gateway.config import Settings
from gateway.rest import agui as agui_rest
from storage.pool import Conn, Pool, connection
from tests.gateway import agui_streams
from tests.gateway.rest.agui_runs import INSERT, RULE, WEATHER, Runner, of, run_of, runner, said, text
from tests.gateway.rest.talking import talking
from tests.serving import listening

ASK = {"text": "May I?", "tool_calls": [INSERT]}
THINKS = {"reasoning": "Better note it.", "text": "One moment.", "tool_calls": [INSERT]}
YES = [{"interruptId": "call-1", "status": "resolved", "payload": {"approved": True}}]
SECRET = "s" * 32


async def test_a_live_endpoint_leaves_the_validator_nothing_to_say(pool: Pool, provider: Provider) -> None:
    await provider.script([{**THINKS, "gap_ms": 60}, {"text": "Noted."}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await runner(served)
        result = await validate_endpoint(f"{url}{agent.path}", TransportOptions(timeout_ms=20_000))
    assert result.transport_error is None
    assert result.event_count > 20
    assert (result.report.summary.errors, result.report.summary.warnings) == (0, 0), result.report.diagnostics
    rules = {d.rule for d in result.report.diagnostics}
    assert "AGUI507" not in rules  # it is not buffered


async def test_what_is_new_to_a_conversation_is_asked_while_it_is_accepted(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a process's first message on: that nothing of it was heard before has been looked up."""
    begun: list[str] = []
    begin = headstart.HeadStart.begin

    def noted(self: headstart.HeadStart) -> None:
        begun.append(self.step_id)
        begin(self)

    monkeypatch.setattr(headstart.HeadStart, "begin", noted)
    async with talking(pool, provider) as served:
        agent = await runner(served)
        await agent.run("wakes it")
        begun.clear()
        await agent.run("I like tea")
        assert len(begun) == 1
        repeated = agent.body("I like cake")
        first, again = await agent.post(repeated), await agent.post(repeated)
        assert run_of(agui_streams.events(again.text)) == run_of(agui_streams.events(first.text))
        assert len(begun) == 2, "what is said again is answered, and no model is asked"


async def test_thoughts_text_calls_and_memory_are_told(pool: Pool, provider: Provider) -> None:
    await provider.script([THINKS, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        found = await agent.run("I like tea")
    assert text(found) == "One moment.Noted."
    assert "".join(e["delta"] for e in of(found, "REASONING_MESSAGE_CONTENT")) == "Better note it."
    assert [e["content"] for e in of(found, "TOOL_CALL_RESULT")] == ["Likes tea"]
    (edit,) = of(found, "CUSTOM:wakeful.memory")
    assert edit["value"]["diff"] == {"at": 0, "removed": "", "added": "Likes tea"}
    held = agui_streams.state(found)
    assert held["memory"]["blocks"]["human"]["value"] == "Likes tea"
    assert (held["status"], held["context"]["used"] > 0) == ("idle", True)
    assert len(of(found, "CUSTOM:wakeful.timing")) == 2
    assert found[-1]["usage"][0]["outputTokens"] > 0


async def test_a_run_ends_with_what_lettas_clients_are_told(pool: Pool, provider: Provider) -> None:
    refused = {"status": 400, "body": {"error": {"message": "no"}}}
    await provider.script([THINKS, {"text": "Noted."}, refused])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        done, failed = await agent.run("I like tea"), await agent.run("hi")
        later = await agent.run()
        run = await served.json("GET", f"/v1/runs/{run_of(done)}/usage")
    for found in (done, failed, later):
        (stop,) = of(found, "CUSTOM:letta.stop_reason")
        (usage,) = of(found, "CUSTOM:letta.usage_statistics")
        assert found.index(stop) < found.index(usage) < len(found) - 1
        assert LettaStopReason.model_validate(stop["value"]).stop_reason == stop["value"]["stop_reason"]
        assert set(usage["value"]) <= set(LettaUsageStatistics.model_fields)
        assert usage["value"]["run_ids"] == [run_of(found)]
    reasons = [of(one, "CUSTOM:letta.stop_reason")[0]["value"]["stop_reason"] for one in (done, failed)]
    assert (reasons[0], done[-1]["type"]) == (done[-1]["result"]["stop_reason"], "RUN_FINISHED")
    assert (reasons[1], failed[-1]["type"]) == (
        failed[-1]["metadata"]["wakeful"]["stop_reason"],
        "RUN_ERROR",
    )
    used = LettaUsageStatistics.model_validate(of(done, "CUSTOM:letta.usage_statistics")[0]["value"])
    assert used.step_count == 2
    assert used.prompt_tokens == run["prompt_tokens"] == done[-1]["usage"][0]["inputTokens"]


async def test_a_run_that_is_told_by_what_is_stored_ends_like_the_live_one(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "Hello."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        live = await agent.run("hi")
    async with talking(pool, provider) as served:
        agent.served = served
        stored = agui_streams.events(await agent.resume(run_of(live)))
    agui_streams.check(stored)
    for kind in ("CUSTOM:letta.stop_reason", "CUSTOM:letta.usage_statistics"):
        assert of(stored, kind) == of(live, kind)


async def test_what_fills_the_window_is_told_as_the_route_of_the_context_counts_it(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([THINKS, {"text": "Noted."}, {"text": "Hi."}])
    async with talking(pool, provider) as served:
        agent = await runner(served, "default")
        found = await agent.run("I like tea")
        context = await served.json("GET", f"/v1/agents/{agent.agent_id}/context")
        (told,) = of(found, "CUSTOM:letta.context_window")
        shown = dict(told["value"])
        assert shown.pop("runId") == run_of(found)
        assert shown == {name: context[name] for name in shown}
        assert set(context) - set(shown) > {"messages", "system_prompt"}, "figures, and no texts"
        assert of(await agent.run("hello"), "CUSTOM:letta.context_window") == []


async def test_two_runs_of_a_thread_share_a_conversation(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "One."}, {"text": "Two."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        first, second = await agent.run("a"), await agent.run("b")
        agui_streams.check(first + second)
        ids = [e[0]["metadata"]["wakeful"]["conversation"] for e in (first, second)]
        assert ids[0] == ids[1] != agent.agent_id
        history = await served.json("GET", f"/v1/conversations/{ids[0]}/messages", params={"order": "asc"})
        sent = [(m["content"], m["otid"]) for m in history if m["message_type"] == "user_message"]
        assert sent == [("a", "user-a"), ("b", "user-b")]
        conv = Runner(served, agent.agent_id, ids[0])
        conv.history = agent.history
        assert (await conv.run("c"))[0]["metadata"]["wakeful"]["conversation"] == ids[0]
        for thread in ("default", agent.agent_id):
            own = await Runner(served, agent.agent_id, thread).run("hi")
            assert own[0]["metadata"]["wakeful"]["conversation"] == agent.agent_id
            assert own[0]["threadId"] == thread


async def test_the_same_request_again_follows_the_same_run(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "Only once."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        body = agent.body("hi")
        answers: list[list[dict[str, Any]]] = []

        async def post() -> None:
            answers.append(agui_streams.events((await agent.post(body)).text))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post)
            tasks.start_soon(post)
        await post()
        assert len({run_of(found) for found in answers}) == 1
        assert {text(found) for found in answers} == {"Only once."}
        assert {found[-1]["runId"] for found in answers} == {body["runId"]}
        assert len(await provider.log()) == 1
        again = {**body, "messages": [*body["messages"], said("more")]}
        assert (await agent.post(again)).status_code == 409


async def test_an_interrupt_ends_a_run_and_a_resume_goes_on(pool: Pool, provider: Provider) -> None:
    await provider.script([ASK, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent = await runner(served, tool_rules=[RULE])
        asked = await agent.run("I like tea")
        assert asked[-1]["outcome"]["interrupts"][0]["id"] == "call-1"
        (history,) = of(asked, "MESSAGES_SNAPSHOT")
        assert [m["role"] for m in history["messages"]] == ["user", "assistant", "assistant"]
        open_ = (await agent.run())[-1]["outcome"]
        assert open_["interrupts"][0]["id"] == "call-1"
        refused = await agent.post(agent.body(resume=[{**YES[0], "interruptId": "call-2"}]))
        assert refused.status_code == 409
        busy = await agent.post(agent.body("hello?"))
        assert busy.status_code == 409
        agent.history.pop()
        body = agent.body(resume=YES)
        done = agui_streams.events((await agent.post(body)).text)
        agui_streams.check(done)
        assert text(done) == "Noted."
        assert [e["content"] for e in of(done, "TOOL_CALL_RESULT")] == ["Likes tea"]
        again = agui_streams.events((await agent.post(body)).text)
        assert run_of(again) == run_of(done)
        assert len(await provider.log()) == 2


async def test_a_denied_call_does_not_run(pool: Pool, provider: Provider) -> None:
    await provider.script([ASK, {"text": "Then not."}])
    async with talking(pool, provider) as served:
        agent = await runner(served, tool_rules=[RULE])
        await agent.run("I like tea")
        done = await agent.run(resume=[{"interruptId": "call-1", "status": "cancelled"}])
    (result,) = of(done, "TOOL_CALL_RESULT")
    assert result["metadata"]["wakeful"]["status"] == "error"
    assert agui_streams.state(done)["memory"]["blocks"]["human"]["value"] == ""


async def test_the_client_runs_its_own_tools(pool: Pool, provider: Provider) -> None:
    call = {"name": "weather", "arguments": {}, "id": "call-w"}
    await provider.script([{"tool_calls": [call]}, {"text": "Sunny."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        asked = await agent.run("outside?", tools=[WEATHER])
        assert asked[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["call-w"]}
        result = {"id": "r1", "role": "tool", "toolCallId": "call-w", "content": "18 degrees"}
        agent.history.append(result)
        done = await agent.run(tools=[WEATHER])
        assert text(done) == "Sunny."
        _, second = await provider.log(requests=2)
        assert second.body["messages"][-1]["content"] == "18 degrees"


async def test_a_client_s_result_may_hold_an_image_and_is_shown_with_it(
    pool: Pool, provider: Provider
) -> None:
    call = {"name": "weather", "arguments": {}, "id": "call-w"}
    await provider.script([{"tool_calls": [call]}, {"text": "Sunny."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        await agent.run("outside?", tools=[WEATHER])
        shot: Any = {"type": "image", "source": {"type": "url", "value": "file:///a.png"}}
        parts = [{"type": "text", "text": "Look."}, shot]
        agent.history.append({"id": "r1", "role": "tool", "toolCallId": "call-w", "content": parts})
        refused = await agent.post(agent.body(tools=[WEATHER]))
        assert (refused.status_code, "source/url" in refused.text) == (422, True)
        shot["source"]["value"] = "https://x.example/a.png"
        done = agui_streams.events((await agent.post(agent.body(tools=[WEATHER]))).text)
        agui_streams.check(done, off=("AGUI504",))  # this validator knows contents of text alone
        assert text(done) == "Sunny."
        assert [e["content"] for e in of(done, "TOOL_CALL_RESULT")] == [parts]
        _, second = await provider.log(requests=2)
        assert second.body["messages"][-1]["content"][-1]["image_url"]["url"] == "https://x.example/a.png"
        shown = await Runner(served, agent.agent_id, agent.thread).run()
        (snapshot,) = of(shown, "MESSAGES_SNAPSHOT")
        assert [m["content"] for m in snapshot["messages"] if m["role"] == "tool"] == [parts]


async def test_a_cancelled_run_is_cancelled_in_its_stream(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a b c d", "gate": "never", "gate_after": 2}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        found: list[dict[str, Any]] = []

        async def ask() -> None:
            found.extend(await agent.run("hi"))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await provider.log(requests=1, keep=True)
                await served.json("POST", f"/v1/agents/{agent.agent_id}/messages/cancel")
    assert found[-1]["outcome"] == {"type": "cancelled"}


async def test_a_failure_is_a_run_error(pool: Pool, provider: Provider) -> None:
    refused = {"status": 400, "body": {"error": {"message": "no"}}}
    await provider.script([refused, {"text": "Better."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        failed, done = await agent.run("hi"), await agent.run("again")
    assert failed[-1]["type"] == "RUN_ERROR"
    agui_streams.check(failed + done)


async def test_a_thread_whose_last_run_failed_says_so_until_there_is_news(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"status": 400, "body": {"error": {"message": "no"}}}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        failed, again = await agent.run("hi"), await agent.run()
    assert again[-1]["type"] == "RUN_ERROR"
    assert again[-1]["message"] == failed[-1]["message"]
    assert len(of(again, "MESSAGES_SNAPSHOT")) == 1


async def test_a_steering_run_joins_and_tells_the_rest(pool: Pool, provider: Provider) -> None:
    await provider.script([{**THINKS, "gate": "go"}, {"text": "Both done."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        found: dict[str, list[dict[str, Any]]] = {}

        async def ask(words: str, busy: str) -> None:
            found[words] = await agent.run(words, forwardedProps={"wakeful": {"whenBusy": busy}})

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, "I like tea", "queue")
                await provider.log(requests=1, keep=True)
                tasks.start_soon(ask, "and coffee", "steer")
                async with connection(pool) as conn:
                    while await conn.fetchval("select count(*) from inbox") < 2:
                        await anyio.sleep(0.01)
                await provider.open("go")
    assert text(found["and coffee"]) == "Both done."
    assert text(found["I like tea"]) == "One moment.Both done."
    assert of(found["I like tea"], "CUSTOM:wakeful.queue")[0]["value"]["change"] == "joined"


async def test_a_compaction_is_told(pool: Pool, provider: Provider) -> None:
    sums_up = {"text": "They count.", "match": "<conversation>", "repeat": "forever"}
    await provider.script([sums_up])
    async with talking(pool, provider) as served:
        agent = await runner(served, context_window_limit=6000)
        found: list[dict[str, Any]] = []
        for n in range(8):
            found += await agent.run(f"say {n} {'word ' * 900}")
        assert of(found, "CUSTOM:letta.compaction") or any(
            e["value"]["role"] == "summary" for e in of(found, "CUSTOM:wakeful.message")
        )
        agui_streams.check(found)


# --- who may --------------------------------------------------------------------------------------


def token(**claims: Any) -> dict[str, str]:
    signed = jwt.encode({"sub": "ada", "exp": 4e9, **claims}, SECRET, algorithm="HS256")
    return {"authorization": f"Bearer {signed}"}


async def test_a_token_opens_what_its_scopes_say(pool: Pool, provider: Provider) -> None:
    await provider.script([THINKS, {"text": "Noted."}, THINKS, {"text": "Noted."}])
    settings = Settings(api_key="key", jwt_secret=SECRET)
    async with talking(pool, provider, settings=settings) as served:
        served.http.headers["authorization"] = "Bearer key"
        agent = await runner(served)
        sees = await agent.post(agent.body("one"), headers=token())
        limited = token(scope="agent:read agent:send")
        blind = await agent.post(agent.body("two"), headers=limited)
        for secret in ('"note "', 'STATE_DELTA","delta":[{"op":"add","path":"/memory'):
            assert secret in sees.text
            assert secret not in blind.text
        agui_streams.check(agui_streams.events(blind.text))
        assert "memory" not in agui_streams.state(agui_streams.events(blind.text))
        reads = token(scope="agent:read")
        assert (await agent.post(agent.body("three"), headers=reads)).status_code == 403
        stranger = token(agents=[clock.new_id("agent")])
        assert (await agent.post(agent.body("three"), headers=stranger)).status_code == 404
        nobody = {"authorization": "Bearer nobody"}
        assert (await agent.post(agent.body("three"), headers=nobody)).status_code == 401
        run_id = sees.headers["x-wakeful-run-id"]
        events = f"{agent.path}/runs/{run_id}/events"
        assert '"note "' not in (await served.http.get(events, headers=reads)).text
        assert (await served.http.get(events, headers=stranger)).status_code == 404
        ticket = (await served.json("POST", "/v1/tickets", headers=reads))["ticket"]
        for status in (200, 401):
            answer = await served.http.get(events, params={"ticket": ticket}, headers={"authorization": ""})
            assert answer.status_code == status


async def test_a_stream_ends_with_its_token_and_the_run_goes_on(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three", "gate": "open", "gate_after": 1}])
    settings = Settings(api_key="key", jwt_secret=SECRET)
    async with talking(pool, provider, settings=settings) as served:
        served.http.headers["authorization"] = "Bearer key"
        agent = await runner(served)
        answer = await agent.post(agent.body("count"), headers=token(exp=clock.now().timestamp() + 1.5))
        found = agui_streams.events(answer.text)
        assert found[0]["type"] == "RUN_STARTED"
        assert (found[-1]["type"], found[-1]["code"]) == ("RUN_ERROR", "token_expired")
        seen = [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]
        await provider.open("open")
        rest = await agent.resume(answer.headers["x-wakeful-run-id"], seen[-1])
        whole = "".join(e["delta"] for e in found + agui_streams.events(rest) if "CONTENT" in e["type"])
        assert whole == "one two three"
        assert agui_streams.events(rest)[-1]["type"] == "RUN_FINISHED"


async def test_capabilities_are_what_the_official_type_says(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        given = await served.json("GET", "/v1/capabilities")
    read = AgentCapabilities.model_validate(given)
    assert not read.model_extra
    assert read.transport is not None
    assert (read.transport.streaming, read.transport.websocket, read.transport.resumable) == (True,) * 3


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"threadId": ""}, "/threadId"),
        ({"runId": 7}, "/runId"),
        ({"messages": [{"id": "a", "role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content/0"),
        ({"messages": [{"id": "a", "role": "king", "content": "x"}]}, "/messages/0/role"),
        ({"tools": [{"name": "no good"}]}, "/tools/0/name"),
        ({"resume": [{"interruptId": "x", "status": "maybe"}]}, "/resume/0/status"),
        ({"forwardedProps": {"wakeful": {"maxSteps": 0}}}, "/forwardedProps/wakeful/maxSteps"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_with_its_place(
    pool: Pool, provider: Provider, change: dict[str, Any], param: str
) -> None:
    async with talking(pool, provider) as served:
        agent = await runner(served)
        refused = await agent.post(agent.body("hi") | change)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == param


async def test_a_message_to_a_live_agent_reads_nothing_once_memory_knows_what_it_heard(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.script([{"text": "Here."}, {"text": "Still here."}, {"text": "Again."}])
    reads: list[str] = []

    def counted(where: str) -> Callable[[Pool], AbstractAsyncContextManager[Conn]]:
        def borrow(lender: Pool) -> AbstractAsyncContextManager[Conn]:
            reads.append(where)
            return connection(lender)

        return borrow

    async with talking(pool, provider) as served:
        agent = await runner(served)
        agent = Runner(served, agent.agent_id, agent.agent_id)
        await agent.run("Are you there?")
        for module in (threads, recalling, agui_rest, agui_stream, agui_source):
            monkeypatch.setattr(module, "connection", counted(module.__name__))
        context = [{"description": "The page", "value": "Settings"}]
        assert text(await agent.run("And now?", context=context)) == "Still here."
        assert reads == [recalling.__name__]
        found = await agent.run("And then?", context=context)
        assert text(found) == "Again."
        assert agui_streams.state(found)["memory"]["blocks"]
        assert reads == [recalling.__name__]
    asked = (await provider.log())[-1].body["messages"]
    assert str(asked).count("The application that the user works with says") == 1


async def test_what_a_live_agent_was_told_before_is_not_told_again(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": f"Answer {n}."} for n in range(4)])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        for word in ("one", "two", "three"):
            await agent.run(word)
        shown = agent.body()
        again = agui_streams.events((await agent.post(shown)).text)
        assert again[-1]["type"] == "RUN_FINISHED"
        assert len(of(again, "MESSAGES_SNAPSHOT")) == 1
        cut = {**agent.body(), "messages": [said("two")]}  # a client that forgot the rest
        assert len(of(agui_streams.events((await agent.post(cut)).text), "MESSAGES_SNAPSHOT")) == 1
        assert text(await agent.run("four")) == "Answer 3."
        asked = [
            [m["content"] for m in r.body["messages"] if m["role"] == "user"] for r in await provider.log()
        ]
    assert asked[-1] == ["one", "two", "three", "four"]
    assert len(asked) == 4
