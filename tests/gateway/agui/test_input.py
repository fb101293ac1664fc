"""What AG-UI clients send, turned into what an agent is told."""

from typing import Any

import msgspec
import pytest

from gateway import decode
from gateway.agui import input as agui_input
from gateway.agui.input import RunAgentInput
from gateway.errors import InvalidRequestError, NotSupportedError
from storage.pending_records import PendingRequest
from storage.records import ApprovalPart, ImagePart, TextPart, ToolReturnPart
from tests.gateway.agui_events import ASKS, AT, RUNS

WAITING = PendingRequest(
    conversation_id="conv-1",
    agent_id="agent-1",
    organization_id="org-1",
    run_id="run-1",
    step_id="step-1",
    message_id="message-1",
    position=1,
    calls=(ASKS, RUNS),
    created_at=AT,
    expires_at=AT,
)


def given(*messages: dict[str, Any], **more: Any) -> RunAgentInput:
    body = {"threadId": "t", "runId": "r", "messages": messages, **more}
    return decode.body(msgspec.json.encode(body), RunAgentInput)


def user(message_id: str, content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"id": message_id, "role": "user", "content": content, **more}


def told(message_id: str, call_id: str, content: Any = "18 degrees", **more: Any) -> dict[str, Any]:
    return {"id": message_id, "role": "tool", "toolCallId": call_id, "content": content, **more}


def test_only_what_was_said_after_the_last_answer_is_new() -> None:
    asked = given(user("a"), {"id": "b", "role": "assistant", "content": "yo"}, user("c"), user("d"))
    assert agui_input.sent_ids(asked) == ["c", "d"]
    assert [m.otid for m in agui_input.new_messages(asked, set())] == ["c", "d"]
    assert [m.otid for m in agui_input.new_messages(asked, {"c"})] == ["d"]
    assert agui_input.new_messages(asked, {"d"}) == ()


def test_everything_else_in_the_history_is_passed_over() -> None:
    asked = given(
        {"id": "s", "role": "system", "content": "be nice"},
        {"id": "x", "role": "activity", "activityType": "plan", "content": {"a": 1}},
        {"id": "r", "role": "reasoning", "content": "Hm."},
        {"id": "b", "role": "assistant", "toolCalls": [{"id": "c", "type": "function"}]},
        user("c"),
    )
    assert [m.otid for m in agui_input.new_messages(asked, set())] == ["c"]


def test_images_become_images() -> None:
    data = {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}}
    url = {"type": "image", "source": {"type": "url", "value": "https://x.example/a.png"}}
    (message,) = agui_input.new_messages(
        given(user("a", [{"type": "text", "text": "see"}, data, url])), set()
    )
    assert message.content == (
        TextPart("see"),
        ImagePart({"type": "base64", "media_type": "image/png", "data": "aGk="}),
        ImagePart({"type": "url", "url": "https://x.example/a.png"}),
    )


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"type": "audio", "source": {"type": "url", "value": "https://x.example/a"}}, NotSupportedError),
        ({"type": "image", "source": {"type": "file", "value": "f1"}}, NotSupportedError),
        ({"type": "image", "source": {"type": "data", "value": "aGk="}}, InvalidRequestError),
        ({"type": "image"}, InvalidRequestError),
        ({"type": "text"}, InvalidRequestError),
        ({"type": "smell"}, InvalidRequestError),
        (7, InvalidRequestError),
    ],
)
def test_what_no_model_could_be_shown_is_refused_with_its_place(part: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        agui_input.new_messages(given(user("a"), user("b", [part])), set())
    assert (getattr(caught.value, "param", None) or "").startswith("/messages/1")


def test_context_is_told_when_it_is_new() -> None:
    context = [{"description": "page", "value": "home"}]
    first = given(user("a"), context=context)
    about, said = agui_input.new_messages(first, set())
    assert (about.role, said.otid) == ("system", "a")
    assert isinstance(about.content[0], TextPart)
    assert "page: home" in about.content[0].text
    again = given(user("a"), user("b"), context=context)
    assert about.otid in agui_input.sent_ids(again)
    assert [m.otid for m in agui_input.new_messages(again, {"a", str(about.otid)})] == ["b"]
    other = given(user("b"), context=[{"description": "page", "value": "cart"}])
    assert len(agui_input.new_messages(other, {str(about.otid)})) == 2


def test_context_alone_says_nothing() -> None:
    assert agui_input.new_messages(given(context=[{"description": "a", "value": "b"}]), set()) == ()


def resume(call_id: str, payload: Any = None, status: str = "resolved") -> dict[str, Any]:
    return {"interruptId": call_id, "status": status, **({} if payload is None else {"payload": payload})}


def test_resume_and_results_answer_together() -> None:
    asked = given(told("x", "c2"), resume=[resume("c1", {"approved": True})])
    assert agui_input.answers_of(asked, WAITING) == (
        ApprovalPart("c1", approve=True),
        ToolReturnPart("c2", "", "success", "18 degrees"),
    )


def test_results_count_only_for_calls_of_the_client_that_wait() -> None:
    asked = given(told("x", "c1"), told("y", "c2", "late", error="no net"), told("z", "old"))
    assert agui_input.answers_of(asked, WAITING) == (ToolReturnPart("c2", "", "error", "late"),)
    assert agui_input.answers_of(asked, None) == ()


def test_a_result_of_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "18"}, {"type": "text", "text": "degrees"}]
    assert agui_input.answers_of(given(told("x", "c2", parts)), WAITING) == (
        ToolReturnPart("c2", "", "success", "18\ndegrees"),
    )


def test_a_result_may_hold_images_that_a_provider_can_be_sent() -> None:
    def shown(source: dict[str, Any]) -> Any:
        parts = [{"type": "text", "text": "see"}, {"type": "image", "source": source}]
        return agui_input.answers_of(given(told("x", "c2", parts)), WAITING)

    image = ImagePart({"type": "url", "url": "https://x.example/a.png"})
    taken = shown({"type": "url", "value": "https://x.example/a.png"})
    assert taken == (ToolReturnPart("c2", "", "success", "see", images=(image,)),)
    with pytest.raises(InvalidRequestError):
        shown({"type": "url", "value": "file:///etc/passwd"})


def test_edited_arguments_go_with_the_approval() -> None:
    asked = given(resume=[resume("c1", {"approved": True, "editedArgs": {"sum": 2}})])
    assert agui_input.answers_of(asked, WAITING) == (ApprovalPart("c1", True, None, '{"sum":2}'),)


def test_a_resume_that_says_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        agui_input.answers_of(given(resume=[resume("c1")]), WAITING)


def test_tools_are_the_clients() -> None:
    asked = given(tools=[{"name": "weather", "description": "d", "parameters": {"type": "object"}}])
    tools = agui_input.client_tools_of(asked)
    assert tools is not None
    assert tools[0].name == "weather"
    assert agui_input.client_tools_of(given(tools=[])) is None
    with pytest.raises(InvalidRequestError) as caught:
        agui_input.client_tools_of(given(tools=[{"name": "no good", "description": "d"}]))
    assert caught.value.param == "/tools/0/name"


def test_wishes_stand_under_a_key_of_their_own() -> None:
    assert agui_input.wishes_of(given(forwardedProps={"other": 1})) == agui_input.Wishes()
    assert agui_input.wishes_of(given(forwardedProps=[1])) == agui_input.Wishes()
    asked = given(forwardedProps={"wakeful": {"whenBusy": "steer", "maxSteps": 3}})
    assert agui_input.wishes_of(asked) == agui_input.Wishes(when_busy="steer", max_steps=3)
    with pytest.raises(InvalidRequestError) as caught:
        agui_input.wishes_of(given(forwardedProps={"wakeful": {"whenBusy": "sing"}}))
    assert caught.value.param == "/forwardedProps/wakeful/whenBusy"


def test_a_run_id_is_a_key_in_its_conversation_only() -> None:
    assert agui_input.key_of("conv-1", "r") == agui_input.key_of("conv-1", "r")
    assert agui_input.key_of("conv-1", "r") != agui_input.key_of("conv-2", "r")
