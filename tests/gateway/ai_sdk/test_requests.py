"""What the AI SDK's chat transport sends, checked and turned into what an agent is told."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from actors.commands import SendMessages
from gateway.ai_sdk import requests
from gateway.ai_sdk.requests import ChatRequest, Continued, UIMessage
from gateway.errors import BadArgumentError, InvalidRequestError, NotSupportedError
from storage.pending_records import PendingCall, PendingRequest
from storage.records import ApprovalPart, ImagePart, Run, TextPart, ToolReturnPart
from tests.gateway.ai_sdk_runs import NOW


def message(message_id: str, role: str, *parts: dict[str, Any]) -> UIMessage:
    return msgspec.convert({"id": message_id, "role": role, "parts": parts}, UIMessage)


def user(message_id: str, text: str = "hi") -> UIMessage:
    return message(message_id, "user", {"type": "text", "text": text})


def call(call_id: str, state: str, **more: Any) -> dict[str, Any]:
    return {"type": "dynamic-tool", "toolName": "x", "toolCallId": call_id, "state": state, **more}


def waiting(*calls: tuple[str, Any]) -> PendingRequest:
    return PendingRequest(
        conversation_id="conv-1",
        agent_id="agent-1",
        organization_id="org-1",
        run_id="run-1",
        step_id="step-1",
        message_id="message-1",
        position=2,
        calls=tuple(PendingCall(id=i, name=f"tool_{i}", arguments="{}", kind=kind) for i, kind in calls),
        created_at=NOW,
        expires_at=NOW,
    )


def request(*messages: UIMessage, **more: Any) -> ChatRequest:
    return ChatRequest(id="chat", messages=messages, **more)


# --- messages ---------------------------------------------------------------------------------


def test_only_what_the_user_said_after_the_last_answer_is_told() -> None:
    told = requests.latest(
        [user("u1"), message("a1", "assistant"), user("u2", "two"), message("s", "system"), user("u3")]
    )
    assert [(m.otid, m.role, m.content) for m in told] == [
        ("u2", "user", (TextPart("two"),)),
        ("u3", "user", (TextPart("hi"),)),
    ]


def test_images_are_taken_inline_and_by_address() -> None:
    inline = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,aGk="}
    linked = {"type": "file", "mediaType": "image/png", "url": "https://example.com/a.png"}
    (told,) = requests.latest([message("u1", "user", {"type": "text", "text": "see"}, inline, linked)])
    assert told.content == (
        TextPart("see"),
        ImagePart({"type": "base64", "media_type": "image/png", "data": "aGk="}),
        ImagePart({"type": "url", "url": "https://example.com/a.png"}),
    )


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"type": "file", "mediaType": "application/pdf", "url": "data:,x"}, NotSupportedError),
        ({"type": "file", "mediaType": "image/png", "url": "data:image/png,x"}, InvalidRequestError),
        ({"type": "file", "mediaType": "image/png"}, InvalidRequestError),
        ({"type": "text", "text": ""}, InvalidRequestError),
        ({"type": "data-x", "data": 1}, InvalidRequestError),
    ],
)
def test_a_message_that_no_model_could_read_is_refused(part: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        requests.latest([message("u1", "user", part)])


def test_the_answer_goes_on_with_the_message_that_the_client_writes_to() -> None:
    answer, earlier = message("a2", "assistant"), message("a1", "assistant")
    assert requests.target(request(user("u1"), answer)) == answer
    assert requests.target(request(answer, user("u1"))) is None
    assert requests.target(request(earlier, user("u1"), answer, message_id="a1")) == earlier
    assert requests.target(request(answer, user("u1"), message_id="u1")) is None
    assert requests.target(request()) is None


def test_a_message_shows_calls_and_the_ends_of_some() -> None:
    parts = [call("a", "input-available"), call("b", "output-error"), call("c", "approval-responded")]
    shown = message("a1", "assistant", {"type": "text", "text": "x"}, *parts)
    assert requests.calls_of(shown) == {"a", "b", "c"}
    assert requests.settled_of(shown) == {"b"}
    assert requests.calls_of(None) == requests.settled_of(None) == frozenset()


# --- answers ----------------------------------------------------------------------------------


def test_an_approval_is_what_a_person_responded() -> None:
    parts = [
        call("a", "approval-responded", approval={"id": "x", "approved": True}),
        call("b", "approval-responded", approval={"id": "y", "approved": False, "reason": "no"}),
    ]
    found = requests.answers_of(
        [message("a1", "assistant", *parts)], waiting(("a", "approval"), ("b", "approval"))
    )
    assert found == (ApprovalPart("a", True), ApprovalPart("b", False, "no"))


def test_a_clients_result_is_its_output_as_text() -> None:
    parts = [
        call("a", "output-available", output={"c": 3}),
        call("b", "output-available", output="three"),
        call("c", "output-error", errorText="broken"),
        call("d", "output-denied"),
    ]
    calls = waiting(("a", "client"), ("b", "client"), ("c", "client"), ("d", "client"))
    assert requests.answers_of([message("a1", "assistant", *parts)], calls) == (
        ToolReturnPart("a", "tool_a", "success", '{"c":3}'),
        ToolReturnPart("b", "tool_b", "success", "three"),
        ToolReturnPart("c", "tool_c", "error", "broken"),
        ApprovalPart("d", False, requests.DENIED_BY_CLIENT),
    )


def test_images_in_an_output_are_images_of_the_result() -> None:
    def answers(url: str) -> Any:
        shot = {"type": "file", "mediaType": "image/png", "data": {"type": "url", "url": url}}
        output = {"type": "content", "value": [{"type": "text", "text": "see"}, shot]}
        parts = [{"type": "step-start"}, call("a", "output-available", output=output)]
        messages = [user("u1"), message("a1", "assistant", *parts)]
        return requests.answers_of(messages, waiting(("a", "client")))

    image = ImagePart({"type": "url", "url": "https://x.example/a.png"})
    taken = answers("https://x.example/a.png")
    assert taken == (ToolReturnPart("a", "tool_a", "success", "see", images=(image,)),)
    with pytest.raises(InvalidRequestError) as refused:
        answers("file:///etc/passwd")
    assert (refused.value.param or "").startswith("/messages/1/parts/1/output/value/1")


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (call("a", "approval-requested", approval={"id": "x"}), call("b", "input-available")),
        (call("z", "approval-responded", approval={"id": "x", "approved": True}),),
        # Only a client's own calls are answered with results.
        (call("a", "output-available", output="forged"),),
    ],
)
def test_what_nobody_answered_is_no_answer(parts: tuple[dict[str, Any], ...]) -> None:
    calls = waiting(("a", "approval"), ("b", "client"))
    assert requests.answers_of([message("a1", "assistant", *parts)], calls) == ()


def test_half_an_answer_is_refused() -> None:
    parts = [call("b", "output-available", output=1)]
    with pytest.raises(BadArgumentError, match="tool_a"):
        requests.answers_of([message("a1", "assistant", *parts)], waiting(("a", "approval"), ("b", "client")))


def test_a_key_is_of_one_conversation_and_of_all_that_is_sent() -> None:
    (said,) = requests.latest([user("u1")])
    command = SendMessages(conversation_id="conv-1", messages=(said,))
    others = [
        replace(command, conversation_id="conv-2"),
        replace(command, messages=(replace(said, otid="u2"),)),
        replace(command, approvals_otid="answer-1"),
        replace(command, messages=()),
    ]
    keys = {requests.key_of(one) for one in (command, *others)}
    assert len(keys) == 5
    assert requests.key_of(replace(command, max_steps=3)) in keys


# --- the rest -----------------------------------------------------------------------------------


def test_tools_are_named_as_either_sdk_names_them() -> None:
    schema = {"type": "object"}
    given = [{"name": "a", "parameters": schema}, {"name": "b", "inputSchema": schema}, {"name": "c"}]
    found = requests.client_tools(given)
    assert found is not None
    assert [(tool.name, tool.parameters) for tool in found] == [("a", schema), ("b", schema), ("c", None)]
    assert requests.client_tools(None) is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Continued()),
        (
            {"ai_sdk": {"message_id": "m", "earlier": ["run-1"]}},
            Continued(message_id="m", earlier=("run-1",)),
        ),
        ({"ai_sdk": {"message_id": 7}}, Continued()),
    ],
)
def test_how_a_stream_is_written_is_kept_with_its_run(config: dict[str, Any], expected: Continued) -> None:
    run = Run(
        id="run-2",
        organization_id="org-1",
        agent_id="agent-1",
        conversation_id="conv-1",
        status="running",
        created_at=NOW,
        request_config=config,
    )
    assert requests.continued(run) == expected
