"""OpenAI's responses format as a provider writes it: items read, answers cut into typed events."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from bench import wire
from bench.replies import Reply, words

_encode = msgspec.json.encode


class Item(Struct, frozen=True):
    """As much of an input item as the provider looks at."""

    type: str = "message"
    role: str = ""
    call_id: str = ""
    encrypted_content: str | None = None


class Request(Struct, frozen=True):
    """A request for a response. Items stay raw."""

    model: str
    input: str | list[Raw]
    stream: bool | None = False
    store: bool | None = None


_read = msgspec.json.Decoder(Request).decode
_read_item = msgspec.json.Decoder(Item).decode


def read_request(body: bytes) -> wire.Asked:
    """Read a request as the one that chat completions would be."""
    asked = _read(body)
    items = asked.input
    if isinstance(items, str):
        items = [Raw(_encode({"role": "user", "content": items}))]
    return wire.Asked(asked.model, items, asked.stream, wire.StreamOptions(include_usage=True))


def refusal(items: list[Raw]) -> str | None:
    """Say why OpenAI would refuse these items with status 400, or None."""
    if not items:
        return "Invalid 'input': empty array."
    waiting: list[str] = []
    thinking = False
    for item in map(_read_item, items):
        if thinking and item.type not in ("message", "function_call", "reasoning"):
            return "Item of type 'reasoning' was provided without its required following item."
        thinking = item.type == "reasoning"
        if item.type == "function_call":
            waiting.append(item.call_id)
        elif item.type == "function_call_output":
            if item.call_id not in waiting:
                return f"No tool call found for function call output with call_id {item.call_id}."
            waiting.remove(item.call_id)
    if waiting:
        return f"No tool output found for function call {waiting[0]}."
    return "Item of type 'reasoning' was provided without its required following item." if thinking else None


def plan(reply: Reply, asked: wire.Asked, user_text: str, *, number: int, created: int) -> wire.Plan:
    """Write a streamed answer, with the faults that lie in its words. One piece is one delta."""
    text = wire.answer_text(reply, asked, user_text)
    shell = _shell(asked, number=number, created=created)
    opening = _event("response.created", response=shell) + _event("response.in_progress", response=shell)
    pieces: list[bytes] = []
    items = _items(reply, text, number)
    for place, item in enumerate(items):
        begun, deltas, ended = _spoken(item, place)
        opening += begun
        for delta in deltas:
            pieces.append(opening + delta)
            opening = b""
        opening += ended
    closing = opening
    if reply.fault != "no_finish":
        closing += _ending(reply, asked, items, shell, len(pieces))
    return wire.recut(wire.flawed(reply, wire.Plan(pieces, closing)), reply)


def completion(reply: Reply, asked: wire.Asked, user_text: str, *, number: int, created: int) -> bytes:
    """Write an answer that is not streamed."""
    text = wire.answer_text(reply, asked, user_text)
    items = _items(reply, text, number)
    shell = _shell(asked, number=number, created=created)
    data = _encode(_finished(reply, asked, items, shell, len(words(text))))
    return data[: len(data) // 2] if reply.fault == "bad_json_event" else data


def _shell(asked: wire.Asked, *, number: int, created: int) -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": asked.model,
        "output": [],
        "usage": None,
    }


def _items(reply: Reply, text: str, number: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.reasoning:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        items.append(
            {
                "id": f"rs_{number}",
                "type": "reasoning",
                "summary": summary,
                "encrypted_content": f"sealed-{number}",
            }
        )
    if text:
        part = {"type": "output_text", "text": text, "annotations": []}
        items.append(
            {
                "id": f"msg_{number}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    for index, call in enumerate(reply.tool_calls):
        items.append(
            {
                "id": f"fc_{number}_{index}",
                "type": "function_call",
                "status": "completed",
                "call_id": wire.call_id(call, index, number),
                "name": call.name,
                "arguments": wire.arguments(call),
            }
        )
    return items


def _spoken(item: dict[str, Any], place: int) -> tuple[bytes, list[bytes], bytes]:
    """Return an item as events: what opens it, its deltas, what closes it."""
    at = {"item_id": item["id"], "output_index": place}
    done = _event("response.output_item.done", output_index=place, item=item)
    match item["type"]:
        case "reasoning":
            begun = item | {"summary": [], "encrypted_content": ""}
            text, kind = item["summary"][0]["text"], "response.reasoning_summary_text"
            part = _event("response.reasoning_summary_part.added", **at, summary_index=0)
            deltas = [_event(f"{kind}.delta", **at, summary_index=0, delta=word) for word in words(text)]
            done = _event(f"{kind}.done", **at, summary_index=0, text=text) + done
        case "message":
            begun = item | {"content": [], "status": "in_progress"}
            text, kind = item["content"][0]["text"], "response.output_text"
            part = _event("response.content_part.added", **at, content_index=0)
            deltas = [_event(f"{kind}.delta", **at, content_index=0, delta=word) for word in words(text)]
            done = _event(f"{kind}.done", **at, content_index=0, text=text) + done
        case _:
            begun = item | {"arguments": "", "status": "in_progress"}
            text, kind, part = item["arguments"], "response.function_call_arguments", b""
            size = wire.FRAGMENT_CHARS
            cut = [text[i : i + size] for i in range(0, len(text), size)]
            deltas = [_event(f"{kind}.delta", **at, delta=fragment) for fragment in cut]
            done = _event(f"{kind}.done", **at, arguments=text) + done
    return _event("response.output_item.added", output_index=place, item=begun) + part, deltas, done


def _ending(
    reply: Reply, asked: wire.Asked, items: list[dict[str, Any]], shell: dict[str, Any], spoken: int
) -> bytes:
    whole = _finished(reply, asked, items, shell, spoken)
    return _event(f"response.{whole['status']}", response=whole)


def _finished(
    reply: Reply, asked: wire.Asked, items: list[dict[str, Any]], shell: dict[str, Any], spoken: int
) -> dict[str, Any]:
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reply.finish_reason or "")
    whole = shell | {"status": "incomplete" if cut else "completed", "output": items}
    if cut:
        whole["incomplete_details"] = {"reason": cut}
    if reply.usage is None:
        return whole
    counts = wire.usage(reply, asked, spoken)
    return whole | {
        "usage": {
            "input_tokens": counts.get("prompt_tokens"),
            "output_tokens": counts.get("completion_tokens"),
            "total_tokens": counts.get("total_tokens"),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": len(words(reply.reasoning or ""))},
        }
    }


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **fields}))
