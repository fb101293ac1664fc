"""Shapes that several AG-UI images share: interrupts, tokens, instants. Pure."""

from datetime import datetime

import msgspec

from storage.parts import JsonObject
from storage.pending_records import PendingCall
from storage.records import Usage

_encode = msgspec.json.Encoder().encode


def present(**fields: object) -> JsonObject:
    """Return the fields that are there: AG-UI leaves out what is absent, it never writes null."""
    return {name: value for name, value in fields.items() if value is not None}


def custom(name: str, value: object) -> bytes:
    """Return a custom event. `name` is dotted."""
    return _encode({"type": "CUSTOM", "name": name, "value": value})


_APPROVAL_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "reason": {"type": "string"},
        "editedArgs": {"type": "object"},
    },
    "required": ["approved"],
}
_RESULT_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "content": {"type": "string"},
        "status": {"type": "string", "enum": ["success", "error"]},
    },
    "required": ["content"],
}


def interrupt_of(call: PendingCall, expires_at: datetime | None) -> JsonObject:
    """Return a call that waits as an interrupt. Its id is the call's."""
    asks = call.kind == "approval"
    shown: JsonObject = {
        "id": call.id,
        "reason": "tool_call" if asks else "input_required",
        "message": f"Approve the call of {call.name}?" if asks else f"Run {call.name} and send its result.",
        "toolCallId": call.id,
        "responseSchema": _APPROVAL_SCHEMA if asks else _RESULT_SCHEMA,
        "metadata": {"name": call.name, "arguments": call.arguments, "kind": call.kind},
    }
    if expires_at is not None:
        shown["expiresAt"] = expires_at.isoformat()
    return shown


def usage_of(usage: Usage) -> JsonObject:
    """Return tokens as AG-UI counts them: the input holds the cached ones, the output the reasoning."""
    return {
        "inputTokens": usage.prompt,
        "outputTokens": usage.completion,
        "totalTokens": usage.total,
        "reasoningTokens": usage.reasoning,
        "cachedInputTokens": usage.cached,
        "cacheWriteInputTokens": usage.cache_write,
    }


def millis(at: datetime) -> int:
    """Return an instant as AG-UI writes times: milliseconds since the epoch."""
    return int(at.timestamp() * 1000)
