"""A conversation as the list of messages with which an AI SDK chat begins."""

from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.ai_sdk import files
from gateway.ai_sdk import history as ai_sdk_history
from storage.pending_records import ClientTool, PendingCall, PendingRequest
from storage.records import (
    ApprovalPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from tests.gateway.ai_sdk_runs import CHAT, NOW, RUN, STEP, stored, text, tool

CALL = ToolCallPart("c1", "find", '{"q":1}')
SAID = [
    stored("m0", "system", TextPart("You are.")),
    replace(stored("m1", "user", TextPart("hi"), step=None), otid="u1"),
]


def shown(
    *messages: Message, waiting: PendingRequest | None = None, thoughts: bool = True
) -> list[dict[str, Any]]:
    found = ai_sdk_history.show([*SAID, *messages], waiting, thoughts=thoughts)
    return msgspec.json.decode(msgspec.json.encode(found))


def asking(kind: Any) -> PendingRequest:
    return PendingRequest(
        conversation_id=CHAT,
        agent_id="agent-1",
        organization_id="org-1",
        run_id=RUN,
        step_id="step-1",
        message_id="m2",
        position=2,
        calls=(PendingCall(id="c1", name="find", arguments='{"q":1}', kind=kind),),
        created_at=NOW,
        expires_at=NOW,
        client_tools=(ClientTool(name="find"),) if kind == "client" else (),
    )


def answer(*messages: Message, **more: Any) -> list[dict[str, Any]]:
    """Return the parts of the one answer that the messages make."""
    user, one = shown(*messages, **more)
    assert user["id"] == "u1"
    assert (one["id"], one["role"]) == (RUN, "assistant")
    return one["parts"]


def assistant(*parts: Part, step: str = "step-1", message_id: str = "m2") -> Message:
    return stored(message_id, "assistant", *parts, step=step)


def test_the_prompt_is_not_shown_and_what_was_typed_keeps_its_id() -> None:
    [one] = shown()
    assert one == {
        "id": "u1",
        "role": "user",
        "parts": [{"type": "text", "text": "hi"}],
        "metadata": {"runId": RUN, "conversationId": CHAT},
    }


def test_all_steps_between_two_messages_of_the_user_are_one_message() -> None:
    parts = answer(
        assistant(ReasoningPart("hm"), TextPart("Let me see."), CALL),
        stored("m3", "tool", ToolReturnPart("c1", "find", "success", "42")),
        assistant(TextPart("It is 42."), step="step-2", message_id="m4"),
    )
    assert parts == [
        STEP,
        {"type": "reasoning", "text": "hm", "state": "done"},
        text("Let me see."),
        tool("find", "output-available", input={"q": 1}, output="42"),
        STEP,
        text("It is 42."),
    ]


def test_thoughts_are_left_out_for_those_who_may_not_see_them() -> None:
    parts = answer(assistant(ReasoningPart("hm"), TextPart("Hello")), thoughts=False)
    assert parts == [STEP, text("Hello")]


def test_a_call_that_waits_asks_and_is_settled_by_its_answer() -> None:
    request = stored("m2", "approval", CALL)
    yes = stored("m3", "approval", ApprovalPart("c1", approve=True))
    no = stored("m3", "approval", ApprovalPart("c1", approve=False, reason="no"))
    done = stored("m4", "tool", ToolReturnPart("c1", "find", "success", "42"))
    told = stored("m4", "tool", ToolReturnPart("c1", "find", "error", "denied"))
    fixed = {"input": {"q": 1}}
    assert answer(request, waiting=asking("approval")) == [
        STEP,
        tool("find", "approval-requested", approval={"id": "approval-c1"}, **fixed),
    ]
    assert answer(request, yes, done) == [
        STEP,
        tool(
            "find",
            "output-available",
            approval={"id": "approval-c1", "approved": True},
            output="42",
            **fixed,
        ),
    ]
    assert answer(request, no, told) == [
        STEP,
        tool(
            "find",
            "output-denied",
            approval={"id": "approval-c1", "approved": False, "reason": "no"},
            **fixed,
        ),
    ]


def test_a_clients_call_is_its_own_tool_before_and_after_its_result() -> None:
    request = stored("m2", "approval", CALL)
    result = ToolReturnPart("c1", "find", "success", '{"a":1}')
    fixed = {"type": "tool-find", "toolCallId": "c1", "input": {"q": 1}}
    assert answer(request, waiting=asking("client")) == [STEP, {**fixed, "state": "input-available"}]
    settled = answer(request, stored("m3", "approval", result), stored("m4", "tool", result))
    assert settled == [STEP, {**fixed, "state": "output-available", "output": {"a": 1}}]


def test_an_image_that_a_clients_call_gave_is_in_its_output() -> None:
    image = ImagePart({"type": "base64", "media_type": "image/png", "data": "aGk="})
    result = ToolReturnPart("c1", "find", "success", "see", images=(image,))
    request = stored("m2", "approval", CALL)
    _, one = answer(request, stored("m3", "approval", result), stored("m4", "tool", result))
    assert one["output"] == files.content_of("see", (image,))


def test_images_are_files() -> None:
    inline = ImagePart({"type": "base64", "media_type": "image/png", "data": "aGk="})
    linked = ImagePart({"type": "url", "url": "https://example.com/a.png"})
    _, one = shown(stored("m2", "user", inline, linked, step=None))
    assert one["id"] == "m2"
    assert [part["url"] for part in one["parts"]] == [
        "data:image/png;base64,aGk=",
        "https://example.com/a.png",
    ]


def test_a_summary_is_data_of_the_answer_it_stands_in() -> None:
    parts = answer(stored("m2", "summary", TextPart("so far")), assistant(TextPart("Hello"), message_id="m3"))
    assert [part["type"] for part in parts] == ["data-compaction", "step-start", "text"]


def test_calls_that_speak_are_text() -> None:
    speech = ToolCallPart("c1", "send_message", '{"message":"Hello"}')
    parts = answer(
        assistant(speech), stored("m3", "tool", ToolReturnPart("c1", "send_message", "success", "None"))
    )
    assert parts == [STEP, text("Hello")]
