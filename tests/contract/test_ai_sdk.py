"""The `ai` package's chat and transport, unchanged, read and write a chat of an agent."""

from typing import Any

import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.chats import chatting, parts
from tests.contract.connected import CALL, Connected, connected
from tests.contract.node import Node

pytestmark = pytest.mark.timeout(90)

RULE: Any = {"type": "requires_approval", "tool_name": "memory_insert"}
WEATHER = {
    "name": "weather",
    "description": "The weather at a place.",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
ASK_WEATHER = {"tool_calls": [{"name": "weather", "arguments": {"city": "Bern"}, "id": "call-w"}]}
LONG = "".join(f"word{place} " for place in range(400))


async def history(c: Connected, chat: dict[str, Any]) -> list[str]:
    """Return the types of what the chat's conversation holds, oldest first, its prompt left out."""
    conversation_id = chat["messages"][-1]["metadata"]["conversationId"]
    found = [m async for m in c.client.conversations.messages.list(conversation_id, order="asc")]
    return [m.message_type for m in found][1:]


def texts(chat: dict[str, Any]) -> list[str]:
    """Return the texts of all messages."""
    return [text for message in chat["messages"] for kind, text in parts(message) if kind == "text"]


async def test_text_reasoning_calls_and_memory_arrive_in_order(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([CALL, {"reasoning": "So.", "text": "Noted: tea."}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "a/chat ü") as chat:
        seen = await chat.send("I like tea")
        assert (seen["status"], seen["error"]) == ("ready", None)
        assert seen["responses"] == [
            {"status": 200, "protocol": "v1", "type": "text/event-stream; charset=utf-8"}
        ]
        answer = seen["messages"][1]
        kinds = [kind for kind, _ in parts(answer)]
        assert kinds == ["reasoning", "memory_insert", "data-memory", "reasoning", "text"]
        call = next(p for p in answer["parts"] if p["type"] == "dynamic-tool")
        assert call["input"] == {"label": "human", "new_string": "Likes tea"}
        assert call["output"] == "Likes tea"
        assert parts(answer)[2][1]["value"] == "Likes tea"
        assert [p["state"] for p in answer["parts"] if p["type"] in ("text", "reasoning")] == ["done"] * 3
        assert sum(p["type"] == "step-start" for p in answer["parts"]) == 2
        assert answer["metadata"]["stopReason"] == "end_turn"
        assert answer["metadata"]["steps"] == 2
        assert seen["finished"][-1]["finishReason"] == "stop"
        timed = [d["data"] for d in seen["data"] if d["type"] == "data-usage"]
        assert len(timed) == 2
        assert all(one["timingMs"]["firstToken"] > 0 for one in timed)


async def test_the_server_keeps_the_history_that_the_client_sends_again(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"text": "one"}, {"text": "two"}, {"text": "three"}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat-1") as chat:
        await chat.send("first")
        await chat.send("second")
        seen = await chat.send("third")
        assert texts(seen) == ["first", "one", "second", "two", "third", "three"]
        assert await history(c, seen) == ["user_message", "assistant_message"] * 3
        asked = (await provider.log())[-1].body["messages"]
        assert [m["content"] for m in asked if m["role"] == "user"] == ["first", "second", "third"]


async def test_chats_are_conversations_of_their_own(pool: Pool, provider: Provider, node: Node) -> None:
    async with connected(pool, provider) as c:
        ids: set[str] = set()
        for chat_id in ("one", "other", "default"):
            async with chatting(node, c.url, c.agent_id, chat_id) as chat:
                seen = await chat.send("hello")
                ids.add(seen["messages"][-1]["metadata"]["conversationId"])
        assert len(ids) == 3
        assert c.agent_id in ids


async def test_an_image_reaches_the_model(pool: Pool, provider: Provider, node: Node) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgo="
    files = [{"type": "file", "mediaType": "image/png", "url": pixel}]
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        seen = await chat.send("look", files=files)
        assert seen["error"] is None
        content = (await provider.log())[-1].body["messages"][-1]["content"]
        assert pixel in [p["image_url"]["url"] for p in content if p["type"] == "image_url"]


# --- client-side tools ------------------------------------------------------------------------


async def test_the_client_runs_its_own_tool_and_the_agent_goes_on(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([ASK_WEATHER, {"text": "Take a coat."}])
    options: dict[str, Any] = {"auto": "tools", "body": {"tools": [WEATHER]}}
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat", **options) as chat:
        asked = await chat.send("Is it cold in Bern?")
        assert [call["input"] for call in asked["called"]] == [{"city": "Bern"}]
        assert parts(asked["messages"][-1]) == [("tool-weather", "input-available")]
        assert asked["finished"][-1]["finishReason"] == "tool-calls"
        seen = await chat.do("output", tool="weather", output={"celsius": 3}, until="coat")
        seen = await chat.do("wait")
        assert (seen["status"], seen["error"]) == ("ready", None)
        assert len(seen["messages"]) == 2
        assert parts(seen["messages"][-1]) == [
            ("tool-weather", "output-available"),
            ("text", "Take a coat."),
        ]
        told = (await provider.log())[-1].body["messages"][-1]
        assert (told["role"], told["content"]) == ("tool", '{"celsius":3}')


async def test_an_image_in_an_output_reaches_the_model_and_stays_in_the_history(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([ASK_WEATHER, {"text": "Take a coat."}])
    options: dict[str, Any] = {"auto": "tools", "body": {"tools": [WEATHER]}}
    shot = {"type": "file", "mediaType": "image/png", "data": {"type": "data", "data": "iVBORw0KGgo="}}
    output = {"type": "content", "value": [{"type": "text", "text": "Look."}, shot]}
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat", **options) as chat:
        await chat.send("Is it cold in Bern?")
        await chat.do("output", tool="weather", output=output, until="coat")
        seen = await chat.do("wait")
        assert seen["error"] is None
        told = (await provider.log())[-1].body["messages"]
        assert told[-2]["role"] == "tool"
        assert told[-2]["content"].startswith("Look.")
        assert told[-1]["content"][-1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
        kept = (await stored(c))[-1]["parts"]
        assert [part["output"] for part in kept if part["type"] == "tool-weather"] == [output]


async def test_a_client_tool_that_fails_is_told_to_the_model(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([ASK_WEATHER, {"text": "No idea."}])
    options: dict[str, Any] = {"auto": "tools", "body": {"tools": [WEATHER]}}
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat", **options) as chat:
        await chat.send("Is it cold in Bern?")
        await chat.do("output", tool="weather", errorText="no network", until="No idea.")
        seen = await chat.do("wait")
        assert parts(seen["messages"][-1])[0] == ("tool-weather", "output-error")
        assert "no network" in (await provider.log())[-1].body["messages"][-1]["content"]


# --- approvals --------------------------------------------------------------------------------


async def guarded(c: Connected) -> None:
    await c.client.agents.update(c.agent_id, tool_rules=[RULE])


async def value(c: Connected) -> str:
    return (await c.client.agents.blocks.retrieve("human", agent_id=c.agent_id)).value


async def test_a_call_runs_once_it_is_approved(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with (
        connected(pool, provider) as c,
        chatting(node, c.url, c.agent_id, "chat", auto="approvals") as chat,
    ):
        await guarded(c)
        asked = await chat.send("I like tea")
        assert parts(asked["messages"][-1])[-1] == ("memory_insert", "approval-requested")
        assert asked["called"] == []
        assert await value(c) == ""
        await chat.do("approve", approved=True, until="Noted.")
        seen = await chat.do("wait")
        assert (seen["status"], seen["error"]) == ("ready", None)
        assert len(seen["messages"]) == 2
        kinds = [(k, v) for k, v in parts(seen["messages"][-1]) if not k.startswith("data-")]
        assert kinds == [
            ("reasoning", "Better note it."),
            ("memory_insert", "output-available"),
            ("text", "Noted."),
        ]
        assert await value(c) == "Likes tea"


async def test_a_denied_call_never_runs_and_the_model_is_told_why(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([CALL, {"text": "Then not."}])
    async with (
        connected(pool, provider) as c,
        chatting(node, c.url, c.agent_id, "chat", auto="approvals") as chat,
    ):
        await guarded(c)
        await chat.send("I like tea")
        await chat.do("approve", approved=False, reason="private", until="Then not.")
        seen = await chat.do("wait")
        assert ("memory_insert", "output-denied") in parts(seen["messages"][-1])
        assert await value(c) == ""
        assert "private" in (await provider.log())[-1].body["messages"][-1]["content"]


async def test_a_message_before_the_answer_is_refused_and_the_chat_goes_on(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([CALL, {"text": "Noted."}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        await guarded(c)
        await chat.send("I like tea")
        refused = await chat.send("and coffee")
        assert refused["responses"][-1]["status"] == 409
        assert refused["status"] == "error"


# --- ends ---------------------------------------------------------------------------------------


async def test_a_failed_run_is_an_error_of_the_chat_and_the_next_message_is_answered(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"status": 400, "body": {"error": {"message": "no"}}}, {"text": "Better."}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        failed = await chat.send("hello")
        assert failed["status"] == "error"
        assert failed["error"]
        seen = await chat.send("again")
        assert (seen["status"], texts(seen)[-1]) == ("ready", "Better.")


async def test_what_a_cut_answer_showed_is_what_the_history_holds(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script(
        [{"text": "one two three four five", "fault": "cut_after", "tokens": 3}, {"text": "All of it."}]
    )
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        seen = await chat.send("hello")
        told = [
            m
            async for m in c.client.conversations.messages.list(
                seen["messages"][-1]["metadata"]["conversationId"], order="asc"
            )
        ]
        said = [m.content for m in told if m.message_type == "assistant_message"]
        assert texts(seen)[1:] == said


async def test_leaving_a_stream_ends_nothing_and_stopping_the_chat_does(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"text": LONG, "gate": "more", "gate_after": 20}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        await chat.send("tell me", until="word19")
        left = await chat.do("stop")
        assert left["finished"][-1]["isAbort"]
        stopped = await c.served.http.post(f"/v1/ai-sdk/agents/{c.agent_id}/chat/chat/stop")
        assert stopped.status_code == 204
        assert (await chat.do("resume"))["responses"][-1]["status"] == 204
        runs = [run async for run in c.client.runs.list(agent_id=c.agent_id)]
        assert [run.status for run in runs] == ["cancelled"]
        assert await history(c, left) == ["user_message", "assistant_message"]


async def test_a_run_that_is_stopped_elsewhere_ends_as_interrupted(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"text": LONG, "gate": "more", "gate_after": 20}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        await chat.send("tell me", until="word19")
        await c.served.http.post(f"/v1/ai-sdk/agents/{c.agent_id}/chat/chat/stop")
        seen = await chat.do("wait")
        assert (seen["status"], seen["error"]) == ("ready", None)
        assert seen["finished"][-1]["finishReason"] == "interrupted"
        assert texts(seen)[1].startswith("word0 word1 ")
        assert await history(c, seen) == ["user_message", "assistant_message"]


# --- history ------------------------------------------------------------------------------------


async def stored(c: Connected, chat_id: str = "chat") -> list[dict[str, Any]]:
    """Return the messages of a chat as the server keeps them, without what nobody compares."""
    return [
        _plain(m)
        for m in await c.served.json("GET", f"/v1/ai-sdk/agents/{c.agent_id}/chat/{chat_id}/messages")
    ]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    told = [p for p in message["parts"] if not p["type"].startswith("data-")]
    shown = [{key: part[key] for key in part if key != "id"} for part in told]
    return {"id": message["id"], "role": message["role"], "parts": shown}


async def test_the_history_is_the_list_that_the_client_has(
    pool: Pool, provider: Provider, node: Node
) -> None:
    image = [{"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="}]
    other = {"tool_calls": [{**CALL["tool_calls"][0], "id": "call-2"}]}
    await provider.script([CALL, {"reasoning": "So.", "text": "Noted."}, other, {"text": "Fine."}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        assert await stored(c) == []
        await guarded(c)
        asked = await chat.send("I like tea", files=image)
        assert await stored(c) == [_plain(m) for m in asked["messages"]]
        await chat.do("approve", approved=True)
        seen = await chat.do("post")
        assert await stored(c) == [_plain(m) for m in seen["messages"]]
        await chat.send("and coffee")
        await chat.do("approve", approved=False, reason="no")
        seen = await chat.do("post")
        assert seen["error"] is None
        assert await stored(c) == [_plain(m) for m in seen["messages"]]


async def test_the_history_has_calls_that_the_client_ran(pool: Pool, provider: Provider, node: Node) -> None:
    await provider.script([ASK_WEATHER, {"text": "Take a coat."}])
    options: dict[str, Any] = {"auto": "tools", "body": {"tools": [WEATHER]}}
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat", **options) as chat:
        asked = await chat.send("Is it cold in Bern?")
        assert await stored(c) == [_plain(m) for m in asked["messages"]]
        await chat.do("output", tool="weather", output={"celsius": 3}, until="coat")
        seen = await chat.do("wait")
        assert await stored(c) == [_plain(m) for m in seen["messages"]]


# --- taking up again ---------------------------------------------------------------------------


@pytest.mark.parametrize("words", [1, 7, 150, 398])
async def test_a_stream_that_broke_off_is_taken_up_with_the_whole_text_once(
    pool: Pool, provider: Provider, node: Node, words: int
) -> None:
    await provider.script([{"text": LONG, "gate": "more", "gate_after": words + 1}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        await chat.send("tell me", until=f"word{words} ")
        broken = await chat.do("cut")
        assert (broken["status"], broken["finished"][-1]["isDisconnect"]) == ("error", True)
        await chat.do("resume", until=f"word{words} ")
        await provider.open("more")
        seen = await chat.do("wait")
        assert (seen["status"], seen["error"]) == ("ready", None)
        assert texts(seen) == ["tell me", LONG]
        assert len(seen["messages"]) == 2


async def test_a_page_that_is_loaded_anew_takes_up_the_stream(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([CALL, {"text": LONG, "gate": "more", "gate_after": 20}])
    async with connected(pool, provider) as c:
        async with chatting(node, c.url, c.agent_id, "chat") as chat:
            before = await chat.send("I like tea", until="word19")
        async with chatting(node, c.url, c.agent_id, "chat", messages=before["messages"][:1]) as chat:
            await chat.do("resume", until="word19")
            await provider.open("more")
            seen = await chat.do("wait")
            assert [m["id"] for m in seen["messages"]] == [m["id"] for m in before["messages"]]
            kinds = [kind for kind, _ in parts(seen["messages"][1])]
            assert kinds == ["reasoning", "memory_insert", "data-memory", "text"]
            assert texts(seen) == ["I like tea", LONG]
            assert (await chat.do("resume"))["responses"][-1]["status"] == 204


async def test_an_approved_run_is_taken_up_as_the_one_message_it_goes_on_with(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([CALL, {"text": LONG, "gate": "more", "gate_after": 20}])
    async with connected(pool, provider) as c:
        await guarded(c)
        async with chatting(node, c.url, c.agent_id, "chat", auto="approvals") as chat:
            await chat.send("I like tea")
            before = await chat.do("approve", approved=True, until="word19")
        async with chatting(node, c.url, c.agent_id, "chat", messages=before["messages"][:1]) as chat:
            await chat.do("resume", until="word19")
            await provider.open("more")
            seen = await chat.do("wait")
            assert [m["id"] for m in seen["messages"]] == [m["id"] for m in before["messages"]]
            assert [(k, v) for k, v in parts(seen["messages"][1]) if k != "data-memory"] == [
                ("reasoning", "Better note it."),
                ("memory_insert", "output-available"),
                ("text", LONG),
            ]


async def test_a_request_that_is_sent_twice_is_answered_once(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"text": "once"}, {"text": "twice"}])
    message = {"id": "m-1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
    async with connected(pool, provider) as c:
        answers: list[list[str]] = []
        for _ in range(2):
            async with chatting(node, c.url, c.agent_id, "chat") as chat:
                answers.append(texts(await chat.do("send", message=message)))
        assert answers == [["hello", "once"]] * 2


async def test_an_answer_is_made_anew_and_the_one_before_is_shown_to_nobody(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"text": "one"}, {"text": "two"}, {"text": "three"}, {"text": "four"}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        await chat.send("hello")
        again = await chat.do("regenerate")
        assert again["error"] is None
        assert texts(again) == ["hello", "two"]
        assert texts(await chat.do("regenerate")) == ["hello", "three"]
        seen = await chat.send("more")
        assert texts(seen) == ["hello", "three", "more", "four"]
        requests = await provider.log()
        for request in requests[1:3]:
            assert [m["content"] for m in request.body["messages"][1:]] == ["hello"]
        asked = requests[-1].body["messages"]
        assert [m["content"] for m in asked if m["role"] != "system"] == ["hello", "three", "more"]
        kept = ["user_message", *["assistant_message"] * 3, "user_message", "assistant_message"]
        assert await history(c, seen) == kept
        assert [m["id"] for m in await stored(c)] == [m["id"] for m in seen["messages"]]
        older = [m for m in seen["messages"] if m["role"] == "user"][:1]
        body = {"id": "chat", "messages": older, "trigger": "regenerate-message"}
        refused = await c.served.http.post(f"/v1/ai-sdk/agents/{c.agent_id}/chat", json=body)
        assert refused.status_code == 501


async def test_a_message_that_no_model_takes_is_not_answered_anew(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([{"status": 400}, {"text": "to what?"}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        assert (await chat.send("hello"))["error"]
        again = await chat.do("regenerate")
        assert again["responses"][-1]["status"] == 501
        assert len(await provider.log()) == 1


async def test_an_answer_that_failed_is_asked_for_anew_as_often_as_the_user_wants(
    pool: Pool, provider: Provider, node: Node
) -> None:
    no = {"status": 400, "body": {"error": {"message": "no"}}}
    await provider.script([{"text": "one"}, no, no, {"text": "two"}])
    async with connected(pool, provider) as c, chatting(node, c.url, c.agent_id, "chat") as chat:
        await chat.send("hello")
        for _ in range(2):
            failed = await chat.do("regenerate")
            assert (failed["status"], failed["responses"][-1]["status"]) == ("error", 200)
        seen = await chat.do("regenerate")
        assert (seen["status"], texts(seen)) == ("ready", ["hello", "two"])
        assert len(await provider.log()) == 4
