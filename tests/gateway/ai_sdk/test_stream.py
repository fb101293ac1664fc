"""The event stream of an AI SDK chat: what ends it, and what is left of it when the log is gone."""

from collections.abc import AsyncGenerator
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from actors.errors import LogTrimmedError
from actors.events import Logged
from bench.provider import Provider
from gateway import answers
from gateway.ai_sdk import stream as ai_sdk_stream
from storage.errors import UnavailableError
from storage.pool import Pool
from tests.gateway.ai_sdk_runs import logged, says, started, step
from tests.gateway.rest.talking import new_agent, talking
from tests.serving import Served, listening

CALL = {"tool_calls": [{"name": "map", "arguments": {"at": "Bern"}, "id": "call-1"}]}
TOOLS = [{"name": "map", "description": "Where it is."}]


def user(text: str) -> dict[str, Any]:
    return {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}


async def asked(
    served: Served, agent_id: str, *messages: dict[str, Any], **more: Any
) -> list[dict[str, Any]]:
    """Send a chat's messages and return the chunks of the answer."""
    body = {"id": "chat", "messages": messages, **more}
    return chunks((await served.http.post(f"/v1/ai-sdk/agents/{agent_id}/chat", json=body)).text)


def chunks(stream: str) -> list[dict[str, Any]]:
    """Return the JSON of every event; the stream must end with [DONE]."""
    events = stream.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(event.removeprefix("data: ")) for event in events[:-2]]


def plain(chunks: list[dict[str, Any]]) -> list[Any]:
    """Return what a stream shows in the end, however it was cut into deltas."""
    shown: list[Any] = []
    step = 0  # where the step that may be taken back begins
    for chunk in chunks:
        match chunk["type"]:
            case "start-step":
                step = len(shown)
            case "reset-step":
                del shown[step:]
            case "text-delta":
                shown.append(chunk["delta"])
            case "tool-input-available":
                shown.append((chunk["toolName"], chunk["input"], chunk.get("providerExecuted", False)))
            case "tool-output-available":
                shown.append(chunk["output"])
            case "start" | "finish" | "error":
                shown.append({k: v for k, v in chunk.items() if k != "messageMetadata"})
            case _:
                pass
    return shown


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UnavailableError("postgres://secret"), "the database is not available"),
        (LogTrimmedError("run-1"), "the stream broke off"),
        (RuntimeError("secret"), answers.errors.UNKNOWN),
        (None, "ended before the run did"),
    ],
)
async def test_a_stream_that_cannot_go_on_says_so(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch, error: Exception | None, told: str
) -> None:
    async def follow(*_: object) -> AsyncGenerator[list[Logged], None]:
        yield logged(started(), step(), *says("half"))
        if error is not None:
            raise error

    monkeypatch.setattr(ai_sdk_stream.answers, "follow", follow)
    async with talking(pool, provider) as served:
        found = await asked(served, await new_agent(served), user("hi"))
    assert plain(found)[1] == "half"
    assert found[-1]["type"] == "error"
    assert told in found[-1]["errorText"]
    assert "secret" not in found[-1]["errorText"]


def result(message_id: str) -> dict[str, Any]:
    """Return the client's message with the result of its call."""
    output = {"type": "tool-map", "toolCallId": "call-1", "state": "output-available", "output": {"x": 1}}
    return {"id": message_id, "role": "assistant", "parts": [output]}


def forget(served: Served) -> None:
    """Forget the events of every finished run."""
    served.host.logs.budget_bytes = 0
    served.host.logs.trim()


async def test_an_answer_that_is_asked_for_again_adds_the_same_when_the_log_is_gone(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([CALL, {"text": "There."}])
    async with talking(pool, provider) as served:
        agent_id = await new_agent(served)
        first = await asked(served, agent_id, user("where?"), tools=TOOLS)
        message_id = first[0]["messageId"]
        expected = [
            {"type": "start", "messageId": message_id},
            "There.",
            {"type": "finish", "finishReason": "stop"},
        ]
        for _ in range(2):
            found = await asked(served, agent_id, user("where?"), result(message_id), tools=TOOLS)
            assert plain(found) == expected
        forget(served)
        found = await asked(served, agent_id, user("where?"), result(message_id), tools=TOOLS)
        assert plain(found) == expected
        assert len(await provider.log()) == 2


async def test_a_message_is_taken_up_whole_when_the_log_of_its_beginning_is_gone(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([CALL, {"text": "There.", "gate": "go"}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent_id = await new_agent(served)
        first = await asked(served, agent_id, user("where?"), tools=TOOLS)
        message_id = first[0]["messageId"]
        await provider.log(requests=1)
        async with anyio.create_task_group() as group:
            group.start_soon(asked, served, agent_id, user("where?"), result(message_id))
            await provider.log(requests=1, keep=True)
            forget(served)
            resumed = f"{url}/v1/ai-sdk/agents/{agent_id}/chat/chat/stream"
            async with httpx.AsyncClient() as client, client.stream("GET", resumed) as response:
                assert response.status_code == 200  # the run is found before it may end
                await provider.open("go")
                taken = (await response.aread()).decode()
    assert plain(chunks(taken)) == [
        {"type": "start", "messageId": message_id},
        ("map", {"at": "Bern"}, False),
        {"x": 1},
        "There.",
        {"type": "finish", "finishReason": "stop"},
    ]
