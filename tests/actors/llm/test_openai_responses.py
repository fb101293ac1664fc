"""The responses dialect as it is written."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from actors.llm import openai_chat
from actors.llm.dialects import CHAT, Dialect
from actors.llm.openai_responses import body, encode_message
from storage.records import (
    ImagePart,
    Message,
    ModelSettings,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from tests.actors import pieces
from tests.actors.llm.streams import ref, request

MINE = Dialect(api="responses", thoughts="encrypted", signer="openai/gpt-5")
SEAL = '{"id":"rs_1","encrypted_content":"sealed"}'


def items(role: str, *parts: Part, dialect: Dialect = MINE, cut: bool = False) -> list[dict[str, Any]]:
    message: Message = replace(pieces.message(1, role, *parts), interrupted=cut)
    return json.loads(b"[%b]" % encode_message(message, dialect))


def sent(name: str = "gpt-5", **changes: Any) -> dict[str, Any]:
    return json.loads(body(ref(name=name, handle=f"openai/{name}"), request(**changes)))


def test_plain_messages_have_the_same_bytes_as_in_chat() -> None:
    for role, part in (("system", "s"), ("user", "ü"), ("summary", "x"), ("assistant", "a")):
        message = pieces.message(1, role, TextPart(part))
        assert encode_message(message, MINE) == openai_chat.encode_message(message, CHAT)


def test_reasoning_goes_back_to_the_model_that_signed_it_before_what_followed() -> None:
    thought = ReasoningPart("why", SEAL, "openai/gpt-5")
    call = ToolCallPart("call_1", "f", '{"a":1}')
    shown = items("assistant", thought, TextPart("Well."), call)
    assert [item.get("type", item.get("role")) for item in shown] == [
        "reasoning",
        "assistant",
        "function_call",
    ]
    assert shown[0] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "why"}],
        "encrypted_content": "sealed",
    }
    assert shown[2] == {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}


@pytest.mark.parametrize(
    "parts",
    [
        (ReasoningPart("why", SEAL, "openai/o3"), TextPart("x")),
        (ReasoningPart("why", None, "openai/gpt-5"), TextPart("x")),
        (ReasoningPart("why", "not json", "openai/gpt-5"), TextPart("x")),
        (TextPart("x"), ReasoningPart("why", SEAL, "openai/gpt-5")),
    ],
)
def test_other_reasoning_stays_here(parts: tuple[Part, ...]) -> None:
    assert [item.get("role") for item in items("assistant", *parts)] == ["assistant"]


def test_an_answer_that_was_cut_or_is_only_thought_sends_no_reasoning() -> None:
    thought = ReasoningPart("why", SEAL, "openai/gpt-5")
    assert items("assistant", thought) == []
    assert items("assistant", thought, TextPart("half"), cut=True) == [
        {"role": "assistant", "content": "half"}
    ]


def test_each_result_is_an_item_of_its_own() -> None:
    shown = items(
        "tool", ToolReturnPart("call_1", "f", "success", "1"), ToolReturnPart("call_2", "f", "error", "no")
    )
    assert [(item["type"], item["call_id"], item["output"]) for item in shown] == [
        ("function_call_output", "call_1", "1"),
        ("function_call_output", "call_2", "no"),
    ]


def test_images_are_addresses_or_data() -> None:
    by_url = ImagePart({"type": "url", "url": "https://h/x.png"})
    inline = ImagePart({"type": "base64", "media_type": "image/png", "data": "AAAA", "detail": "low"})
    (shown,) = items("user", TextPart("look"), by_url, inline, ImagePart({"type": "letta", "file_id": "f"}))
    assert shown["content"] == [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "https://h/x.png", "detail": "auto"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
        {"type": "input_text", "text": "[an image that is no longer available]"},
    ]
    blind = Dialect(api="responses", images=False)
    assert items("user", TextPart("look"), by_url, dialect=blind) == [
        {"role": "user", "content": "look\n[an image that you cannot see]"}
    ]


def test_images_of_results_stand_in_their_results() -> None:
    by_url = ImagePart({"type": "url", "url": "https://h/x.png"})
    two = (
        ToolReturnPart("call_1", "photo", "success", "Taken.", images=(by_url,)),
        ToolReturnPart("call_2", "photo", "success", "", images=(by_url,)),
    )
    image = {"type": "input_image", "image_url": "https://h/x.png", "detail": "auto"}
    assert [item["output"] for item in items("tool", *two)] == [
        [{"type": "input_text", "text": "Taken."}, image],
        [image],
    ]
    blind = items("tool", *two, dialect=Dialect(api="responses", images=False))
    assert [item["output"] for item in blind] == [
        "Taken.\n[an image that you cannot see]",
        "[an image that you cannot see]",
    ]


def test_a_request_stores_nothing_and_asks_for_encrypted_reasoning() -> None:
    made = sent(settings=ModelSettings(reasoning_effort="low", temperature=0.3, max_output_tokens=500_000))
    assert made == {
        "model": "gpt-5",
        "max_output_tokens": 500_000,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "stream": True,
        "store": False,
        "input": [{"role": "user", "content": "hi"}],
    }


def test_a_model_that_does_not_reason_is_asked_for_no_reasoning() -> None:
    made = sent("gpt-4.1", settings=ModelSettings(reasoning_effort="low", temperature=0.3))
    assert "reasoning" not in made
    assert "include" not in made
    assert made["temperature"] == 0.3


def test_tools_are_flat_and_not_strict_unless_they_say_so() -> None:
    tools = b'[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]'
    made = sent(tools=tools, tool_choice="f", settings=ModelSettings(parallel_tool_calls=False))
    assert made["tools"] == [
        {"strict": False, "name": "f", "parameters": {"type": "object"}, "type": "function"}
    ]
    assert made["tool_choice"] == {"type": "function", "name": "f"}
    assert made["parallel_tool_calls"] is False


def test_a_form_of_the_answer_is_named_as_this_dialect_names_it() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    assert sent(settings=ModelSettings(response_format=asked))["text"] == {
        "format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    }
    assert "text" not in sent(settings=ModelSettings(response_format={"type": "text"}))


def test_what_a_model_refused_is_left_out() -> None:
    settings = ModelSettings(reasoning_effort="low", extra={"verbosity": "low", "top_p": 0.1})
    without = frozenset({"reasoning.summary", "include", "verbosity", "top_p"})
    made = json.loads(body(ref(name="gpt-5"), request(settings=settings), without=without))
    assert made["reasoning"] == {"effort": "low"}
    assert not made.keys() & {"include", "text", "top_p"}
