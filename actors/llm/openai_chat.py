"""Writes the chat-completions dialect: stored messages, tools and settings become request bytes.

Pure. A message is encoded once, when it enters the window; a request only joins what is there.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.commands import InputMessage
from actors.llm.model import ModelRef, Request
from storage.records import (
    ImagePart,
    JsonObject,
    Message,
    ModelSettings,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)


class Quirks(Struct, frozen=True, kw_only=True):
    """Where a provider's dialect differs from OpenAI's. Unknown fields are an error to some of them."""

    max_tokens_field: str = "max_tokens"
    stream_options: bool = True
    parallel_tool_calls: bool = True
    fixed_temperature: re.Pattern[str] | None = None
    short_call_ids: bool = False


# OpenAI's reasoning models refuse any temperature but 1 (platform.openai.com/docs/guides/reasoning).
_REASONING_MODELS = re.compile(r"(o\d|gpt-5)")
_OPENAI = Quirks(max_tokens_field="max_completion_tokens", fixed_temperature=_REASONING_MODELS)

QUIRKS: dict[str, Quirks] = {
    "openai": _OPENAI,
    "azure": _OPENAI,
    "groq": Quirks(max_tokens_field="max_completion_tokens"),
    "xai": Quirks(max_tokens_field="max_completion_tokens"),
    # Mistral reports usage unasked and refuses fields that it does not know (422 extra_forbidden).
    "mistral": Quirks(stream_options=False, short_call_ids=True),
    # Google's compatible endpoint refused the field with 400 "Unknown name" (jackmpcollins/magentic#382).
    "google_ai": Quirks(parallel_tool_calls=False),
    "ollama": Quirks(parallel_tool_calls=False),
}
_PLAIN = Quirks()

# Mistral's API and its chat templates on local servers take call ids of nine letters and digits only
# (jundot/omlx#1997); OpenAI takes at most 40 characters (agno-agi/agno#5382).
CALL_ID_CHARS = 9
_MISTRAL_NAMES = re.compile(r"mi(s|x|nis)tral|codestral|devstral|magistral", re.IGNORECASE)
_SHORT_CALL_ID = re.compile(r"[A-Za-z0-9]{9}")
_ANY_CALL_ID = re.compile(r"[\x21-\x7e]{1,40}")
_ID_FIELDS = re.compile(rb'("(?:tool_call_)?id":")([^"\\]{1,40})(")')

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_TOOL_NAMES = re.compile(r"[^A-Za-z0-9_-]")

# Further settings that a person may give an agent and that this dialect knows. `extra_body` is sent as it is.
_EXTRA_FIELDS = (
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "presence_penalty",
    "prompt_cache_key",
    "seed",
    "service_tier",
    "stop",
    "top_logprobs",
    "top_p",
    "verbosity",
)
_OWN_FIELDS = frozenset({"model", "messages", "stream", "stream_options", "tools", "tool_choice"})


def encode_message(message: Message) -> bytes:
    """Return one stored message in the dialect, ready to be joined by commas.

    Reasoning is never sent back. A tool message becomes one object for each of its results, joined
    by commas. What has nothing to send (only reasoning) becomes `b""`, which `body` leaves out.
    """
    match message.role:
        case "system":
            return encode_system(_text(message.content))
        case "user" | "summary":
            return _encode({"role": "user", "content": _user_content(message.content)})
        case "assistant" | "approval":
            return _encode_assistant(message.content)
        case "tool":
            returns = (part for part in message.content if isinstance(part, ToolReturnPart))
            return b",".join(
                _encode(
                    {"role": "tool", "tool_call_id": wire_call_id(part.tool_call_id), "content": part.text}
                )
                for part in returns
            )


def encode_input(message: InputMessage) -> bytes:
    """Return an input message as `encode_message` would once it is stored."""
    match message.role:
        case "system":
            return encode_system(_text(message.content))
        case "user":
            return _encode({"role": "user", "content": _user_content(message.content)})
        case "assistant":
            return _encode_assistant(message.content)


def encode_system(text: str) -> bytes:
    """Return a system message."""
    return _encode({"role": "system", "content": text})


def system_text(wire: bytes) -> str:
    """Return the text of a message that `encode_system` made."""
    return msgspec.json.decode(wire, type=_System).content


class _System(Struct, frozen=True):
    content: str


def body(ref: ModelRef, request: Request) -> bytes:
    """Return the request body: encoded messages and tools are joined, never encoded again."""
    quirks = QUIRKS.get(ref.provider_type, _PLAIN)
    messages = b",".join(filter(None, request.messages))
    if quirks.short_call_ids or _MISTRAL_NAMES.search(ref.name):
        messages = _ID_FIELDS.sub(_shorten, messages)
    head = _encode(_settings(ref, request, quirks))
    usage = b',"stream_options":{"include_usage":true}' if quirks.stream_options else b""
    pieces = [head[:-1], b',"stream":true', usage, b',"messages":[', messages, b"]"]
    if request.tools:
        pieces += [b',"tools":', request.tools, b',"tool_choice":', _tool_choice(request.tool_choice)]
    return b"".join([*pieces, b"}"])


def wire_call_id(call_id: str) -> str:
    """Return the id under which a call and its result are sent: itself, if every provider takes it."""
    return call_id if _ANY_CALL_ID.fullmatch(call_id) else short_call_id(call_id)


def short_call_id(seed: str) -> str:
    """Return nine letters and digits that depend on `seed` alone."""
    number = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()[:8])
    digits: list[str] = []
    for _ in range(CALL_ID_CHARS):
        number, digit = divmod(number, 36)
        digits.append("0123456789abcdefghijklmnopqrstuvwxyz"[digit])
    return "".join(digits)


def mend(text: str) -> str:
    """Return `text` without what no provider and no database takes.

    Halves of surrogate pairs that belong together are joined; lone ones and NUL become U+FFFD.
    """
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\0", "\ufffd")


def _shorten(found: re.Match[bytes]) -> bytes:
    head, call_id, tail = found.groups()
    text = call_id.decode("utf-8", "replace")
    return found[0] if _SHORT_CALL_ID.fullmatch(text) else head + short_call_id(text).encode() + tail


def _settings(ref: ModelRef, request: Request, quirks: Quirks) -> JsonObject:
    settings: ModelSettings = request.settings
    extra = {name: settings.extra[name] for name in _EXTRA_FIELDS if settings.extra.get(name) is not None}
    raw = settings.extra.get("extra_body")
    fields: JsonObject = {"model": ref.name, **extra}
    if settings.temperature is not None and not (
        quirks.fixed_temperature and quirks.fixed_temperature.match(ref.name)
    ):
        fields["temperature"] = settings.temperature
    if settings.max_output_tokens is not None:
        bound = settings.max_output_tokens
        fields[quirks.max_tokens_field] = min(bound, ref.max_output_tokens or bound)
    # Clients copy the effort from agent to agent; OpenAI refuses it where the model does not reason.
    if settings.reasoning_effort is not None and (quirks is not _OPENAI or _REASONING_MODELS.match(ref.name)):
        fields["reasoning_effort"] = settings.reasoning_effort
    if request.tools and not settings.parallel_tool_calls and quirks.parallel_tool_calls:
        fields["parallel_tool_calls"] = False  # true is what every provider does by itself
    if settings.response_format is not None and settings.response_format.get("type") != "text":
        fields["response_format"] = settings.response_format
    if isinstance(raw, dict):
        fields |= {k: v for k, v in cast("JsonObject", raw).items() if k not in _OWN_FIELDS}
    return fields


def _tool_choice(choice: str) -> bytes:
    if choice in ("auto", "none", "required"):
        return _encode(choice)
    return _encode({"type": "function", "function": {"name": choice}})


def _encode_assistant(parts: Sequence[Part]) -> bytes:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    calls = [_call(part) for part in parts if isinstance(part, ToolCallPart)]
    if not text and not calls:
        return b""
    message: JsonObject = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = calls
    return _encode(message)


def _call(part: ToolCallPart) -> JsonObject:
    function = {"name": _tool_name(part.name), "arguments": _arguments(part.arguments)}
    return {"id": wire_call_id(part.id), "type": "function", "function": function}


def _tool_name(name: str) -> str:
    """Providers refuse the whole history for one name outside this alphabet, whoever made it up."""
    if _TOOL_NAME.fullmatch(name):
        return name
    return _NOT_IN_TOOL_NAMES.sub("_", name)[:64] or "unnamed"


def _arguments(text: str) -> str:
    """Providers and chat templates parse old arguments: what is no JSON object is quoted inside one."""
    if not text.strip():
        return "{}"
    try:
        msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return msgspec.json.encode({"invalid_arguments": mend(text)}).decode()
    return text


def _text(parts: Sequence[Part]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def _user_content(parts: Sequence[Part]) -> str | list[JsonObject]:
    if not any(isinstance(part, ImagePart) for part in parts):
        return _text(parts)
    return [content for part in parts if (content := _user_part(part)) is not None]


def _user_part(part: Part) -> JsonObject | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(source):
            return _image(source)
        case ReasoningPart() | ToolCallPart() | ToolReturnPart():
            return None


def _image(source: JsonObject) -> JsonObject:
    if source.get("url"):
        url = source["url"]
    elif source.get("data"):
        url = f"data:{source.get('media_type') or 'image/png'};base64,{source['data']}"
    else:
        return {"type": "text", "text": "[an image that is no longer available]"}
    detail = {"detail": source["detail"]} if source.get("detail") else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _encode(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_mend_all(value))


def _mend_all(value: object) -> object:
    match value:
        case str():
            return mend(value)
        case dict():
            members = cast("dict[str, object]", value)
            return {mend(key): _mend_all(member) for key, member in members.items()}
        case list() | tuple():
            return [_mend_all(item) for item in cast("Sequence[object]", value)]
        case _:
            return value
