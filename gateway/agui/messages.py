"""Shows messages as AG-UI does: what clients send and what is stored, under ids that both sides know. Pure.

A message that a client sent keeps the client's own id (its otid); what the model said has the id under
which its text was streamed, its thoughts one derived from that, and the result of a call the call's.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from actors.commands import InputMessage
from storage.parts import ImagePart, JsonObject, Part, ReasoningPart, TextPart, ToolCallPart, ToolReturnPart
from storage.records import Message

_encode = msgspec.json.Encoder().encode


def reasoning_id(message_id: str) -> str:
    """Return the id of the thoughts that go with a message: in AG-UI they are a message of their own."""
    return f"reasoning-{message_id.removeprefix('message-')}"


def result_id(call_id: str) -> str:
    """Return the id of the message that is a call's result."""
    return f"result-{call_id}"


def id_of(message: Message) -> str:
    """Return the id under which AG-UI clients know a stored message."""
    return message.otid if message.role in ("user", "system") and message.otid else message.id


def show_input(message: InputMessage, fallback_id: str) -> JsonObject:
    """Return a message as a client sent it. Without an otid it has the id `fallback_id`."""
    return _spoken(message.otid or fallback_id, message.role, message.content, message.name)


def show_all(messages: Iterable[Message], *, thoughts: bool) -> list[JsonObject]:
    """Return stored messages in order, with what the model thought where `thoughts` says so.

    Answers to requests and the system prompt (position 0) are not shown: they are no speech.
    """
    return [one for message in messages for one in show(message, thoughts=thoughts)]


def show(message: Message, *, thoughts: bool) -> list[JsonObject]:
    """Return one stored message as the AG-UI messages that it is: none, one, or several."""
    match message.role:
        case "user":
            return [_spoken(id_of(message), "user", message.content, message.name)]
        case "system":
            return [] if message.position == 0 else [_spoken(id_of(message), "system", message.content, None)]
        case "summary":
            return [{**_spoken(message.id, "system", message.content, None), "name": "summary"}]
        case "tool":
            return [_result(part) for part in message.content if isinstance(part, ToolReturnPart)]
        case "assistant" | "approval":
            return _said(message, thoughts=thoughts)


def _said(message: Message, *, thoughts: bool) -> list[JsonObject]:
    shown: list[JsonObject] = []
    thought = thought_of(message.content)
    if thought and thoughts:
        shown.append({"id": reasoning_id(message.id), "role": "reasoning", "content": thought})
    text = text_of(message.content)
    calls = [_call(part) for part in message.content if isinstance(part, ToolCallPart)]
    if text or calls:
        said: JsonObject = {"id": id_of(message), "role": "assistant"}
        if text:
            said["content"] = text
        if calls:
            said["toolCalls"] = calls
        if message.name is not None:
            said["name"] = message.name
        shown.append(said)
    return shown


def newest(shown: Sequence[JsonObject], size_bytes: int, *, whole: bool) -> int:
    """Return where the newest part of a list begins that is to be shown: 0 where all of it fits.

    A part begins with a message of the user, or at least with none that answers to one before it. `whole`
    says that the list itself is no part of a longer one.
    """
    begin, size = len(shown), 0
    while begin:
        size += len(_encode(shown[begin - 1]))
        if size > size_bytes and begin < len(shown):
            break
        begin -= 1
    if whole and not begin:
        return 0
    roles = [one["role"] for one in shown[begin:]]
    if "user" in roles:
        return begin + roles.index("user")
    return begin + next((place for place, role in enumerate(roles) if role != "tool"), 0)


def text_of(content: Iterable[Part]) -> str:
    """Return the text of a message, without thoughts."""
    return "".join(part.text for part in content if isinstance(part, TextPart))


def thought_of(content: Iterable[Part]) -> str:
    """Return what was thought in a message."""
    return "".join(part.reasoning for part in content if isinstance(part, ReasoningPart))


def _spoken(message_id: str, role: str, content: Sequence[Part], name: str | None) -> JsonObject:
    shown: JsonObject = {"id": message_id, "role": role, "content": _content(content)}
    if name is not None:
        shown["name"] = name
    return shown


def _content(content: Sequence[Part]) -> str | list[JsonObject]:
    if not any(isinstance(part, ImagePart) for part in content):
        return text_of(content)
    shown: list[JsonObject] = []
    for part in content:
        if isinstance(part, TextPart):
            shown.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            shown.append({"type": "image", "source": _source(part.source)})
    return shown


def result_content(text: str, images: Sequence[ImagePart]) -> str | list[JsonObject]:
    """Return what came of a call: its text, or where it holds images the parts that it is made of."""
    return _content((*([TextPart(text)] if text else []), *images)) if images else text


def _source(source: JsonObject) -> JsonObject:
    """Return where an image is, in AG-UI's words for Letta's."""
    match source.get("type"):
        case "url":
            return {"type": "url", "value": source.get("url")}
        case "base64":
            return {"type": "data", "value": source.get("data"), "mimeType": source.get("media_type")}
        case _:
            return {"type": "file", "value": str(source.get("file_id", ""))}


def _call(part: ToolCallPart) -> JsonObject:
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}


def _result(part: ToolReturnPart) -> JsonObject:
    shown: dict[str, Any] = {
        "id": result_id(part.tool_call_id),
        "role": "tool",
        "toolCallId": part.tool_call_id,
        "content": result_content(part.text, part.shown),
    }
    if part.status == "error":
        shown["error"] = part.text
    return shown
