"""The chunks of an AI SDK UI message stream that say more than a delta. Pure.

The protocol is that of the npm package `ai` 7, its type `UIMessageChunk`: every chunk is the JSON of one
server-sent event, absent fields are left out. What the protocol has no chunk for is a `data-*` part; those
that only matter at their moment are `transient`: clients hand them to `onData` and keep them nowhere.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from actors import summary
from actors.events import BlockChanged, BlockCreated, BlockDetached, Compacted, StepTimed, WindowMoved
from gateway.ai_sdk import files
from storage.records import ImagePart, JsonObject, Message, StopReason, TextPart, Timing, Usage

DONE = b"data: [DONE]\n\n"
END = b"}\n\n"  # of a chunk that `delta_head` begins, after its text

_NANOSECONDS = 1_000_000  # in a millisecond

FINISH_REASONS: dict[StopReason, str] = {
    "end_turn": "stop",
    "tool_rule": "stop",
    "requires_approval": "tool-calls",
    "max_tokens_exceeded": "length",
    "cancelled": "interrupted",
    "error": "error",
    "llm_api_error": "error",
    "invalid_llm_response": "error",
    "insufficient_credits": "error",
    "context_window_overflow_in_system_prompt": "error",
}  # every other one is `other`

_encode = msgspec.json.Encoder().encode


def chunk(type_: str, **fields: Any) -> bytes:
    """Return a chunk as a server-sent event; fields that are `None` are left out."""
    return (
        b"data: "
        + _encode({"type": type_, **{name: value for name, value in fields.items() if value is not None}})
        + b"\n\n"
    )


def delta_head(type_: str, id_key: str, id_: str, text_key: str) -> bytes:
    """Return what every delta of one stream begins with, up to its text."""
    fixed = _encode({"type": type_, id_key: id_})[:-1]
    return b"data: " + fixed + b',"%b":' % text_key.encode()


def start(message_id: str, *, run_id: str, conversation_id: str) -> bytes:
    """Return the first chunk: which message of the client's list is being written, and by which run."""
    return chunk(
        "start", messageId=message_id, messageMetadata={"runId": run_id, "conversationId": conversation_id}
    )


def finish(stop_reason: StopReason, usage: Usage) -> bytes:
    """Return the last chunk before `[DONE]`: why the run ended and what it used."""
    return chunk(
        "finish",
        finishReason=FINISH_REASONS.get(stop_reason, "other"),
        messageMetadata={"stopReason": stop_reason, "usage": usage_of(usage), "steps": usage.steps},
    )


def usage_of(usage: Usage) -> JsonObject:
    """Return tokens by the names of the AI SDK's `LanguageModelUsage`."""
    return {
        "inputTokens": usage.prompt,
        "outputTokens": usage.completion,
        "totalTokens": usage.total,
        "reasoningTokens": usage.reasoning,
        "cachedInputTokens": usage.cached,
    }


# --- tools ------------------------------------------------------------------------------------


def tool_flags(*, client: bool) -> JsonObject:
    """Return how a call is marked: one of the client's own tools, or one that the agent runs.

    Clients wait for outputs of calls that nobody marks as executed here; they know the types of their own
    tools only, so the agent's are dynamic.
    """
    return {} if client else {"providerExecuted": True, "dynamic": True}


def input_of(arguments: str) -> msgspec.Raw | None:
    """Return a call's arguments as JSON, an empty object where there are none, `None` where it is no JSON."""
    if not arguments.strip():
        return msgspec.Raw(b"{}")
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return msgspec.Raw(arguments.encode())


def tool_input(call_id: str, name: str, arguments: str, *, client: bool) -> bytes:
    """Return a call whose arguments are complete; they may be no JSON, which is the model's fault."""
    flags = tool_flags(client=client)
    parsed = input_of(arguments)
    if parsed is None:
        return chunk(
            "tool-input-error",
            toolCallId=call_id,
            toolName=name,
            input=arguments,
            errorText="the arguments are not JSON",
            **flags,
        )
    return chunk("tool-input-available", toolCallId=call_id, toolName=name, input=parsed, **flags)


def tool_output(call_id: str, text: str, *, client: bool, images: Sequence[ImagePart] = ()) -> bytes:
    """Return what a call gave."""
    output = output_of(text, client=client, images=images)
    return chunk("tool-output-available", toolCallId=call_id, output=output)


def output_of(text: str, *, client: bool, images: Sequence[ImagePart] = ()) -> str | JsonObject | msgspec.Raw:
    """Return a result as it is shown. A client's own comes back as the JSON that it was sent as."""
    if images:
        return files.content_of(text, images)
    return input_of(text) or text if client and text[:1] in ("{", "[") else text


def approval_id(call_id: str) -> str:
    """Return the id under which a call's approval is asked for."""
    return f"approval-{call_id}"


# --- data parts -------------------------------------------------------------------------------


def data(name: str, value: object, *, id_: str | None = None, transient: bool = False) -> bytes:
    """Return a `data-*` part. One with an id replaces the part of the same name and id."""
    return chunk(f"data-{name}", id=id_, data=value, transient=True if transient else None)


def memory(event: BlockChanged | BlockCreated | BlockDetached) -> bytes:
    """Return an edit of the agent's memory."""
    shown: JsonObject = {"label": event.label, "blockId": event.block_id, "limit": event.limit}
    match event:
        case BlockChanged():
            shown |= {"change": "changed", "value": event.value, "version": event.version}
            if event.before is not None:
                shown["before"] = event.before
            id_ = f"{event.block_id}.{event.version}"
        case BlockCreated():
            shown |= {"change": "created", "value": event.value, "version": event.version}
            id_ = f"{event.block_id}.created"
        case BlockDetached():
            shown["change"] = "detached"
            id_ = f"{event.block_id}.detached"
    return data("memory", shown, id_=id_)


def compaction(event: Compacted) -> bytes:
    """Return a shortening of the window."""
    shown: JsonObject = {"stats": event.stats}
    if event.error is not None:
        shown["error"] = event.error.message
    return data("compaction", shown, id_=event.id)


def summary_of(message: Message) -> bytes:
    """Return a shortening of the window that left a summary, as the summary's message tells it."""
    part = summary_part(message)
    return data("compaction", part["data"], id_=part["id"])


def summary_part(message: Message) -> JsonObject:
    """Return the same as a part of a message."""
    text, stats = summary.unpack("".join(p.text for p in message.content if isinstance(p, TextPart)))
    shown: JsonObject = {"summary": text}
    if stats is not None:
        shown["stats"] = stats
    return {"type": "data-compaction", "id": message.id, "data": shown}


def window(event: WindowMoved) -> bytes:
    """Return that older messages left the window."""
    return data("window", {"fromPosition": event.from_position, "evicted": event.evicted}, transient=True)


def step(event: StepTimed) -> bytes:
    """Return what a step used and, in milliseconds, where its time went."""
    value = {"stepId": event.step_id, "usage": usage_of(event.usage), "timingMs": _millis(event.timing)}
    return data("usage", value, transient=True)


def _millis(timing: Timing) -> JsonObject:
    return {
        "accept": timing.accept / _NANOSECONDS,
        "claim": timing.claim / _NANOSECONDS,
        "queue": timing.queue / _NANOSECONDS,
        "prompt": timing.prompt / _NANOSECONDS,
        "send": timing.send / _NANOSECONDS,
        "firstToken": timing.first_token / _NANOSECONDS,
        "stream": timing.stream / _NANOSECONDS,
        "tools": timing.tools / _NANOSECONDS,
        "checkpoint": timing.checkpoint / _NANOSECONDS,
        "compaction": timing.compaction / _NANOSECONDS,
        "delivery": timing.delivery / _NANOSECONDS,
    }
