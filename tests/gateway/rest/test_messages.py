"""The routes of messages: sending, in every way to be answered, and reading."""

from typing import Any

import anyio
import pytest
from letta_client.types.agents.tool_return import ToolReturn as AgentToolReturn

from actors.llm.providers import provider_for
from bench.provider import Provider
from storage.pool import Pool, connection
from tests.gateway.rest.talking import CALL, MEMORY, MODEL, events, kinds, new_agent, send, talking, user
from tests.serving import Served, serving

TURN = [
    "reasoning_message",
    "assistant_message",
    "tool_call_message",
    "tool_return_message",
    "assistant_message",
]


async def stream(served: Served, agent_id: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = await served.http.post(f"/v1/agents/{agent_id}/messages", json={"streaming": True, **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return events(response.text)


async def run_count(pool: Pool) -> int:
    async with connection(pool) as conn:
        return await conn.fetchval("select count(*) from runs")


async def test_an_answer_is_what_the_agent_said_and_did_without_the_input(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        answer = await send(served, agent_id, user("I like tea"))
    assert kinds(answer["messages"]) == TURN
    assert [m["otid"][-1] for m in answer["messages"][:3]] == ["0", "1", "2"]
    assert answer["messages"][3]["tool_return"] == "Likes tea"
    assert answer["messages"][-1]["content"] == "Noted."
    assert answer["stop_reason"] == {"message_type": "stop_reason", "stop_reason": "end_turn"}
    assert answer["usage"]["step_count"] == 2
    assert answer["usage"]["run_ids"] == [answer["messages"][0]["run_id"]]
    assert (answer["logprobs"], answer["turns"]) == (None, None)


async def test_message_types_of_an_answer_can_be_chosen(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted."}] * 2)
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        body = user("I like tea", include_return_message_types=["assistant_message"])
        answer = await send(served, agent_id, body)
        assert kinds(answer["messages"]) == ["assistant_message"] * 2
        streamed = await stream(served, agent_id, body)
    assert set(kinds(streamed)) == {"ping", "assistant_message", "stop_reason", "usage_statistics"}


async def test_a_stream_begins_with_a_ping_that_names_the_run_and_ends_with_reason_and_usage(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        shown = await stream(served, agent_id, user("I like tea"))
    assert kinds(shown) == ["ping", *TURN, "stop_reason", "usage_statistics"]
    assert shown[0]["run_id"] == shown[1]["run_id"] == shown[-1]["run_ids"][0]
    assert all(event.get("seq_id") is None for event in shown)


async def test_a_token_stream_adds_up_to_the_stored_messages(pool: Pool, provider: Provider) -> None:
    await provider.script([CALL, {"text": "Noted, for ever and ever."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        shown = await stream(served, agent_id, user("I like tea", stream_tokens=True, include_pings=False))
        run_id = shown[0]["run_id"]
        listed = await served.json("GET", f"/v1/runs/{run_id}/messages")
    assert kinds(shown)[0] != "ping"
    assert kinds(listed) == ["user_message", *TURN]
    for stored in listed[1:]:
        same = ("id", "message_type", "otid")
        parts = [e for e in shown if all(e.get(key) == stored[key] for key in same)]
        match stored["message_type"]:
            case "assistant_message":
                assert len(parts) >= 1
                assert "".join(part["content"] for part in parts) == stored["content"]
            case "reasoning_message":
                assert "".join(part["reasoning"] for part in parts) == stored["reasoning"]
            case "tool_call_message":
                joined = "".join(part["tool_call"]["arguments"] for part in parts)
                assert joined == stored["tool_call"]["arguments"]
            case _:
                assert len(parts) == 1


async def test_the_deprecated_alias_streams_whatever_the_body_says(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        response = await served.http.post(f"/v1/agents/{agent_id}/messages/stream", json={"input": "hi"})
    assert kinds(events(response.text)) == ["ping", "assistant_message", "stop_reason", "usage_statistics"]


@pytest.mark.parametrize(
    ("reply", "status", "kind"),
    [
        ({"status": 401}, 401, "llm_authentication"),
        ({"status": 400}, 400, "llm_bad_request"),
        ({"status": 402}, 402, "llm_insufficient_credits"),
        ({"status": 404}, 502, "llm_error"),
        ({"status": 429, "repeat": "forever", "headers": {"retry-after": "0"}}, 429, "llm_rate_limit"),
        ({"status": 503, "repeat": "forever", "headers": {"retry-after": "0"}}, 503, "llm_overloaded"),
    ],
)
async def test_a_models_failure_is_a_status_and_an_error_and_the_run_is_kept(
    pool: Pool, provider: Provider, reply: dict[str, Any], status: int, kind: str
) -> None:
    await provider.script([reply])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        path = f"/v1/agents/{agent_id}/messages"
        response = await served.http.post(path, json=user("hi"), timeout=15)
        body = response.json()
        assert response.status_code == status, body
        assert response.headers["x-should-retry"] == "false"
        assert body["error"]["message"] == body["detail"]
        assert body["error"]["type"] == kind
        [run] = await served.json("GET", "/v1/runs/")
        assert run["status"] == "failed"
        assert run["metadata"]["error"]["message"] == body["detail"]
        await provider.reset()
        assert kinds((await send(served, agent_id, user("and now?")))["messages"]) == ["assistant_message"]


async def test_a_models_failure_in_a_stream_is_an_error_event(pool: Pool, provider: Provider) -> None:
    await provider.script([{"status": 401}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        response = await served.http.post(
            f"/v1/agents/{agent_id}/messages", json=user("hi", streaming=True), timeout=15
        )
    assert response.status_code == 200
    assert "\n\nevent: error\ndata: " in response.text
    ping, reason, error = events(response.text)
    assert ping["message_type"] == "ping"
    assert reason == {"message_type": "stop_reason", "stop_reason": "llm_api_error"}
    assert (error["error_type"], error["run_id"]) == ("llm_authentication", ping["run_id"])


async def test_another_model_and_system_prompt_hold_for_one_run(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        body = user("hi", override_model="openai/other", override_system="Be a cat.")
        await send(served, agent_id, body)
        await send(served, agent_id, user("hi"))
        first, second = await provider.log()
    assert (first.model, first.body["messages"][0]["content"]) == ("other", "Be a cat.")
    assert second.model == "scripted"
    assert second.body["messages"][0]["content"] != "Be a cat."


async def test_an_unknown_model_is_refused_before_anything_is_accepted(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        refused = await send(served, agent_id, user("hi", override_model="nobody/x"), status=404)
        assert "nobody/x" in refused["detail"]
        assert await run_count(pool) == 0


async def test_the_same_otids_name_the_same_run(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        body = user("hi", message={"otid": "mine"})
        first = await send(served, agent_id, body)
        again = await send(served, agent_id, body)
        streamed = await stream(served, agent_id, body)
        assert again == first
        assert streamed[1] == first["messages"][0]
        assert len(await provider.log()) == 1
        other = await send(served, agent_id, user("ho", message={"otid": "mine"}), status=409)
        assert other["run_id"] == first["usage"]["run_ids"][0]


async def test_a_retry_of_the_sdk_is_attached_to_the_run_it_lost(pool: Pool, provider: Provider) -> None:
    retry = {"x-stainless-retry-count": "1", "x-stainless-read-timeout": "60"}
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        first = await send(served, agent_id, user("hi"))
        again = await send(served, agent_id, user("hi"), headers=retry)
        other = await send(served, agent_id, user("something else"), headers=retry)
        anew = await send(served, agent_id, user("hi"))
    runs = [answer["usage"]["run_ids"][0] for answer in (first, again, other, anew)]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3


async def test_an_older_equal_message_is_no_retry(pool: Pool, provider: Provider) -> None:
    retry = {"x-stainless-retry-count": "1", "x-stainless-read-timeout": "60"}
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        first = await send(served, agent_id, user("continue"))
        async with connection(pool) as conn:
            await conn.execute("update inbox set accepted_at = now() - interval '2 minutes'")
        later = await send(served, agent_id, user("continue"), headers=retry)
    assert later["usage"]["run_ids"] != first["usage"]["run_ids"]


async def test_a_busy_conversation_refuses_and_an_agents_route_queues(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "slow", "gate": "go"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        path = f"/v1/conversations/{agent_id}/messages"
        answers: list[Any] = []

        async def ask(text: str) -> None:
            answers.append(await send(served, agent_id, user(text)))

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, "first")
                await provider.log(requests=1, keep=True)
                [running] = await served.json("GET", "/v1/runs/", params={"active": True})
                assert running["status"] == "running"
                busy = await served.http.post(path, json=user("second"))
                assert busy.status_code == 409
                assert busy.json()["run_id"] == running["id"]
                assert busy.json()["detail"].startswith(
                    "CONFLICT: Cannot send a new message: Another request "
                    f"(run_id={running['id']}) is currently being processed"
                )
                assert busy.headers["x-should-retry"] == "false"
                bad = await served.http.post(
                    path, json=user("x"), headers={"x-wakeful-when-busy": "sometimes"}
                )
                assert bad.status_code == 422
                tasks.start_soon(ask, "third")
                await provider.open("go")
        assert len(answers) == 2
        history = await served.json("GET", f"/v1/agents/{agent_id}/messages")
    assert [m["content"] for m in history if m["message_type"] == "user_message"] == ["first", "third"]


async def test_a_steering_message_joins_the_running_turn_and_gets_its_answer(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{**CALL, "gate": "go"}, {"text": "Both done."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served, **MEMORY)
        answers: dict[str, Any] = {}

        async def ask(text: str, headers: dict[str, str]) -> None:
            answers[text] = await send(served, agent_id, user(text), headers=headers)

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, "I like tea", {})
                await provider.log(requests=1, keep=True)
                tasks.start_soon(ask, "and coffee", {"x-wakeful-when-busy": "steer"})
                async with connection(pool) as conn:
                    while await conn.fetchval("select count(*) from inbox") < 2:
                        pass
                await provider.open("go")
        runs = await served.json("GET", "/v1/runs/")
    assert kinds(answers["I like tea"]["messages"]) == TURN
    assert [m["content"] for m in answers["and coffee"]["messages"]] == ["Both done."]
    assert answers["and coffee"]["stop_reason"]["stop_reason"] == "end_turn"
    assert {run["status"] for run in runs} == {"completed"}


async def test_an_asynchronous_request_answers_with_its_run_at_once(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "later", "gate": "go"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        run = await served.json("POST", f"/v1/agents/{agent_id}/messages/async", json=user("hi"))
        assert run["status"] in ("created", "running")
        assert run["background"] is True
        assert run["metadata"]["run_type"] == "send_message_async"
        await provider.open("go")
        response = await served.http.post(f"/v1/runs/{run['id']}/stream", timeout=15)
        assert kinds(events(response.text))[1:] == ["assistant_message", "stop_reason", "usage_statistics"]
        done = await served.json("GET", f"/v1/runs/{run['id']}")
    assert (done["status"], done["stop_reason"]) == ("completed", "end_turn")


async def test_a_cancelled_run_keeps_what_was_shown_and_its_stream_says_so(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "one two three four", "gate": "never", "gate_after": 2}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        shown: list[dict[str, Any]] = []

        async def follow() -> None:
            shown.extend(await stream(served, agent_id, user("count", stream_tokens=True)))

        cancel = f"/v1/agents/{agent_id}/messages/cancel"
        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                await provider.log(requests=1, keep=True)
                run_ids = await served.json("POST", cancel)
        [run_id] = run_ids
        assert run_ids == {run_id: "cancelled"}
        assert shown[-1] == {"message_type": "stop_reason", "stop_reason": "cancelled"}
        refused = await served.json("POST", cancel, json={"run_ids": [run_id]}, status=409)
        assert "No active runs to cancel" in refused["detail"]
        run = await served.json("GET", f"/v1/runs/{run_id}")
        stored = await served.json("GET", f"/v1/runs/{run_id}/messages")
    assert run["status"] == "cancelled"
    said = "".join(e["content"] for e in shown if e["message_type"] == "assistant_message")
    assert [m["content"] for m in stored if m["message_type"] == "assistant_message"] == (
        [said] if said else []
    )


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 422, "/messages"),
        ({"messages": []}, 422, "/messages"),
        ({"input": "hi", "messages": [{"role": "user", "content": "hi"}]}, 422, "/messages"),
        ({"input": "hi", "max_steps": True}, 422, "/max_steps"),
        ({"input": "hi", "max_steps": 0}, 422, "/max_steps"),
        ({"input": "hi", "stream_tokens": True}, 422, "/stream_tokens"),
        ({"input": "hi", "background": True}, 422, "/background"),
        ({"input": "hi", "include_pings": False}, 422, "/include_pings"),
        ({"input": "hi", "client_tools": [{"name": "f g"}]}, 422, "/client_tools/0/name"),
        ({"messages": [{"type": "approval", "approve": True}]}, 400, "/messages"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_nothing_is_accepted(
    pool: Pool, provider: Provider, body: dict[str, Any], status: int, param: str
) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        refused = await send(served, agent_id, body, status=status)
        assert refused["error"]["param"] == param
        assert isinstance(refused["detail"], str)
        assert await run_count(pool) == 0


CAMERA = {"name": "camera", "description": "Takes a picture.", "parameters": {"type": "object"}}
PICTURE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


async def photographed(served: Served, provider: Provider, model: str) -> tuple[str, dict[str, Any]]:
    """Have a model ask for a picture; return the agent, and the answer that shows it one."""
    agent_id = (await served.agent(model=model))["id"]
    await provider.script([{"tool_calls": [{"id": "c-1", "name": "camera", "arguments": {}}]}])
    await send(served, agent_id, user("look", client_tools=[CAMERA]))
    result = {"type": "tool", "tool_call_id": "c-1", "status": "success"}
    result["tool_return"] = [{"type": "text", "text": "Click."}, PICTURE]
    answer = {"type": "approval", "approvals": [result]}
    return agent_id, {"messages": [answer], "client_tools": [CAMERA]}


async def test_a_client_s_result_may_show_the_model_an_image(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id, answer = await photographed(served, provider, MODEL)
        await send(served, agent_id, answer)
        request = (await provider.log(requests=2, ended=2))[-1].body
        assert [m["role"] for m in request["messages"][-2:]] == ["tool", "user"]
        assert request["messages"][-1]["content"][-1] == {
            "type": "image_url",
            "image_url": {"url": "https://example.com/a.png"},
        }
        history = await served.json("GET", f"/v1/agents/{agent_id}/messages")
        [shown] = [m for m in history if m["message_type"] == "tool_return_message"]
        assert shown["tool_return"] == "Click."
        assert shown["tool_returns"][0]["tool_return"] == [{"type": "text", "text": "Click."}, PICTURE]
        letta = AgentToolReturn.model_validate(shown["tool_returns"][0])
        assert [part.type for part in letta.tool_return] == ["text", "image"]  # type: ignore[union-attr]


async def test_an_image_for_a_model_that_sees_none_is_refused_and_its_call_waits_on(
    pool: Pool, provider: Provider
) -> None:
    blind = provider_for("deepseek", provider.base_url, "sk-test")  # none of its models takes images
    async with serving(pool, providers=[blind]) as served:
        agent_id, answer = await photographed(served, provider, "deepseek/deepseek-chat")
        refused = await send(served, agent_id, answer, status=400)
        assert "'deepseek/deepseek-chat' cannot look at images" in refused["detail"]
        answer["messages"][0]["approvals"][0]["tool_return"] = "Click."
        done = await send(served, agent_id, answer)
        assert done["stop_reason"]["stop_reason"] == "end_turn"


async def test_an_agent_that_is_missing_is_said_to_be(pool: Pool, provider: Provider) -> None:
    missing = "agent-00000000-0000-4000-8000-000000000000"
    async with talking(pool, provider) as served:
        for method, path in (
            ("POST", f"/v1/agents/{missing}/messages"),
            ("GET", f"/v1/agents/{missing}/messages"),
            ("POST", f"/v1/agents/{missing}/messages/cancel"),
        ):
            body = {"json": user("hi")} if method == "POST" and not path.endswith("cancel") else {}
            assert (await served.json(method, path, status=404, **body))["detail"] == "Agent not found"
