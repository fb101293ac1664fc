"""The AG-UI image of every event: total, one for one, and what the official types accept."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.events import (
    Event,
    ReasoningDelta,
    RunFinished,
    RunStopped,
    TextDelta,
    ToolCallDelta,
    ToolReturned,
    UsageCounted,
    WindowMeasured,
)
from gateway.agui import images as agui
from gateway.agui.custom import difference
from gateway.letta.context import ContextWindowOverview
from storage.records import ImagePart
from tests.gateway import agui_streams
from tests.gateway.agui_events import ASKS, AT, EVERY, RUN, RUNS, SAID, TOKENS, USAGE


def image(event: Event) -> dict[str, Any]:
    return msgspec.json.decode(agui.image(event, "thread-1"))


def test_the_examples_hold_every_kind_of_event() -> None:
    assert {type(event) for event in EVERY} == set(get_args(Event))


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_every_event_has_one_image_that_the_official_types_take(event: Event) -> None:
    shown = image(event)
    agui_streams.check_type(shown)
    assert agui.kind(event) == agui_streams.kinds([shown])[0]
    assert b"\n" not in agui.image(event, "thread-1")
    assert agui.image(event, "thread-1") == agui.image(event, "thread-1")


def test_custom_names_are_dotted() -> None:
    names = [kind.partition(":")[2] for kind in map(agui.kind, EVERY) if kind.startswith("CUSTOM")]
    assert names
    assert all("." in name for name in names)


@given(st.text())
def test_a_delta_carries_any_text(text: str) -> None:
    text = text.encode(errors="replace").decode()
    assert image(TextDelta(RUN, SAID, text))["delta"] == text
    assert image(ReasoningDelta(RUN, SAID, text))["delta"] == text
    assert image(ToolCallDelta(RUN, SAID, 'call "1"', text)) == {
        "type": "TOOL_CALL_ARGS",
        "toolCallId": 'call "1"',
        "delta": text,
    }


def test_thoughts_have_an_id_beside_that_of_the_text() -> None:
    assert image(ReasoningDelta(RUN, SAID, "x"))["messageId"] != image(TextDelta(RUN, SAID, "x"))["messageId"]


def test_only_thoughts_and_memory_need_their_own_scope() -> None:
    thoughts = {agui.kind(event) for event in EVERY if agui.is_thought(event)}
    assert thoughts == {
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "CUSTOM:wakeful.memory",
    }


def test_a_result_with_images_is_told_in_parts() -> None:
    shot = ImagePart({"type": "base64", "media_type": "image/png", "data": "aGk="})
    assert image(ToolReturned(RUN, "c1", "look", "success", "see"))["content"] == "see"
    assert image(ToolReturned(RUN, "c1", "look", "success", "see", (shot,)))["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
    ]


def test_no_image_but_of_thoughts_tells_a_thought() -> None:
    open_to_all = [agui.image(event, "t") for event in EVERY if not agui.is_thought(event)]
    assert not [shown for shown in open_to_all if b"Hm." in shown or b"because" in shown]


def test_a_run_starts_with_what_its_client_sent_under_the_clients_ids() -> None:
    started = image(EVERY[0])
    assert started["protocolVersion"] == "1.0"
    assert started["input"]["messages"] == [{"id": "m1", "role": "user", "content": "Hello"}]


def outcome(*calls: Any) -> dict[str, Any]:
    return image(RunFinished(RUN, "completed", "requires_approval", USAGE, None, calls, AT))["outcome"]


def test_calls_that_wait_for_a_decision_are_interrupts() -> None:
    asked = outcome(ASKS, RUNS)
    assert asked["type"] == "interrupt"
    assert [(one["id"], one["reason"]) for one in asked["interrupts"]] == [
        ("c1", "tool_call"),
        ("c2", "input_required"),
    ]
    assert asked["interrupts"][0]["expiresAt"] == "2026-01-01T00:00:00+00:00"


def test_calls_that_the_client_runs_are_pending() -> None:
    assert outcome(RUNS) == {"type": "success", "pendingToolCallIds": ["c2"]}


def test_a_failed_run_ends_with_run_error() -> None:
    failed = next(image(e) for e in EVERY if isinstance(e, RunFinished) and e.status == "failed")
    assert (failed["type"], failed["code"], failed["message"]) == (
        "RUN_ERROR",
        "llm_error",
        "the model is down",
    )


def value(event: Event) -> Any:
    return image(event)["value"]


def test_why_a_run_stops_and_what_it_used_have_the_shapes_of_lettas_clients() -> None:
    assert value(RunStopped(RUN, "max_steps")) == {"message_type": "stop_reason", "stop_reason": "max_steps"}
    assert value(UsageCounted(RUN, USAGE)) == {
        "message_type": "usage_statistics",
        "completion_tokens": 5,
        "prompt_tokens": 10,
        "total_tokens": 15,
        "step_count": 1,
        "run_ids": [RUN],
        "cached_input_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "context_tokens": 10,
    }


def test_what_fills_the_window_has_the_names_of_lettas_clients_and_no_texts() -> None:
    shown = value(WindowMeasured(RUN, 32_000, TOKENS, 7, 2, 40))
    assert shown.pop("runId") == RUN
    assert set(shown) < set(ContextWindowOverview.__struct_fields__)
    assert {type(number) for number in shown.values()} == {int}
    parts = sum(number for name, number in shown.items() if name.startswith("num_tokens_"))
    assert parts == shown["context_window_size_current"] == 1000
    counts = [shown[f"num_{name}"] for name in ("messages", "archival_memory", "recall_memory")]
    assert (shown["context_window_size_max"], counts) == (32_000, [7, 2, 40])


def test_between_two_runs_the_window_is_no_runs() -> None:
    assert "runId" not in value(WindowMeasured(None, 32_000, TOKENS, 7, 2, 40))


@given(st.text(alphabet="ab"), st.text(alphabet="ab"))
def test_a_difference_turns_one_text_into_the_other(before: str, after: str) -> None:
    found = difference(before, after)
    at, removed = found["at"], found["removed"]
    assert before[at : at + len(removed)] == removed
    assert before[:at] + found["added"] + before[at + len(removed) :] == after


def test_a_difference_is_the_shortest_stretch() -> None:
    assert difference("likes milk", "likes tea") == {"at": 6, "removed": "milk", "added": "tea"}
    assert difference("same", "same") == {"at": 4, "removed": "", "added": ""}
