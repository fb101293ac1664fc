"""Agent files are read with the quirks that Letta's have."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.agent_files.reader import Overrides, Read, Said, read
from gateway.agent_files.writer import message
from gateway.errors import BadArgumentError, InvalidRequestError
from storage.records import ImagePart, ReasoningPart, TextPart, ToolCallPart, ToolReturnPart
from tests.actors import pieces

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def agent(*messages: dict[str, Any], **fields: Any) -> Read:
    named = [{"id": f"message-{n}", **m} for n, m in enumerate(messages)]
    entry = {"id": "agent-0", "name": "sam", "messages": named, **fields}
    return parse({"agents": [entry], "blocks": [], "tools": []})


def parse(file: dict[str, Any], **overrides: Any) -> Read:
    data = json.dumps(file).encode()
    [one] = read(data, known_tools=frozenset({"send"}), overrides=Overrides(**overrides), now=NOW)
    return one


def test_texts_come_out_of_the_envelopes_that_letta_stores_them_in() -> None:
    packed = json.dumps({"type": "user_message", "message": "hi", "time": "now"})
    result = json.dumps({"status": "OK", "message": "done", "time": "now"})
    own = '{"message": "a user wrote this"}'
    found = agent(
        {"role": "system", "content": "prompt"},
        {"role": "user", "content": [{"type": "text", "text": packed}], "created_at": "2025-05-05T05:05:05"},
        {"role": "user", "content": own},
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "reasoning": "hm"}, {"type": "omitted_reasoning"}],
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "send", "arguments": "{}"}}],
        },
        {"role": "tool", "content": [{"type": "text", "text": result}], "tool_call_id": "c1"},
        {"role": "approval", "content": [], "approvals": [{"tool_call_id": "c1", "approve": True}]},
    )
    assert found.messages == (
        Said("user", (TextPart("hi"),), datetime(2025, 5, 5, 5, 5, 5, tzinfo=UTC)),
        Said("user", (TextPart(own),), NOW),
        Said("assistant", (ReasoningPart("hm"), ToolCallPart("c1", "send", "{}")), NOW),
        Said("tool", (ToolReturnPart("c1", "send", "success", "done"),), NOW),
    )


def test_images_of_results_are_read_as_they_are_written() -> None:
    images = (ImagePart({"type": "url", "url": "https://example.com/a.png"}),)
    result = ToolReturnPart("c1", "send", "success", "done", images=images)
    written = msgspec.to_builtins(message(pieces.message(2, "tool", result), "message-1"))
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": "{}"}}
    found = agent({"role": "assistant", "content": [], "tool_calls": [call]}, written)
    assert found.messages[-1].content == (result,)


def test_only_what_the_model_saw_is_taken_and_in_that_order() -> None:
    said = [{"role": "user", "content": text} for text in ("a", "b", "c")]
    found = agent(*said, in_context_message_ids=["message-2", "message-0", "message-9"])
    assert [m.content for m in found.messages] == [(TextPart("c"),), (TextPart("a"),)]


def test_what_has_no_counterpart_is_named() -> None:
    found = parse(
        {
            "agents": [
                {
                    "name": "sam",
                    "tool_ids": ["tool-0", "tool-1"],
                    "enable_sleeptime": True,
                    "secrets": {"K": ""},
                }
            ],
            "tools": [{"id": "tool-0", "name": "send"}, {"id": "tool-1", "name": "fetch"}],
        }
    )
    assert found.request.tools == ("send",)
    assert found.request.name == "sam_copy"
    assert found.left_out == ("tool fetch", "enable_sleeptime", "secret K")


def test_an_override_of_the_model_drops_settings_that_name_the_old_one() -> None:
    file = {"agents": [{"name": "sam", "model": "a/b", "compaction_settings": {"model": "a/b"}}]}
    assert parse(file).request.compaction_settings is not None
    found = parse(file, model="c/d", append_copy_suffix=False)
    assert (found.request.model, found.request.compaction_settings, found.request.name) == (
        "c/d",
        None,
        "sam",
    )


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"{}", BadArgumentError),
        (b"[]", InvalidRequestError),
        (b"\xff", BadArgumentError),
        (b'{"agents": 1}', InvalidRequestError),
        (b'{"agents": [{"tags": 1}]}', InvalidRequestError),
        (b'{"agents": [{"messages": 1}]}', InvalidRequestError),
        (b'{"agents": [{"tool_ids": 1}]}', InvalidRequestError),
        (b'{"agents": [{"messages": [{"id": "m", "role": "user", "content": 5}]}]}', InvalidRequestError),
        (b'{"agents": [{"messages": [1]}]}', InvalidRequestError),
    ],
)
def test_what_is_no_agent_file_is_refused(
    data: bytes, refusal: type[BadArgumentError | InvalidRequestError]
) -> None:
    with pytest.raises(refusal) as refused:
        read(data, known_tools=frozenset(), overrides=Overrides(), now=NOW)
    assert (refused.value.param or "").startswith("/file")


def test_a_fault_of_an_agent_file_is_named_by_its_place() -> None:
    with pytest.raises(InvalidRequestError, match=r"no agent file: Expected `array.*agents`") as refused:
        read(b'{"agents": 1}', known_tools=frozenset(), overrides=Overrides(), now=NOW)
    assert refused.value.param == "/file/agents"
