"""Whole agents on every kind of model: without tools, with sealed thoughts, without eyes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.commands import InputMessage
from actors.events import Event, TextDelta
from actors.llm.catalog import Catalog
from actors.llm.providers import provider_for
from bench.provider import Provider
from bench.recording import Record
from storage.pool import Pool
from storage.records import ImagePart, ReasoningPart, TextPart
from tests.actors.worlds import World, finish, world

pytestmark = pytest.mark.usefixtures("provider")
NO_TOOLS = {"error": {"message": "registry.ollama.ai/library/gemma:2b does not support tools"}}
NO_FORMAT = {
    "error": {"message": "This response_format type is unavailable now", "type": "invalid_request_error"}
}
NO_IMAGES = {"error": {"message": "image input is not supported - hint: you may need to provide the mmproj"}}
INSERT = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea."}}
IMAGE = ImagePart({"type": "url", "url": "https://h/cat.png"})


@pytest.fixture
async def run(pool: Pool, provider: Provider) -> AsyncIterator[World]:
    async with world(pool, provider) as running:
        yield running


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def asked(run: World) -> list[tuple[Record, dict[str, Any]]]:
    records = await run.provider.log()
    return [(record, record.body) for record in records]


async def test_a_model_without_tools_is_found_out_and_answers_in_json_from_then_on(run: World) -> None:
    agent = await run.agent(model="openai/no-tools-1")
    await run.provider.script(
        [{"status": 400, "body": NO_TOOLS}, {"tool_calls": [INSERT]}, {"text": "Noted, tea it is."}]
    )
    events = await run.ask(agent, "I like tea")
    assert finish(events).stop_reason == "end_turn"
    assert said(events) == "Noted, tea it is."
    assert len([event for event in events if isinstance(event, TextDelta)]) > 1  # it streamed
    assert await run.value(agent) == "Likes tea."
    (_, refused), (_, first), (_, second) = await asked(run)
    assert "tools" in refused
    assert "tools" not in first
    assert first["response_format"]["type"] == "json_schema"
    assert "memory_insert" in first["messages"][0]["content"]
    call, result = second["messages"][-2:]
    assert json.loads(call["content"]) == INSERT
    assert result["role"] == "user"
    assert "Likes tea." in result["content"]
    await run.provider.script([{"text": "Tea."}])
    await run.ask(agent, "What do I like?")
    ((_, again),) = await asked(run)
    assert "tools" not in again
    assert json.loads(again["messages"][-2]["content"]) == {"reply": "Noted, tea it is."}


async def test_a_call_written_as_text_is_a_call_and_prose_about_one_is_not(
    pool: Pool, provider: Provider
) -> None:
    catalog = Catalog([provider_for("vllm", provider.base_url)])
    async with world(pool, provider, catalog=catalog) as run:
        agent = await run.agent(model="vllm/weak")
        prose = f"One would write {json.dumps(INSERT)}."
        await provider.script([{"text": prose}, {"text": json.dumps(INSERT)}, {"text": "Noted."}])
        assert said(await run.ask(agent, "How would you remember it?")) == prose
        assert await run.value(agent) == ""
        assert said(await run.ask(agent, "I like tea")) == "Noted."
        assert await run.value(agent) == "Likes tea."
        assert ["tools" in body for _, body in await asked(run)] == [True, True, False]


async def test_a_server_that_takes_no_schema_is_only_told(run: World) -> None:
    agent = await run.agent(model="openai/no-tools-2")
    await run.provider.script(
        [
            {"status": 400, "body": NO_TOOLS},
            {"status": 400, "body": NO_FORMAT},
            {"text": '{"reply": "All right."}'},
        ]
    )
    events = await run.ask(agent, "hi")
    assert said(events) == "All right."
    *_, (_, told) = await asked(run)
    assert "response_format" not in told
    assert "exactly one JSON object" in told["messages"][0]["content"]


async def test_a_call_cut_by_its_length_is_asked_for_again_with_twice_the_room(run: World) -> None:
    agent = await run.agent(model="openai/tiny-room", model_settings={"max_output_tokens": 50, "extra": MODE})
    cut = {"sse": _events('{"name": "memory_insert", "arguments": {"label": "human", "new_str', "length")}
    await run.provider.script([cut, {"tool_calls": [INSERT]}, {"text": "Done."}])
    assert said(await run.ask(agent, "I like tea")) == "Done."
    assert await run.value(agent) == "Likes tea."
    bounds = [body["max_completion_tokens"] for _, body in await asked(run)]
    assert bounds == [50, 100, 50]


MODE = {"tool_mode": "json_schema"}


def _events(text: str, reason: str) -> str:
    delta = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return "".join(f"data: {json.dumps(event)}\n\n" for event in (delta, end)) + "data: [DONE]\n\n"


async def test_a_reasoning_model_gets_its_sealed_thoughts_back_and_no_other_does(run: World) -> None:
    agent = await run.agent(model="openai/gpt-5-mini")
    await run.provider.script(
        [{"reasoning": "Tea matters. ", "tool_calls": [INSERT]}, {"reasoning": "Done. ", "text": "Noted."}]
    )
    events = await run.ask(agent, "I like tea")
    assert said(events) == "Noted."
    (first, asked_first), (second, asked_again) = await asked(run)
    assert first.path.endswith("/responses")
    assert (asked_first["store"], asked_first["include"]) == (False, ["reasoning.encrypted_content"])
    sealed, call, result = asked_again["input"][-3:]
    assert (sealed["type"], sealed["encrypted_content"]) == ("reasoning", f"sealed-{first.number}")
    assert (call["type"], result["type"]) == ("function_call", "function_call_output")
    thoughts = [p for m in await run.messages(agent) for p in m.content if isinstance(p, ReasoningPart)]
    assert [(p.reasoning, p.signer) for p in thoughts] == [
        ("Tea matters. ", "openai/gpt-5-mini"),
        ("Done. ", "openai/gpt-5-mini"),
    ]
    await run.provider.script([{"text": "Tea."}, {"text": "Still tea."}])
    await run.ask(agent, "And now?", model="openai/gpt-4.1")
    await run.ask(agent, "And then?")
    (other, plain), (own, back) = await asked(run)
    assert other.path.endswith("/chat/completions")
    assert "sealed" not in json.dumps(plain)
    assert own.path.endswith("/responses")
    assert json.dumps(back).count("sealed-") == 2
    assert second.refusal is None
    assert own.refusal is None


async def test_an_endpoint_without_responses_is_asked_in_chat_completions(run: World) -> None:
    agent = await run.agent(model="openai/gpt-5-elsewhere")
    await run.provider.script([{"status": 404, "body": {"detail": "Not Found"}}, {"text": "Hello."}])
    assert said(await run.ask(agent, "hi")) == "Hello."
    assert [record.path for record, _ in await asked(run)] == ["/v1/responses", "/v1/chat/completions"]


def look(text: str = "What is this?") -> dict[str, Any]:
    return {"messages": (InputMessage(role="user", content=(TextPart(text), IMAGE)),)}


async def test_a_model_that_cannot_see_says_so_and_the_agent_goes_on(run: World) -> None:
    agent = await run.agent(model="openai/blind-1")
    await run.provider.script([{"status": 500, "body": NO_IMAGES}, {"text": "Fine."}])
    end = finish(await run.ask(agent, **look()))
    assert end.error is not None
    assert "cannot look at images" in end.error.message
    assert said(await run.ask(agent, "Never mind")) == "Fine."
    assert finish(await run.ask(agent, **look("Again"))).error is not None
    assert len(await asked(run)) == 2  # the third was not even sent
    assert [m.excluded for m in await run.messages(agent) if m.role == "user"] == [True, False, True]


async def test_old_images_are_notes_to_a_model_that_cannot_see(run: World) -> None:
    agent = await run.agent(model="openai/seeing-1")
    await run.provider.script([{"text": "A cat."}, {"status": 400, "body": NO_IMAGES}, {"text": "Hello."}])
    await run.ask(agent, **look())
    assert said(await run.ask(agent, "hi", model="openai/blind-2")) == "Hello."
    (_, seen), (_, refused), (_, told) = await asked(run)
    assert seen["messages"][-1]["content"][1]["image_url"] == {"url": "https://h/cat.png"}
    assert refused["messages"][1]["content"][1]["type"] == "image_url"
    assert told["messages"][1]["content"] == "What is this?\n[an image that you cannot see]"


async def test_a_setting_that_a_model_refuses_is_left_out_from_then_on(run: World) -> None:
    agent = await run.agent(model="openai/picky-1", model_settings={"temperature": 0.2})
    refusal = {
        "error": {
            "message": "Unsupported value: 'temperature' does not support 0.2 with this model.",
            "param": "temperature",
            "code": "unsupported_value",
        }
    }
    await run.provider.script([{"status": 400, "body": refusal}, {"text": "One."}, {"text": "Two."}])
    assert said(await run.ask(agent, "a")) == "One."
    assert said(await run.ask(agent, "b")) == "Two."
    assert ["temperature" in body for _, body in await asked(run)] == [True, False, False]


async def test_an_answer_has_the_form_that_the_agent_asks_for(run: World) -> None:
    asked_form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    agent = await run.agent(model="openai/gpt-4.1", model_settings={"response_format": asked_form})
    await run.ask(agent, "hi")
    ((_, sent),) = await asked(run)
    assert sent["response_format"] == asked_form
