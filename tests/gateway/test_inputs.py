"""What clients may send: checked, and turned into one command."""

from typing import Any

import msgspec
import pytest

from actors.commands import InputMessage, SendMessages
from gateway import decode, inputs
from gateway.errors import BadArgumentError, InvalidRequestError, NotSupportedError
from gateway.inputs import SendRequest
from storage.records import ApprovalPart, ImagePart, TextPart

USER = {"role": "user", "content": "hi"}
PNG = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}


def request(**fields: Any) -> SendRequest:
    return decode.body(msgspec.json.encode(fields), SendRequest)


def messages(*sent: Any) -> tuple[InputMessage, ...]:
    return inputs.messages_of(request(messages=list(sent)))


def image(**source: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image", "source": source}]}


def test_input_is_one_user_message() -> None:
    assert inputs.messages_of(request(input="hi")) == (InputMessage(role="user", content=(TextPart("hi"),)),)
    assert inputs.messages_of(request(input=[{"type": "text", "text": "hi"}])) == inputs.messages_of(
        request(input="hi")
    )


def test_messages_keep_role_parts_name_sender_and_otid() -> None:
    sent = {
        "type": "message",
        "role": "user",
        "content": [{"type": "text", "text": "look"}, {"type": "image", "source": PNG}],
        "name": "ann",
        "sender_id": "s",
        "otid": "o",
        "group_id": "g",
        "batch_item_id": "b",
    }
    assert messages(sent, {"role": "system", "content": "note"}) == (
        InputMessage(
            role="user",
            content=(TextPart("look"), ImagePart(PNG)),
            name="ann",
            sender_id="s",
            otid="o",
        ),
        InputMessage(role="system", content=(TextPart("note"),)),
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "/messages"),
        ({"messages": None, "input": None}, "/messages"),
        ({"messages": [USER], "input": "hi"}, "/messages"),
        ({"messages": []}, "/messages"),
        ({"messages": [USER] * (inputs.MAX_MESSAGES + 1)}, "/messages"),
        ({"messages": [{"content": "x"}]}, "/messages/0/role"),
        ({"messages": [USER, {"role": "user"}]}, "/messages/1/content"),
        ({"messages": [{"role": "user", "content": []}]}, "/messages/0/content"),
        ({"messages": [{**USER, "otid": ""}]}, "/messages/0/otid"),
        ({"messages": [{**USER, "otid": "o" * 257}]}, "/messages/0/otid"),
        ({"messages": [{**USER, "name": "n" * 257}]}, "/messages/0/name"),
        ({"messages": [image(**PNG) | {"role": "assistant"}]}, "/messages/0/content"),
        ({"input": []}, "/input"),
    ],
)
def test_what_is_no_message_is_refused_where_it_stands(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        inputs.messages_of(request(**fields))
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": {"0": USER}},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "reasoning", "reasoning": "x"}]}]},
        {"input": "hi", "max_steps": True},
        {"input": "hi", "max_steps": 0},
        {"input": "hi", "max_steps": 2**63},
        {"input": "hi", "max_steps": 1.5},
        {"input": "hi", "streaming": "yes"},
        {"input": "hi", "include_return_message_types": ["no_such_message"]},
    ],
)
def test_values_of_the_wrong_kind_are_refused_when_read(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        request(**fields)


APPROVAL: dict[str, Any] = {"type": "approval", "approvals": [{"tool_call_id": "c", "approve": True}]}


def test_answers_come_before_what_is_said_with_them() -> None:
    asked = request(messages=[APPROVAL, USER])
    assert inputs.decisions_of(asked) == (ApprovalPart("c", approve=True),)
    assert [m.content for m in inputs.messages_of(asked)] == [(TextPart(USER["content"]),)]
    with pytest.raises(BadArgumentError, match="comes before"):
        messages(USER, APPROVAL)
    assert inputs.messages_of(request(messages=[APPROVAL])) == ()


def test_an_image_that_no_provider_could_be_sent_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        messages(image(type="url", url="file:///etc/passwd"))


@pytest.mark.parametrize(
    "source",
    [
        PNG,
        {**PNG, "data": "aGVsbA=="},
        {**PNG, "data": "aGVs"},
        {"type": "url", "url": "https://example.com/a"},
    ],
)
def test_good_images_pass_unchanged(source: dict[str, Any]) -> None:
    assert messages(image(**source))[0].content == (ImagePart(source),)


@pytest.mark.parametrize("option", [{"stream_tokens": True}, {"background": True}, {"include_pings": False}])
def test_options_of_streams_need_a_stream(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        inputs.check_options(request(input="hi", **option), streaming=False)
    assert refused.value.param == f"/{next(iter(option))}"
    inputs.check_options(request(input="hi", **option), streaming=True)


@pytest.mark.parametrize(
    "option",
    [
        {"return_logprobs": True},
        {"top_logprobs": 3},
        {"return_token_ids": True},
    ],
)
def test_what_a_later_release_will_do_is_named_and_not_ignored(option: dict[str, Any]) -> None:
    with pytest.raises(NotSupportedError) as refused:
        inputs.check_options(request(input="hi", **option), streaming=False)
    assert refused.value.param == f"/{next(iter(option))}"


def test_empty_options_of_a_later_release_are_nothing_to_refuse() -> None:
    inputs.check_options(request(input="hi", client_tools=[], client_skills=None), streaming=False)


def test_busy_is_said_in_one_of_four_words() -> None:
    assert inputs.when_busy(None, "reject") == "reject"
    assert inputs.when_busy(b" Steer ", "queue") == "steer"
    with pytest.raises(InvalidRequestError):
        inputs.when_busy(b"soon", "queue")


def command(**fields: Any) -> bytes:
    asked = request(**fields)
    made = inputs.command_of(
        asked, inputs.messages_of(asked), conversation_id="agent-1", busy="queue", run_type="send_message"
    )
    return inputs.hash_of("agent-1", made)


def test_a_request_is_the_same_however_its_answer_is_delivered() -> None:
    once = command(messages=[USER])
    assert command(input="hi") == once
    assert command(messages=[USER], streaming=True, stream_tokens=True, background=True) == once
    assert command(messages=[USER], unknown=1) == once


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [{"role": "user", "content": "ho"}]},
        {"messages": [{**USER, "otid": "o"}]},
        {"messages": [USER], "max_steps": 3},
        {"messages": [USER], "override_model": "openai/other"},
        {"messages": [USER], "override_system": "be brief"},
        {"messages": [USER], "client_skills": [{"name": "f", "description": "d", "location": "l"}]},
    ],
)
def test_a_request_that_asks_for_something_else_is_another_one(other: dict[str, Any]) -> None:
    assert command(**other) != command(messages=[USER])


@pytest.mark.parametrize(
    ("skills", "param"),
    [
        ([{"name": "", "description": "d", "location": "l"}], "/client_skills/0/name"),
        ([{"name": "f", "description": "d", "location": "l" * 5000}], "/client_skills/0/location"),
        ([{"name": "f", "description": "d" * 10_001, "location": "l"}], "/client_skills/0/description"),
        ([{"name": "f", "description": "d", "location": "l"}] * 513, "/client_skills"),
    ],
)
def test_skills_have_bounds(skills: list[dict[str, str]], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        command(input="hi", client_skills=skills)
    assert refused.value.param == param


def test_the_same_words_to_another_agent_are_another_request() -> None:
    asked = request(input="hi")
    made = inputs.command_of(
        asked, inputs.messages_of(asked), conversation_id="conv-1", busy="queue", run_type="send_message"
    )
    assert inputs.hash_of("agent-1", made) != inputs.hash_of("agent-2", made)


def test_otids_make_a_key_and_their_order_counts() -> None:
    def key(*otids: str | None) -> str | None:
        said = tuple(InputMessage(role="user", content=(TextPart("hi"),), otid=otid) for otid in otids)
        return inputs.key_of(SendMessages(conversation_id="c", messages=said))

    assert key(None) is None
    assert key("a", None) == key("a")
    assert len({key("a"), key("b"), key("a", "b"), key("b", "a")}) == 4


def test_the_command_carries_what_its_stream_needs() -> None:
    asked = request(input="hi", stream_tokens=True, include_return_message_types=["assistant_message"])
    made = inputs.command_of(
        asked,
        inputs.messages_of(asked),
        conversation_id="conv-1",
        busy="steer",
        run_type="send_message_async",
    )
    assert made.background
    assert (made.conversation_id, made.when_busy, made.max_steps) == ("conv-1", "steer", 50)
    assert made.request_config["stream_tokens"] is True
    assert made.request_config["include_return_message_types"] == ("assistant_message",)
    assert made.request_config["run_type"] == "send_message_async"
    assert len(made.request_config) == 3, "what is as usual is not stored"
