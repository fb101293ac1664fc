"""AG-UI images of what AG-UI has no event for: custom events with dotted names. Pure and stateless."""

import msgspec

from actors.commands import Decision
from actors.events import (
    ApprovalAnswered,
    ApprovalRequested,
    BlockChanged,
    BlockCreated,
    BlockDetached,
    Compacted,
    MessageCommitted,
    QueueChanged,
    Retracted,
    RunSteered,
    RunStopped,
    StepTimed,
    UsageCounted,
    WindowMeasured,
    WindowMoved,
)
from gateway.agui import messages as agui_messages
from gateway.agui.shapes import custom, interrupt_of, millis, present, usage_of
from gateway.letta import runs as letta_runs
from storage.parts import JsonObject, ToolReturnPart

_encode = msgspec.json.Encoder().encode


def message_committed(event: MessageCommitted, _: str) -> bytes:
    """Tell that a message is durable. Thoughts are left out: who may see them was streamed them."""
    message = event.message
    value = present(
        id=agui_messages.id_of(message),
        messageId=message.id,
        role=message.role,
        position=message.position,
        runId=message.run_id,
        stepId=message.step_id,
        interrupted=message.interrupted or None,
        excluded=message.excluded or None,
        messages=agui_messages.show(message, thoughts=False),
    )
    return _encode(
        {
            "type": "CUSTOM",
            "name": "wakeful.message",
            "value": value,
            "timestamp": millis(message.created_at),
        }
    )


def retracted(event: Retracted, _: str) -> bytes:
    """Tell what was shown and will not be in the history."""
    return custom(
        "wakeful.retract", {"runId": event.run_id, "stepId": event.step_id, "attempt": event.attempt}
    )


def queue(event: QueueChanged, _: str) -> bytes:
    """Tell what became of a run that had to wait."""
    value = {
        "change": event.change,
        "runId": event.run_id,
        "conversationId": event.conversation_id,
        "position": event.position,
        "queued": event.queued,
    }
    return custom("wakeful.queue", value)


def step_timed(event: StepTimed, _: str) -> bytes:
    """Tell where a step's time went, in nanoseconds by phase."""
    timing = event.timing
    value = {
        "runId": event.run_id,
        "stepId": event.step_id,
        "unit": "ns",
        "accept": timing.accept,
        "claim": timing.claim,
        "queue": timing.queue,
        "prompt": timing.prompt,
        "send": timing.send,
        "firstToken": timing.first_token,
        "stream": timing.stream,
        "tools": timing.tools,
        "compaction": timing.compaction,
        "checkpoint": timing.checkpoint,
        "delivery": timing.delivery,
        "usage": usage_of(event.usage),
    }
    return custom("wakeful.timing", value)


def steered(event: RunSteered, _: str) -> bytes:
    """Tell that a run joined another, with what it was sent."""
    messages = [
        agui_messages.show_input(message, f"{event.run_id}.{place}")
        for place, message in enumerate(event.messages)
    ]
    value = {"change": "joined", "runId": event.run_id, "into": event.into, "messages": messages}
    return custom("wakeful.queue", value)


def stopped(event: RunStopped, _: str) -> bytes:
    """Tell why a run stops, as Letta's own streams do."""
    return (
        b'{"type":"CUSTOM","name":"letta.stop_reason",'
        b'"value":{"message_type":"stop_reason","stop_reason":%b}}' % _encode(event.stop_reason)
    )


def usage_counted(event: UsageCounted, _: str) -> bytes:
    """Tell what a run used, as Letta's own streams do."""
    return b'{"type":"CUSTOM","name":"letta.usage_statistics","value":%b}' % _encode(
        letta_runs.usage_of(event.usage, event.run_id)
    )


def approval_requested(event: ApprovalRequested, _: str) -> bytes:
    """Tell what is waited for."""
    value = {
        "change": "requested",
        "runId": event.run_id,
        "messageId": event.message_id,
        "stepId": event.step_id,
        "interrupts": [interrupt_of(call, event.expires_at) for call in event.calls],
    }
    return custom("wakeful.approval", value)


def approval_answered(event: ApprovalAnswered, _: str) -> bytes:
    """Tell how it was answered."""
    value = {
        "change": "answered",
        "runId": event.run_id,
        "messageId": event.message_id,
        "decisions": [_decision(one) for one in event.decisions],
    }
    return custom("wakeful.approval", value)


def _decision(decision: Decision) -> JsonObject:
    if isinstance(decision, ToolReturnPart):
        return {"toolCallId": decision.tool_call_id, "status": decision.status}
    return present(
        toolCallId=decision.tool_call_id,
        approved=decision.approve,
        reason=decision.reason,
        arguments=decision.arguments,
    )


def window(event: WindowMoved, _: str) -> bytes:
    """Tell that messages left the window."""
    value = {"runId": event.run_id, "fromPosition": event.from_position, "evicted": event.evicted}
    return custom("wakeful.window", value)


def window_measured(event: WindowMeasured, _: str) -> bytes:
    """Tell what fills the window, by the names of `GET /v1/agents/{agent_id}/context`, without its texts."""
    tokens = event.tokens
    value = present(
        runId=event.run_id,
        context_window_size_max=event.window_tokens,
        context_window_size_current=tokens.used,
        num_messages=event.messages,
        num_archival_memory=event.archival,
        num_recall_memory=event.recall,
        **{f"num_tokens_{name}": getattr(tokens, name) for name in tokens.__struct_fields__},
    )
    return custom("letta.context_window", value)


def compacted(event: Compacted, _: str) -> bytes:
    """Tell how the window was shortened."""
    value = present(
        runId=event.run_id,
        id=event.id,
        stats=_plain(event.stats),
        summaryMessageId=event.summary_message_id,
        error=None if event.error is None else _plain(event.error),
    )
    return _encode(
        {"type": "CUSTOM", "name": "letta.compaction", "value": value, "timestamp": millis(event.at)}
    )


def block_changed(event: BlockChanged, _: str) -> bytes:
    """Tell a new value of a memory block, and where it differs from the one before."""
    diff = None if event.before is None else difference(event.before, event.value)
    return custom("wakeful.memory", _block(event, "changed", diff=diff))


def block_created(event: BlockCreated, _: str) -> bytes:
    """Tell of one more memory block."""
    value = _block(event, "created", description=event.description, diff=difference("", event.value))
    return custom("wakeful.memory", value)


def _block(event: BlockChanged | BlockCreated, change: str, **more: object) -> JsonObject:
    return present(
        change=change,
        runId=event.run_id,
        blockId=event.block_id,
        label=event.label,
        value=event.value,
        version=event.version,
        limit=event.limit,
        **more,
    )


def block_detached(event: BlockDetached, _: str) -> bytes:
    """Tell of one memory block less."""
    value = present(change="detached", runId=event.run_id, blockId=event.block_id, label=event.label)
    return custom("wakeful.memory", value)


def difference(before: str, after: str) -> JsonObject:
    """Return the one stretch in which two texts differ: put `added` in place of `removed` at `at`.

    `at` counts characters from 0. Cheap for any length: both ends are compared by halving.
    """
    shorter = min(len(before), len(after))
    head = _common(before, after, shorter)
    tail = _common(before[::-1], after[::-1], shorter - head)
    return {
        "at": head,
        "removed": before[head : len(before) - tail],
        "added": after[head : len(after) - tail],
    }


def _common(first: str, second: str, most: int) -> int:
    """Return how many characters two texts begin with in common, at most `most`."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _plain(value: object) -> JsonObject:
    built: JsonObject = msgspec.to_builtins(value)
    return present(**built)
