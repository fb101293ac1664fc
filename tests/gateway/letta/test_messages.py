"""How stored messages look to Letta's clients."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.letta import messages as letta_messages
from storage.records import (
    ApprovalPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

ID = "message-3f2504e0-4f89-41d3-9a0c-0305e82c33f7"
UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c33"


def stored(role: Role, *content: Part, **more: Any) -> Message:
    return Message(
        id=ID,
        organization_id="org-1",
        agent_id="agent-1",
        conversation_id="agent-1",
        position=3,
        role=role,
        content=content,
        created_at=datetime(2026, 5, 1, 12, 30, 15, 987_654, tzinfo=UTC),
        **{"run_id": "run-1", "step_id": "step-1", **more},
    )


def shown(message: Message) -> list[dict[str, Any]]:
    return msgspec.json.decode(msgspec.json.encode(letta_messages.show(message)))


def test_a_plain_user_message_is_its_text_with_every_field_of_the_base() -> None:
    assert shown(stored("user", TextPart("hi"), otid="mine", sender_id="s", name="ann", step_id=None)) == [
        {
            "message_type": "user_message",
            "id": ID,
            "date": "2026-05-01T12:30:15+00:00",
            "name": "ann",
            "otid": "mine",
            "sender_id": "s",
            "step_id": None,
            "is_err": None,
            "seq_id": None,
            "run_id": "run-1",
            "content": "hi",
        }
    ]


def test_a_user_message_with_an_image_keeps_its_parts() -> None:
    source = {"type": "url", "url": "https://example.com/a.png"}
    [one] = shown(stored("user", TextPart("look"), ImagePart(source)))
    assert one["content"] == [{"type": "text", "text": "look"}, {"type": "image", "source": source}]


def test_an_assistant_row_becomes_thoughts_then_text_then_one_message_of_all_calls() -> None:
    message = stored(
        "assistant",
        ReasoningPart("hm", "sig"),
        TextPart("I will "),
        TextPart("look."),
        ToolCallPart("c1", "find", '{"a":1}'),
        ToolCallPart("c2", "read", "{}"),
    )
    reasoning, text, calls = shown(message)
    assert (reasoning["message_type"], reasoning["reasoning"]) == ("reasoning_message", "hm")
    assert (reasoning["source"], reasoning["signature"]) == ("reasoner_model", "sig")
    assert (text["message_type"], text["content"]) == ("assistant_message", "I will look.")
    assert calls["message_type"] == "tool_call_message"
    assert calls["tool_call"] == {"name": "find", "arguments": '{"a":1}', "tool_call_id": "c1"}
    assert [call["tool_call_id"] for call in calls["tool_calls"]] == ["c1", "c2"]
    assert {one["id"] for one in (reasoning, text, calls)} == {ID}


def test_otids_are_the_uuid_with_its_last_seven_bits_counting_parts() -> None:
    message = stored("assistant", ReasoningPart("hm"), TextPart("a"), ToolCallPart("c1", "f", "{}"))
    assert [one["otid"] for one in shown(message)] == [f"{UUID}80", f"{UUID}81", f"{UUID}82"]


@pytest.mark.parametrize("index", [0, 1, 5, 127])
def test_an_otid_differs_from_its_uuid_in_the_last_seven_bits_only(index: int) -> None:
    otid = letta_messages.otid_of(ID, index)
    value = int(otid.replace("-", ""), 16)
    whole = int(ID.removeprefix("message-").replace("-", ""), 16)
    assert value & 0x7F == index
    assert value >> 7 == whole >> 7


def test_parts_of_one_kind_merge_only_with_their_neighbours() -> None:
    kinds = [
        one["message_type"]
        for one in shown(
            stored("assistant", TextPart("a"), ReasoningPart("b"), ReasoningPart("c"), TextPart("d"))
        )
    ]
    assert kinds == ["assistant_message", "reasoning_message", "assistant_message"]


def test_a_tool_row_shows_every_result_and_the_first_in_the_old_fields() -> None:
    message = stored(
        "tool",
        ToolReturnPart("c1", "find", "error", "no", (), ("boom",)),
        ToolReturnPart("c2", "read", "success", "yes", ("out",)),
    )
    [one] = shown(message)
    assert (one["message_type"], one["name"]) == ("tool_return_message", "find")
    assert (one["tool_return"], one["status"], one["tool_call_id"]) == ("no", "error", "c1")
    assert (one["stdout"], one["stderr"]) == (None, ["boom"])
    assert one["tool_returns"] == [
        {
            "type": "tool",
            "tool_return": "no",
            "status": "error",
            "tool_call_id": "c1",
            "stdout": None,
            "stderr": ["boom"],
        },
        {
            "type": "tool",
            "tool_return": "yes",
            "status": "success",
            "tool_call_id": "c2",
            "stdout": ["out"],
            "stderr": None,
        },
    ]


def test_a_system_prompt_and_a_summary_are_texts() -> None:
    [system] = shown(stored("system", TextPart("you are"), TextPart(" kind")))
    [summary] = shown(stored("summary", TextPart("before that")))
    assert (system["message_type"], system["content"]) == ("system_message", "you are kind")
    assert (summary["message_type"], summary["summary"]) == ("summary_message", "before that")


CALL = ToolCallPart("c1", "look", "{}")


@pytest.mark.parametrize("excluded", [True, False])
def test_what_models_are_shown_no_more_is_listed_and_marked(excluded: bool) -> None:
    rows = [
        stored("user", TextPart("bad"), excluded=excluded),
        stored("assistant", ReasoningPart("hm"), TextPart("a"), CALL, excluded=excluded),
        stored("tool", ToolReturnPart("c1", "look", "success", "seen"), excluded=excluded),
        stored("approval", CALL, excluded=excluded),
        stored("approval", ApprovalPart("c1", approve=True), excluded=excluded),
    ]
    listed = [one for row in rows for one in shown(row)]
    assert len(listed) == 7
    assert {one["is_err"] for one in listed} == {True if excluded else None}


def test_message_types_are_filtered_after_rows_are_expanded() -> None:
    rows = [stored("user", TextPart("q")), stored("assistant", ReasoningPart("hm"), TextPart("a"))]
    kept = letta_messages.show_all(rows, frozenset(["reasoning_message"]))
    assert [letta_messages.type_of(one) for one in kept] == ["reasoning_message"]
    assert len(letta_messages.show_all(rows, None)) == 3


def test_what_a_client_sent_is_told_from_what_the_model_said() -> None:
    assert letta_messages.is_input(stored("user", TextPart("q")))
    assert letta_messages.is_input(stored("assistant", TextPart("q"), otid="mine"))
    assert letta_messages.is_input(stored("assistant", TextPart("q"), step_id=None))
    assert not letta_messages.is_input(stored("assistant", TextPart("a")))
    assert not letta_messages.is_input(stored("tool", ToolReturnPart("c", "f", "success", "")))


def test_calls_that_wait_are_a_request_and_what_was_decided_is_its_answer() -> None:
    call = ToolCallPart("a", "write", "{}")
    [asks] = shown(stored("approval", call, step_id="step-1"))
    assert asks["message_type"] == "approval_request_message"
    assert asks["tool_calls"] == [asks["tool_call"]]
    answer = stored("approval", ApprovalPart("a", approve=False, reason="no"), step_id="step-1")
    [said] = shown(answer)
    assert said["message_type"] == "approval_response_message"
    assert (said["approve"], said["reason"]) == (False, "no")
    assert said["approvals"][0]["type"] == "approval"
    assert letta_messages.is_input(answer)
    returned = ToolReturnPart("a", "weather", "success", "Sunny")
    [mixed] = shown(stored("approval", ApprovalPart("b", approve=True), returned, step_id="step-1"))
    assert mixed["approve"] is None
    assert [one["type"] for one in mixed["approvals"]] == ["approval", "tool"]
