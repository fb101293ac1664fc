"""OpenAI's responses format as the scripted provider writes it."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent

from bench import responses
from bench.provider import Provider


def refused(*items: dict[str, Any]) -> str | None:
    return responses.refusal(
        responses.read_request(json.dumps({"model": "m", "input": items}).encode()).messages
    )


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "1"}
THOUGHT = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
HI = {"role": "user", "content": "hi"}


def test_what_openai_refuses_is_refused() -> None:
    assert refused(HI, THOUGHT, CALL, RESULT, HI) is None
    assert "No tool output found for function call c1" in (refused(HI, CALL) or "")
    assert "No tool call found" in (refused(HI, RESULT) or "")
    assert "without its required following item" in (refused(HI, THOUGHT) or "")
    assert "without its required following item" in (refused(HI, CALL, THOUGHT, RESULT) or "")
    assert "empty array" in (refused() or "")


async def test_the_official_client_reads_it(provider: Provider) -> None:
    reply = {"reasoning": "I think. ", "text": "Hello there.", "tool_calls": [{"name": "f", "arguments": {}}]}
    await provider.script([reply, reply])
    client = openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test")
    events: list[ResponseStreamEvent] = []
    async with await client.responses.create(model="gpt-5", input="hi", stream=True) as stream:
        events += [event async for event in stream]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Hello there."
    assert (
        "".join(e.delta for e in events if e.type == "response.reasoning_summary_text.delta") == "I think. "
    )
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage is not None
    whole = await client.responses.create(model="gpt-5", input="hi")
    assert whole.output_text == "Hello there."
    assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
    first, _ = await provider.log()
    assert (first.path, first.user_text, first.model) == ("/v1/responses", "hi", "gpt-5")
    await client.close()


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_can_be_incomplete(provider: Provider, reason: str) -> None:
    await provider.script([{"text": "half", "finish_reason": reason}])
    client = openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test")
    answer = await client.responses.create(model="gpt-5", input="hi")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == {"length": "max_output_tokens"}.get(reason, reason)
    await client.close()
