"""The routes of AI SDK chats: who may use them, what they refuse, and what they answer again."""

from typing import Any, cast

import anyio
import jwt
import msgspec
import pytest

from actors import clock
from bench.provider import Provider
from gateway.auth import READ, SEND, THOUGHTS
from gateway.config import Settings
from storage import standing
from storage.pool import Conn, Pool
from tests.gateway.rest.agui_runs import Runner, of
from tests.gateway.rest.talking import new_agent, talking
from tests.serving import Served

SECRET = "a secret of more than thirty-two bytes, long enough for every HS algorithm"
SETTINGS = Settings(api_key="k.e.y", jwt_secret=SECRET)
KEY = {"authorization": "Bearer k.e.y"}


def user(text: str, message_id: str = "u1") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def body(*messages: dict[str, Any], chat_id: str = "chat", **more: Any) -> dict[str, Any]:
    return {"id": chat_id, "messages": list(messages), "trigger": "submit-message", **more}


def token(*scopes: str, **claims: Any) -> dict[str, str]:
    given = {"sub": "ann", "exp": clock.now().timestamp() + 60, "scope": " ".join(scopes), **claims}
    return {"authorization": f"Bearer {cast('Any', jwt).encode(given, SECRET, 'HS256')}"}


def path(agent_id: str, rest: str = "") -> str:
    return f"/v1/ai-sdk/agents/{agent_id}/chat{rest}"


def chunks(stream: str) -> list[dict[str, Any]]:
    events = stream.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(event.removeprefix("data: ")) for event in events[:-2]]


async def said(served: Served, agent_id: str, *messages: dict[str, Any], **more: Any) -> str:
    """Send messages and return the answer's text; it must not be an error."""
    response = await served.http.post(path(agent_id), json=body(*messages, **more))
    assert response.status_code == 200, response.text
    found = chunks(response.text)
    assert "error" not in [chunk["type"] for chunk in found], found
    return "".join(chunk["delta"] for chunk in found if chunk["type"] == "text-delta")


async def test_a_stream_names_its_protocol(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        response = await served.http.post(path(await new_agent(served)), json=body(user("hi")))
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert chunks(response.text)[0]["type"] == "start"


async def test_each_call_needs_its_scopes(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider, settings=SETTINGS) as served:
        agent = await served.json("POST", "/v1/agents/", json={"name": "a", "model": "openai/x"}, headers=KEY)
        calls = [("POST", ""), ("GET", "/chat/stream"), ("POST", "/chat/stop"), ("GET", "/chat/messages")]
        expected = {(): [403] * 4, (READ,): [403, 204, 403, 200], (READ, SEND): [200, 204, 204, 200]}
        for scopes, statuses in expected.items():
            found = [
                await served.http.request(
                    method,
                    path(agent["id"], rest),
                    headers=token(*scopes),
                    json=body(user("hi")) if rest == "" else None,
                )
                for method, rest in calls
            ]
            assert [response.status_code for response in found] == statuses
        for headers in ({}, {"authorization": "Bearer nobody"}):
            refused = await served.http.post(path(agent["id"]), json=body(user("hi")), headers=headers)
            assert refused.status_code == 401


async def test_a_token_sees_its_agents_and_its_organisation_only(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider, settings=SETTINGS) as served:
        agent = await served.json("POST", "/v1/agents/", json={"name": "a", "model": "openai/x"}, headers=KEY)
        other = "agent-00000000-0000-4000-8000-00000000000a"
        for claims in ({"agents": [other]}, {"org": "org-other"}):
            headers = token(READ, SEND, **claims)
            sent = await served.http.post(path(agent["id"]), json=body(user("hi")), headers=headers)
            read = await served.http.get(path(agent["id"], "/default/messages"), headers=headers)
            assert [sent.status_code, read.status_code] == [404, 404]


async def test_thoughts_need_a_scope_of_their_own(pool: Pool, provider: Provider) -> None:
    await provider.script([{"reasoning": "secret", "text": "open", "repeat": 2}])
    async with talking(pool, provider, settings=SETTINGS) as served:
        agent = await served.json("POST", "/v1/agents/", json={"name": "a", "model": "openai/x"}, headers=KEY)
        for scopes, shown in (((READ, SEND), False), ((READ, SEND, THOUGHTS), True)):
            headers = token(*scopes)
            chat_id = str(shown)
            sent = await served.http.post(
                path(agent["id"]), json=body(user("hi"), chat_id=chat_id), headers=headers
            )
            read = await served.http.get(path(agent["id"], f"/{chat_id}/messages"), headers=headers)
            for answer in (sent.text, read.text):
                assert "open" in answer
                assert ("secret" in answer) == shown


async def test_a_stream_ends_with_its_token_and_the_run_goes_on(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three", "gate": "open", "gate_after": 1}])
    async with talking(pool, provider, settings=SETTINGS) as served:
        agent = await served.json("POST", "/v1/agents/", json={"name": "a", "model": "openai/x"}, headers=KEY)
        short = token(READ, SEND, exp=clock.now().timestamp() + 1.5)
        answer = await served.http.post(path(agent["id"]), json=body(user("hi")), headers=short)
        found = chunks(answer.text)
        assert "error" in [chunk["type"] for chunk in found]
        assert "token has expired" in answer.text
        await provider.open("open")
        again = await served.http.post(path(agent["id"]), json=body(user("hi")), headers=token(READ, SEND))
        told = [chunk["delta"] for chunk in chunks(again.text) if chunk["type"] == "text-delta"]
        assert "".join(told) == "one two three"


async def test_a_ticket_opens_a_stream_once(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider, settings=SETTINGS) as served:
        agent = await served.json("POST", "/v1/agents/", json={"name": "a", "model": "openai/x"}, headers=KEY)
        made = await served.json("POST", "/v1/tickets", headers=token(READ))
        url = path(agent["id"], f"/chat/stream?ticket={made['ticket']}")
        assert [(await served.http.get(url)).status_code for _ in range(2)] == [204, 401]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 422),
        ({"id": "", "messages": [user("hi")]}, 422),
        ({"id": "x" * 257, "messages": [user("hi")]}, 422),
        (body(user("hi", message_id="")), 422),
        (body(user("")), 422),
        (body({"id": "u1", "role": "tool", "parts": []}), 422),
        (body(user("hi"), trigger="nonsense"), 422),
        (body(), 400),
        (body({"id": "a1", "role": "assistant", "parts": []}), 400),
        (body(user("hi"), chat_id="conv-00000000-0000-4000-8000-00000000000a"), 404),
        (body(user("hi"), tools=[{"name": "no good name"}]), 422),
    ],
)
async def test_what_is_no_chat_is_refused(
    pool: Pool, provider: Provider, sent: dict[str, Any], status: int
) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        refused = await served.http.post(path(agent_id), json=sent)
        assert refused.status_code == status, refused.text
        assert await said(served, agent_id, user("hi", "u9")) != ""


async def test_an_agent_that_is_not_there_is_not_found(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        nobody = "agent-00000000-0000-4000-8000-00000000000a"
        assert (await served.http.post(path(nobody), json=body(user("hi")))).status_code == 404
        for rest in ("/chat/stream", "/chat/messages", "/default/stream"):
            assert (await served.http.get(path(nobody, rest))).status_code == 404


async def test_a_busy_chat_may_refuse(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "late", "gate": "go"}])
    async with talking(pool, provider) as served, anyio.create_task_group() as group:
        agent_id = await new_agent(served)
        group.start_soon(said, served, agent_id, user("one"))
        await provider.log(requests=1, keep=True)
        refused = await served.http.post(
            path(agent_id), json=body(user("two", "u2")), headers={"x-wakeful-when-busy": "reject"}
        )
        assert refused.status_code == 409
        await provider.open("go")


async def test_a_live_agent_is_told_what_is_new_without_a_read_and_answers_the_rest_again(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.script([{"text": f"Answer {n}."} for n in range(4)])
    looked_up: list[list[str]] = []

    async def of(conn: Conn, conversation_id: str, **asked: Any) -> standing.Standing | None:
        looked_up.append(asked["otids"])
        return await read(conn, conversation_id, **asked)

    read = standing.of
    monkeypatch.setattr(standing, "of", of)
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        sent = [user("one", "u1")]
        assert await said(served, agent_id, *sent) == "Answer 0."
        looked_up.clear()  # its conversation was opened
        for n, word in ((1, "two"), (2, "three")):
            sent.append(user(word, f"u{n + 1}"))
            assert await said(served, agent_id, *sent) == f"Answer {n}."
        assert looked_up == []
        assert await said(served, agent_id, *sent) == "Answer 2."
        assert await said(served, agent_id, user("two", "u2")) == "Answer 1."
        assert [otids[-1] for otids in looked_up] == ["u3", "u2"]
    assert len(await provider.log()) == 3


async def test_a_request_that_comes_again_while_its_run_waits_is_the_same_one(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "first", "gate": "go"}, {"text": "second"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        answers: list[str] = []

        async def ask(*messages: dict[str, Any]) -> None:
            answers.append(await said(served, agent_id, *messages))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, user("one", "u1"))
            await provider.log(requests=1, keep=True)
            for _ in range(3):  # the second message waits behind the first, and is sent three times
                group.start_soon(ask, user("one", "u1"), user("two", "u2"))
            with anyio.fail_after(10):
                while len(await served.json("GET", "/v1/runs/", params={"agent_id": agent_id})) < 2:
                    await anyio.sleep(0.01)
            await provider.open("go")
        assert sorted(answers) == ["first", "second", "second", "second"]
        assert len(await provider.log()) == 2


async def test_half_an_answer_is_refused_and_names_what_is_missing(pool: Pool, provider: Provider) -> None:
    calls = [{"name": "weather", "arguments": {}, "id": f"call-{i}"} for i in range(2)]
    await provider.script([{"tool_calls": calls}, {"text": "Thanks."}])
    tools = [{"name": "weather", "description": "d"}]
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        first = await served.http.post(path(agent_id), json=body(user("hi"), tools=tools))
        message_id = chunks(first.text)[0]["messageId"]

        def answer(*parts: dict[str, Any]) -> dict[str, Any]:
            return body(user("hi"), {"id": message_id, "role": "assistant", "parts": parts}, tools=tools)

        def result(place: int) -> dict[str, Any]:
            fixed = {"type": "tool-weather", "state": "output-available", "output": "sun"}
            return {**fixed, "toolCallId": f"call-{place}"}

        refused = await served.http.post(path(agent_id), json=answer(result(0)))
        assert refused.status_code == 400
        assert "call-1" in refused.json()["detail"]
        whole = [await served.http.post(path(agent_id), json=answer(result(0), result(1))) for _ in range(2)]
        for response in whole:  # the second one is a repeat
            found = chunks(response.text)
            assert found[0]["messageId"] == message_id
            assert "".join(c["delta"] for c in found if c["type"] == "text-delta") == "Thanks."
        assert len(await provider.log()) == 2


async def test_a_chat_of_another_agent_is_not_found(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        one, other = await new_agent(served), await new_agent(served)
        await said(served, one, user("hi"))
        [listed] = await served.json("GET", "/v1/conversations/", params={"agent_id": one})
        for rest in ("messages", "stream"):
            assert (await served.http.get(path(one, f"/{listed['id']}/{rest}"))).status_code in (200, 204)
            assert (await served.http.get(path(other, f"/{listed['id']}/{rest}"))).status_code == 404


async def test_the_history_begins_with_a_message_of_the_user(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        for place in range(3):
            await said(served, agent_id, *(user("hi", f"u{earlier}") for earlier in range(place + 1)))
        shown = await served.json("GET", path(agent_id, "/chat/messages"), params={"limit": 3})
        assert [message["role"] for message in shown] == ["user", "assistant"]
        everything = await served.json("GET", path(agent_id, "/chat/messages"))
        assert [m["id"] for m in everything if m["role"] == "user"] == ["u0", "u1", "u2"]


async def test_a_fork_is_a_chat_with_the_history_of_its_parent(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one"}, {"text": "left"}, {"text": "right"}, {"text": "again"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        await said(served, agent_id, user("hi"))
        [parent] = await served.json("GET", "/v1/conversations/", params={"agent_id": agent_id})
        fork = (await served.json("POST", f"/v1/conversations/{parent['id']}/fork"))["id"]
        await said(served, agent_id, user("in the parent", "u2"))
        inherited = await served.json("GET", path(agent_id, f"/{fork}/messages"))
        assert texts(inherited) == ["hi", "one"]
        asked = user("in the fork", "u3")
        assert await said(served, agent_id, *inherited, asked, chat_id=fork) == "right"
        anew = {**body(*inherited, asked, chat_id=fork), "trigger": "regenerate-message"}
        assert (await served.http.post(path(agent_id), json=anew)).status_code == 200
        shown = await served.json("GET", path(agent_id, f"/{fork}/messages"))
        assert texts(shown) == ["hi", "one", "in the fork", "again"]
        assert texts(await served.json("GET", path(agent_id, "/chat/messages"))) == [
            "hi",
            "one",
            "in the parent",
            "left",
        ]


async def test_the_answer_that_a_fork_began_with_is_given_anew_in_the_fork_alone(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "one"}, {"text": "other"}, {"text": "third"}, {"text": "after"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        await said(served, agent_id, user("hi"))
        [parent] = await served.json("GET", "/v1/conversations/", params={"agent_id": agent_id})
        fork = (await served.json("POST", f"/v1/conversations/{parent['id']}/fork"))["id"]
        grandchild = (await served.json("POST", f"/v1/conversations/{fork}/fork"))["id"]
        beside = await served.json("GET", path(agent_id, f"/{grandchild}/messages"))
        anew = {**body(user("hi"), chat_id=fork), "trigger": "regenerate-message"}
        for words in ("other", "third"):
            answered = await served.http.post(path(agent_id), json=anew)
            assert answered.status_code == 200, answered.text
            assert "".join(c["delta"] for c in chunks(answered.text) if c["type"] == "text-delta") == words
        asked = (await provider.log())[-1].body["messages"]
        assert [m["role"] for m in asked if m["role"] != "system"] == ["user"], "and no answer before"
        assert texts(await served.json("GET", path(agent_id, f"/{fork}/messages"))) == ["hi", "third"]
        assert await said(served, agent_id, user("hi"), user("on", "u2"), chat_id=fork) == "after"
        for chat in ("chat", grandchild):
            assert texts(await served.json("GET", path(agent_id, f"/{chat}/messages"))) == ["hi", "one"]
        assert texts(beside) == ["hi", "one"]
        changed = {**body(user("hi"), chat_id=grandchild), "trigger": "regenerate-message"}
        assert (await served.http.post(path(agent_id), json=changed)).status_code == 200


async def test_in_a_fork_too_only_the_last_message_is_answered_anew(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        await said(served, agent_id, user("hi"))
        [parent] = await served.json("GET", "/v1/conversations/", params={"agent_id": agent_id})
        fork = (await served.json("POST", f"/v1/conversations/{parent['id']}/fork"))["id"]
        inherited = await served.json("GET", path(agent_id, f"/{fork}/messages"))
        await said(served, agent_id, *inherited, user("in the fork", "u2"), chat_id=fork)
        anew = {**body(user("hi"), chat_id=fork), "trigger": "regenerate-message"}
        refused = await served.http.post(path(agent_id), json=anew)
        assert refused.status_code == 501, refused.text


def texts(shown: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for message in shown for part in message["parts"] if part["type"] == "text"]


async def test_an_answer_given_anew_by_a_model_that_is_written_to_otherwise_sees_none_before(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "one"}, {"text": "two"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        assert await said(served, agent_id, user("hi")) == "one"
        settings = {"model_settings": {"provider_type": "openai", "tool_mode": "prompt"}}
        await served.json("PATCH", f"/v1/agents/{agent_id}", json=settings)
        again = await served.http.post(
            path(agent_id), json={**body(user("hi")), "trigger": "regenerate-message"}
        )
        assert again.status_code == 200, again.text
        asked = (await provider.log())[-1].body["messages"]
        assert [m["role"] for m in asked if m["role"] != "system"] == ["user"]


async def test_an_answer_given_anew_is_the_only_one_in_front_ends_and_the_marked_one_in_the_history(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "one"}, {"text": "two"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        chat = {"chat_id": "default"}
        await said(served, agent_id, user("hi"), **chat)
        anew = {**body(user("hi"), **chat), "trigger": "regenerate-message"}
        assert (await served.http.post(path(agent_id), json=anew)).status_code == 200
        shown = await served.json("GET", path(agent_id, "/default/messages"))
        assert [p["text"] for m in shown for p in m["parts"] if p["type"] == "text"] == ["hi", "two"]
        (snapshot,) = of(await Runner(served, agent_id, "default").run(), "MESSAGES_SNAPSHOT")
        assert [m["content"] for m in snapshot["messages"]] == ["hi", "two"]
        listed = (await served.json("GET", f"/v1/agents/{agent_id}/messages"))[1:]
        told = [(m["content"], m["is_err"]) for m in listed if m["message_type"] != "reasoning_message"]
        assert told == [("hi", None), ("one", True), ("two", None)]


async def test_what_was_summed_up_is_not_answered_anew_and_the_summary_stays(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "one"}, {"text": "We greeted each other."}, {"text": "two"}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        assert await said(served, agent_id, user("hi")) == "one"
        conversation = (await served.json("GET", "/v1/conversations/", params={"agent_id": agent_id}))[0][
            "id"
        ]
        compact = f"/v1/conversations/{conversation}/compact"
        await served.json("POST", compact, json={"compaction_settings": {"mode": "all"}})
        refused = await served.http.post(
            path(agent_id), json={**body(user("hi")), "trigger": "regenerate-message"}
        )
        assert refused.status_code == 501, refused.text
        assert await said(served, agent_id, user("more", "u2")) == "two"
        assert "We greeted each other." in str((await provider.log())[-1].body["messages"])
