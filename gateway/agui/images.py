"""The AG-UI 1.0 image of every event: one event in, the bytes of one AG-UI event out. Pure and stateless.

Because it is stateless, whoever reads a log from any offset shows the same bytes, and an event is encoded
once for all who follow. What one event alone cannot tell (the shared state, a whole history) is added by
the projection of a stream (`projection`), never here. Optional fields are absent, never null.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from actors.events import (
    ApprovalAnswered,
    ApprovalRequested,
    BlockChanged,
    BlockCreated,
    BlockDetached,
    Compacted,
    Event,
    MessageCommitted,
    QueueChanged,
    ReasoningDelta,
    ReasoningEnded,
    ReasoningStarted,
    Retracted,
    RunFinished,
    RunStarted,
    RunSteered,
    RunStopped,
    StepFinished,
    StepStarted,
    StepTimed,
    TextDelta,
    TextEnded,
    TextStarted,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolReturned,
    UsageCounted,
    WindowMeasured,
    WindowMoved,
)
from gateway.agui import custom as agui_custom
from gateway.agui import messages as agui_messages
from gateway.agui.messages import reasoning_id, result_id
from gateway.agui.shapes import interrupt_of, millis, present, usage_of
from storage.parts import JsonObject

PROTOCOL_VERSION = "1.0"

MEMORY = (BlockChanged, BlockCreated, BlockDetached)
THOUGHTS = (ReasoningStarted, ReasoningDelta, ReasoningEnded, *MEMORY)

_encode = msgspec.json.Encoder().encode


def kind(event: Event) -> str:
    """Return the AG-UI type of an event's image; for custom events `CUSTOM:<name>`."""
    if isinstance(event, RunFinished):
        return "RUN_ERROR" if event.status == "failed" else "RUN_FINISHED"
    return _KINDS[type(event)]


def image(event: Event, thread_id: str) -> bytes:
    """Return the JSON of exactly one AG-UI event. `thread_id` is what the conversation is called there."""
    return _IMAGES[type(event)](event, thread_id)


def is_thought(event: Event) -> bool:
    """Say whether an event shows what an agent thinks or remembers: it needs a scope of its own."""
    return isinstance(event, THOUGHTS)


# --- runs and steps ---------------------------------------------------------------------------


def run_started(event: RunStarted, thread_id: str, run_id: str | None = None) -> bytes:
    """Return the start of a run, called `run_id` where its client gave it an id of its own."""
    named = run_id or event.run_id
    messages = [
        agui_messages.show_input(message, f"{event.run_id}.{place}")
        for place, message in enumerate(event.messages)
    ]
    return _encode(
        {
            "type": "RUN_STARTED",
            "threadId": thread_id,
            "runId": named,
            "protocolVersion": PROTOCOL_VERSION,
            "input": {"threadId": thread_id, "runId": named, "messages": messages},
            "metadata": {
                "wakeful": present(
                    run=event.run_id, conversation=event.conversation_id or None, attempt=event.attempt
                )
            },
        }
    )


def run_finished(event: RunFinished, thread_id: str, run_id: str | None = None) -> bytes:
    """Return the end of a run, called `run_id` where its client gave it an id of its own."""
    usage = [usage_of(event.usage)]
    if event.status == "failed":
        error = event.error
        return _encode(
            {
                "type": "RUN_ERROR",
                "message": "the run failed" if error is None else error.message,
                "code": event.stop_reason if error is None else error.type,
                "usage": usage,
                "metadata": {"wakeful": {"run": event.run_id, "stop_reason": event.stop_reason}},
            }
        )
    ended: JsonObject = {"type": "RUN_FINISHED", "threadId": thread_id, "runId": run_id or event.run_id}
    ended["outcome"] = _outcome(event)
    if event.status != "cancelled":
        ended["result"] = {"stop_reason": event.stop_reason}
    ended["usage"] = usage
    return _encode(ended)


def _outcome(event: RunFinished) -> JsonObject:
    """Return how a run ended. What only a client's own tools are waited for is no question to anybody."""
    if event.status == "cancelled":
        return {"type": "cancelled"}
    calls = event.interrupts
    if not calls:
        return {"type": "success"}
    if all(call.kind == "client" for call in calls):
        return {"type": "success", "pendingToolCallIds": [call.id for call in calls]}
    expires_at = event.interrupts_expire_at
    return {"type": "interrupt", "interrupts": [interrupt_of(call, expires_at) for call in calls]}


def _step_started(event: StepStarted, _: str) -> bytes:
    return _encode(
        {
            "type": "STEP_STARTED",
            "stepName": event.step_id,
            "timestamp": millis(event.at),
            "metadata": {"wakeful": {"model": event.model, "message": event.message_id}},
        }
    )


def _step_finished(event: StepFinished, _: str) -> bytes:
    return _encode(
        {
            "type": "STEP_FINISHED",
            "stepName": event.step_id,
            "metadata": {"wakeful": {"usage": usage_of(event.usage)}},
        }
    )


# --- what the model says ----------------------------------------------------------------------
# Deltas are the path of every token: bytes are joined, nothing is built. About a microsecond each.


def _text_started(event: TextStarted, _: str) -> bytes:
    return b'{"type":"TEXT_MESSAGE_START","messageId":%b,"role":"assistant"}' % _encode(event.message_id)


def text_head(message_id: str) -> bytes:
    """Return what all text of a message has in common: an image up to its text, which a brace follows."""
    return b'{"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":' % _encode(message_id)


def _text_delta(event: TextDelta, _: str) -> bytes:
    return b"%b%b}" % (text_head(event.message_id), _encode(event.text))


def _text_ended(event: TextEnded, _: str) -> bytes:
    return b'{"type":"TEXT_MESSAGE_END","messageId":%b}' % _encode(event.message_id)


def _reasoning_started(event: ReasoningStarted, _: str) -> bytes:
    return b'{"type":"REASONING_MESSAGE_START","messageId":%b,"role":"reasoning"}' % _encode(
        reasoning_id(event.message_id)
    )


def _reasoning_delta(event: ReasoningDelta, _: str) -> bytes:
    head = b'{"type":"REASONING_MESSAGE_CONTENT","messageId":'
    return head + _encode(reasoning_id(event.message_id)) + b',"delta":' + _encode(event.text) + b"}"


def _reasoning_ended(event: ReasoningEnded, _: str) -> bytes:
    return b'{"type":"REASONING_MESSAGE_END","messageId":%b}' % _encode(reasoning_id(event.message_id))


def _tool_call_started(event: ToolCallStarted, _: str) -> bytes:
    started: JsonObject = {
        "type": "TOOL_CALL_START",
        "toolCallId": event.call_id,
        "toolCallName": event.name,
        "parentMessageId": event.message_id,
    }
    if event.asks:
        started["metadata"] = {"wakeful": {"asks": True}}
    return _encode(started)


def _tool_call_delta(event: ToolCallDelta, _: str) -> bytes:
    head = b'{"type":"TOOL_CALL_ARGS","toolCallId":'
    return head + _encode(event.call_id) + b',"delta":' + _encode(event.text) + b"}"


def _tool_call_ended(event: ToolCallEnded, _: str) -> bytes:
    return b'{"type":"TOOL_CALL_END","toolCallId":%b}' % _encode(event.call_id)


def _tool_returned(event: ToolReturned, _: str) -> bytes:
    returned: JsonObject = {
        "type": "TOOL_CALL_RESULT",
        "messageId": result_id(event.call_id),
        "toolCallId": event.call_id,
        "content": agui_messages.result_content(event.text, event.images),
        "role": "tool",
    }
    if event.status == "error":
        returned["metadata"] = {"wakeful": {"status": "error"}}
    return _encode(returned)


_Image = Callable[[Any, str], bytes]

_TABLE: dict[type[Event], tuple[str, _Image]] = {
    RunStarted: ("RUN_STARTED", run_started),
    RunSteered: ("CUSTOM:wakeful.queue", agui_custom.steered),
    RunFinished: ("RUN_FINISHED", run_finished),
    RunStopped: ("CUSTOM:letta.stop_reason", agui_custom.stopped),
    UsageCounted: ("CUSTOM:letta.usage_statistics", agui_custom.usage_counted),
    QueueChanged: ("CUSTOM:wakeful.queue", agui_custom.queue),
    StepStarted: ("STEP_STARTED", _step_started),
    StepFinished: ("STEP_FINISHED", _step_finished),
    StepTimed: ("CUSTOM:wakeful.timing", agui_custom.step_timed),
    Retracted: ("CUSTOM:wakeful.retract", agui_custom.retracted),
    TextStarted: ("TEXT_MESSAGE_START", _text_started),
    TextDelta: ("TEXT_MESSAGE_CONTENT", _text_delta),
    TextEnded: ("TEXT_MESSAGE_END", _text_ended),
    ReasoningStarted: ("REASONING_MESSAGE_START", _reasoning_started),
    ReasoningDelta: ("REASONING_MESSAGE_CONTENT", _reasoning_delta),
    ReasoningEnded: ("REASONING_MESSAGE_END", _reasoning_ended),
    ToolCallStarted: ("TOOL_CALL_START", _tool_call_started),
    ToolCallDelta: ("TOOL_CALL_ARGS", _tool_call_delta),
    ToolCallEnded: ("TOOL_CALL_END", _tool_call_ended),
    ToolReturned: ("TOOL_CALL_RESULT", _tool_returned),
    ApprovalRequested: ("CUSTOM:wakeful.approval", agui_custom.approval_requested),
    ApprovalAnswered: ("CUSTOM:wakeful.approval", agui_custom.approval_answered),
    MessageCommitted: ("CUSTOM:wakeful.message", agui_custom.message_committed),
    WindowMoved: ("CUSTOM:wakeful.window", agui_custom.window),
    Compacted: ("CUSTOM:letta.compaction", agui_custom.compacted),
    WindowMeasured: ("CUSTOM:letta.context_window", agui_custom.window_measured),
    BlockChanged: ("CUSTOM:wakeful.memory", agui_custom.block_changed),
    BlockCreated: ("CUSTOM:wakeful.memory", agui_custom.block_created),
    BlockDetached: ("CUSTOM:wakeful.memory", agui_custom.block_detached),
}
_KINDS: dict[type[Event], str] = {cls: name for cls, (name, _) in _TABLE.items()}
_IMAGES: dict[type[Event], _Image] = {cls: make for cls, (_, make) in _TABLE.items()}
