"""What is written in the chat-completions dialect."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.commands import InputMessage
from actors.llm import openai_chat
from actors.llm.dialects import CHAT, Dialect
from actors.llm.openai_chat import body, encode_input, encode_message, encode_system
from storage.records import (
    ImagePart,
    Message,
    ModelSettings,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolReturnPart,
)
from tests.actors.llm.streams import ref, request

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def message(role: Role, *content: Part) -> Message:
    return Message(
        id="message-1",
        organization_id="org-1",
        agent_id="agent-1",
        conversation_id="agent-1",
        position=1,
        role=role,
        content=content,
        created_at=NOW,
    )


def encoded(role: Role, *content: Part) -> Any:
    return json.loads(encode_message(message(role, *content)))


def tool(name: str = "f", **schema: Any) -> Tool:
    return Tool(
        id="tool-1",
        organization_id="org-1",
        name=name,
        tool_type="custom",
        description="does it",
        json_schema=schema,
        created_at=NOW,
        updated_at=NOW,
    )


def sent(settings: ModelSettings | None = None, *, tools: bytes | None = None, **of: Any) -> dict[str, Any]:
    asked = request(
        tools=tools, settings=settings or ModelSettings(), tool_choice=of.pop("tool_choice", "auto")
    )
    return json.loads(body(ref(**of), asked))


def test_each_role_has_its_form() -> None:
    assert encoded("system", TextPart("be")) == {"role": "system", "content": "be"}
    assert encoded("user", TextPart("a"), TextPart("b")) == {"role": "user", "content": "a\nb"}
    assert encoded("summary", TextPart("so far")) == {"role": "user", "content": "so far"}
    assert encoded("assistant", TextPart("hi")) == {"role": "assistant", "content": "hi"}


def test_an_assistant_s_calls_are_sent_and_its_reasoning_is_not() -> None:
    call = ToolCallPart("c1", "f", '{"x": 1}')
    assert encoded("assistant", ReasoningPart("hm"), call) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
    }
    assert encode_message(message("assistant", ReasoningPart("hm"))) == b""


def test_each_result_of_a_tool_message_is_an_object_of_its_own() -> None:
    row = message(
        "tool", ToolReturnPart("c1", "f", "success", "one"), ToolReturnPart("c2", "f", "error", "two")
    )
    assert json.loads(b"[" + encode_message(row) + b"]") == [
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
    ]


def test_images_become_image_parts() -> None:
    sources = [
        {"type": "url", "url": "https://x/y.png"},
        {"type": "base64", "media_type": "image/jpeg", "data": "AA==", "detail": "low"},
        {"type": "letta", "file_id": "file-1"},
    ]
    content = encoded("user", TextPart("see"), *(ImagePart(source) for source in sources))["content"]
    assert content == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AA==", "detail": "low"}},
        {"type": "text", "text": "[an image that is no longer available]"},
    ]


def test_an_input_is_encoded_as_it_will_be_once_stored() -> None:
    parts = (TextPart("hi"), ImagePart({"type": "url", "url": "u"}))
    for role in ("user", "system", "assistant"):
        content = parts if role == "user" else parts[:1]
        assert encode_input(InputMessage(role=role, content=content)) == encode_message(
            message(role, *content)
        )


strings = st.text(st.characters(codec=None), max_size=8)  # lone surrogates and NUL included


@given(strings, strings, strings, strings)
def test_no_string_breaks_the_encoding(text: str, call_id: str, name: str, arguments: str) -> None:
    for role, part in (
        ("user", TextPart(text)),
        ("system", TextPart(text)),
        ("assistant", ToolCallPart(call_id, name, arguments)),
        ("tool", ToolReturnPart(call_id, name, "success", text)),
    ):
        wire = encode_message(message(role, part))  # type: ignore[arg-type]
        json.loads(wire).get("role")
        wire.decode()


@given(strings, strings, strings)
def test_what_a_model_made_up_is_sent_in_a_form_that_every_provider_takes(
    call_id: str, name: str, arguments: str
) -> None:
    call = encoded("assistant", ToolCallPart(call_id, name, arguments))["tool_calls"][0]
    result = encoded("tool", ToolReturnPart(call_id, name, "success", ""))
    assert call["id"] == result["tool_call_id"]
    assert 1 <= len(call["id"]) <= 40
    assert 1 <= len(call["function"]["name"]) <= 64
    assert isinstance(json.loads(call["function"]["arguments"]), dict)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"x": 1.50}', '{"x": 1.50}'),
        ("", "{}"),
        ("{'x': 1}", '{"invalid_arguments":"{\'x\': 1}"}'),
        ("[]", '{"invalid_arguments":"[]"}'),
        ('{"x":NaN}', '{"invalid_arguments":"{\\"x\\":NaN}"}'),
    ],
)
def test_arguments_stay_as_written_or_are_quoted(arguments: str, expected: str) -> None:
    call = encoded("assistant", ToolCallPart("c1", "f", arguments))["tool_calls"][0]
    assert call["function"]["arguments"] == expected


def test_halves_of_a_character_are_joined_and_lone_ones_replaced() -> None:
    assert encoded("user", TextPart("a\ud83d\ude00b\ud83d"))["content"] == "a😀b\ufffd"
    assert json.loads(encode_system("\ud83d"))["content"] == "\ufffd"


def test_a_body_joins_what_is_encoded_and_leaves_out_what_is_empty() -> None:
    asked = request(encode_system("s"), b"", b'{"role":"tool"},{"role":"tool"}', encode_system("t"))
    made = json.loads(body(ref(), asked))
    assert [m["role"] for m in made["messages"]] == ["system", "tool", "tool", "system"]
    assert made["model"] == "gpt-4o-mini"
    assert made["stream"] is True
    assert made["stream_options"] == {"include_usage": True}


def test_tool_settings_are_sent_with_tools_only() -> None:
    one_by_one = ModelSettings(parallel_tool_calls=False)
    assert not sent(one_by_one, tool_choice="required").keys() & {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
    }
    with_tools = sent(one_by_one, tools=b"[1]", tool_choice="required")
    assert with_tools["tools"] == [1]
    assert with_tools["tool_choice"] == "required"
    assert with_tools["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in sent(tools=b"[1]")
    assert sent(tools=b"[1]", tool_choice="f")["tool_choice"] == {
        "type": "function",
        "function": {"name": "f"},
    }


def test_settings_are_sent_when_they_are_set() -> None:
    assert sent().keys() == {"model", "stream", "stream_options", "messages"}
    settings = ModelSettings(
        temperature=0.5,
        max_output_tokens=100,
        response_format={"type": "json_object"},
        extra={"top_p": 0.9, "provider_type": "openai", "extra_body": {"top_k": 3, "messages": []}},
    )
    made = sent(settings)
    assert made["temperature"] == 0.5
    assert made["max_completion_tokens"] == 100
    assert made["response_format"] == {"type": "json_object"}
    assert made["top_p"] == 0.9
    assert made["top_k"] == 3
    assert made["messages"]
    assert "provider_type" not in made


def test_openai_is_asked_for_an_effort_only_where_the_model_reasons() -> None:
    settings = ModelSettings(reasoning_effort="low")
    assert sent(settings, name="o3-mini")["reasoning_effort"] == "low"
    assert "reasoning_effort" not in sent(settings)
    assert sent(settings, provider_type="vllm")["reasoning_effort"] == "low"


def test_providers_get_their_own_dialect() -> None:
    settings = ModelSettings(temperature=1.0, max_output_tokens=9, parallel_tool_calls=False)
    local = sent(settings, provider_type="vllm")
    assert local["max_tokens"] == 9
    assert "max_completion_tokens" not in local
    assert "stream_options" not in sent(provider_type="mistral")
    assert "temperature" not in sent(settings, name="o3-mini")
    assert "temperature" not in sent(settings, name="gpt-5")
    assert sent(settings, name="o3-mini", provider_type="vllm")["temperature"] == 1.0
    assert "parallel_tool_calls" not in sent(settings, tools=b"[1]", provider_type="google_ai")
    assert "response_format" not in sent(ModelSettings(response_format={"type": "text"}))


def test_an_answer_is_never_asked_to_be_longer_than_the_model_can() -> None:
    assert sent(ModelSettings(max_output_tokens=99), max_output_tokens=50)["max_completion_tokens"] == 50


@pytest.mark.parametrize("of", [{"provider_type": "mistral"}, {"name": "Ministral-8B"}])
def test_mistral_s_models_get_ids_of_nine_letters_and_digits(of: dict[str, str]) -> None:
    row = message(
        "assistant",
        ToolCallPart("call_abc123", "f", '{"id":"call_abc123"}'),
        ToolCallPart("Abc123xyz", "f", ""),
    )
    result = message("tool", ToolReturnPart("call_abc123", "f", "success", '"id":"call_abc123"'))
    made = json.loads(body(ref(**of), request(encode_message(row), encode_message(result))))
    first, second = made["messages"][0]["tool_calls"]
    assert len(first["id"]) == 9
    assert first["id"].isalnum()
    assert made["messages"][1]["tool_call_id"] == first["id"]
    assert second["id"] == "Abc123xyz"
    assert first["function"]["arguments"] == '{"id":"call_abc123"}'
    assert made["messages"][1]["content"] == '"id":"call_abc123"'


def test_a_thousand_messages_are_joined_without_encoding_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    encodings: list[object] = []
    encode = openai_chat.encode
    monkeypatch.setattr(openai_chat, "encode", lambda value: (encodings.append(value), encode(value))[1])
    body(ref(), request(*[b"{}"] * 1_000, tools=b"[]"))
    assert len(encodings) <= 2


# --- what other models want -------------------------------------------------------------------

TEXT = Dialect(calls="text")
CALLED = (TextPart("Well."), ToolCallPart("c1", "f", '{"a":1}', "sig", "p/m"))


def written(row: Message, dialect: Dialect) -> dict[str, Any]:
    return json.loads(encode_message(row, dialect))


def test_a_model_without_tools_reads_its_calls_as_it_wrote_them() -> None:
    assert written(message("assistant", *CALLED), TEXT) == {
        "role": "assistant",
        "content": '{"reply":"Well."}\n{"name":"f","arguments":{"a":1}}',
    }
    broken = message("assistant", ToolCallPart("c1", "f", "{half"))
    assert written(broken, TEXT)["content"] == '{"name":"f","arguments":"{half"}'
    result = message("tool", ToolReturnPart("c1", "f", "success", "42"))
    assert written(result, TEXT) == {"role": "user", "content": "[Result of f]\n42"}


def test_a_thought_signature_goes_back_with_its_call_or_is_waived_for_the_first() -> None:
    gemini = Dialect(thoughts="thought_signature", signer="p/m")
    (own,) = written(message("assistant", *CALLED), gemini)["tool_calls"]
    assert own["extra_content"] == {"google": {"thought_signature": "sig"}}
    others = message("assistant", ToolCallPart("c1", "f", "{}", "sig", "x/y"), ToolCallPart("c2", "f", "{}"))
    first, second = written(others, gemini)["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert "extra_content" not in second
    assert "extra_content" not in written(message("assistant", *CALLED), CHAT)["tool_calls"][0]


def test_thoughts_go_back_as_text_where_a_model_insists() -> None:
    deepseek = Dialect(thoughts="reasoning_content", signer="p/m")
    own = message("assistant", ReasoningPart("why", None, "p/m"), TextPart("x"))
    assert written(own, deepseek)["reasoning_content"] == "why"
    other = message("assistant", ReasoningPart("why", None, "x/y"), *CALLED)
    assert written(other, deepseek)["reasoning_content"] == "(not recorded)"
    assert "reasoning_content" not in written(message("assistant", TextPart("x")), deepseek)
    assert "reasoning_content" not in written(own, CHAT)


def test_reasoning_details_go_back_unchanged() -> None:
    router = Dialect(thoughts="reasoning_details", signer="p/m")
    details = [{"type": "reasoning.encrypted", "data": "x", "id": "rs_1", "index": 0}]
    own = message("assistant", ReasoningPart("", json.dumps(details), "p/m"), TextPart("x"))
    assert written(own, router)["reasoning_details"] == details
    assert "reasoning_details" not in written(own, CHAT)
    spoilt = message("assistant", ReasoningPart("", "{", "p/m"), TextPart("x"))
    assert "reasoning_details" not in written(spoilt, router)


PICTURE = ImagePart({"type": "url", "url": "https://h/x.png"})
SHOWN = {"type": "image_url", "image_url": {"url": "https://h/x.png"}}
RETURNS = (
    ToolReturnPart("call_1", "photo", "success", "Taken.", images=(PICTURE,)),
    ToolReturnPart("call_2", "clock", "success", "noon"),
)


def all_written(row: Message, dialect: Dialect) -> list[dict[str, Any]]:
    return json.loads(b"[%b]" % encode_message(row, dialect))


def test_images_of_results_are_shown_behind_all_results_of_their_step() -> None:
    shown = all_written(message("tool", *RETURNS), CHAT)
    assert [item["role"] for item in shown] == ["tool", "tool", "user"]
    assert [item["content"] for item in shown] == [
        "Taken.\n[an image, shown below]",
        "noon",
        [{"type": "text", "text": "[The images of the result of photo]"}, SHOWN],
    ]


def test_a_model_that_cannot_see_reads_that_a_result_had_an_image() -> None:
    shown = all_written(message("tool", *RETURNS), Dialect(images=False))
    assert [item["content"] for item in shown] == ["Taken.\n[an image that you cannot see]", "noon"]


def test_a_model_that_calls_in_text_is_shown_a_result_s_image_with_it() -> None:
    first, second = all_written(message("tool", *RETURNS), Dialect(calls="text"))
    assert first["content"] == [{"type": "text", "text": "[Result of photo]\nTaken."}, SHOWN]
    assert second["content"] == "[Result of clock]\nnoon"
    blind, _ = all_written(message("tool", *RETURNS), Dialect(calls="text", images=False))
    assert blind["content"] == "[Result of photo]\nTaken.\n[an image that you cannot see]"


def test_a_model_that_cannot_see_reads_that_there_was_an_image() -> None:
    row = message("user", TextPart("look"), ImagePart({"type": "url", "url": "https://h/x.png"}))
    assert written(row, Dialect(images=False))["content"] == "look\n[an image that you cannot see]"


def test_settings_that_were_refused_are_left_out() -> None:
    settings = ModelSettings(temperature=0.2, max_output_tokens=9)
    made = json.loads(
        body(ref(), request(settings=settings), without=frozenset({"temperature", "max_completion_tokens"}))
    )
    assert "temperature" not in made
    assert made["max_tokens"] == 9
