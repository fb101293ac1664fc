"""Writes the chat-completions dialect: stored messages, tools and settings become request bytes.

Pure. A message is encoded once, when it enters the window; a request only joins what is there.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.commands import InputMessage
from actors.llm import formats, text_calls
from actors.llm.dialects import CHAT, Dialect
from actors.llm.known import Quirks, quirks_of
from actors.llm.model import ModelRef, Request
from storage.records import (
    ApprovalPart,
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

# Mistral's API and its chat templates on local servers take call ids of nine letters and digits only
# (jundot/omlx#1997); OpenAI takes at most 40 characters (agno-agi/agno#5382).
CALL_ID_CHARS = 9
_MISTRAL_NAMES = re.compile(r"mi(s|x|nis)tral|codestral|devstral|magistral", re.IGNORECASE)
_SHORT_CALL_ID = re.compile(r"[A-Za-z0-9]{9}")
_ANY_CALL_ID = re.compile(r"[\x21-\x7e]{1,40}")
_ID_FIELDS = re.compile(rb'("(?:tool_call_)?id":")([^"\\]{1,40})(")')

LOST_IMAGE = "[an image that is no longer available]"
UNSEEN_IMAGE = "[an image that you cannot see]"
SEEN_LATER = "[an image, shown below]"
IMAGES_OF = "[The images of the result of {name}]"
# For calls that another model made (ai.google.dev/gemini-api/docs/thought-signatures, "FAQs").
_UNSIGNED = "skip_thought_signature_validator"
_NO_THOUGHTS = "(not recorded)"

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


def encode_message(message: Message, dialect: Dialect = CHAT) -> bytes:
    """Return one stored message in the dialect, ready to be joined by commas.

    Reasoning is sent back only to the model that signed it. A tool message becomes one object for each
    of its results, joined by commas, and what `encode_images` adds behind them. What has nothing to send
    (only reasoning) becomes `b""`, which `body` leaves out.
    """
    match message.role:
        case "system":
            return encode_system(joined_text(message.content))
        case "user" | "summary":
            return encode({"role": "user", "content": user_content(message.content, dialect, _user_part)})
        case "assistant" | "approval":
            return _encode_assistant(message.content, dialect)
        case "tool":
            returns = [part for part in message.content if isinstance(part, ToolReturnPart)]
            wires = [encode_return(part, dialect) for part in returns]
            return b",".join(filter(None, [*wires, encode_images(returns, dialect)]))


def encode_images(returns: Iterable[ToolReturnPart], dialect: Dialect) -> bytes:
    """Return the user's message with the images of a step's results, which goes behind all of them.

    A tool message holds text alone, and nothing may come between the results of one answer's calls
    (platform.openai.com/docs/api-reference/chat/create). `b""` where there is no image to be shown so.
    """
    if dialect.calls == "text" or not dialect.images:
        return b""
    content: list[JsonObject] = []
    for part in returns:
        if part.shown:
            content.append({"type": "text", "text": IMAGES_OF.format(name=part.name or "the tool")})
            content += [shown for image in part.shown if (shown := _user_part(image)) is not None]
    return encode({"role": "user", "content": content}) if content else b""


def encode_input(message: InputMessage, dialect: Dialect = CHAT) -> bytes:
    """Return an input message as `encode_message` would once it is stored."""
    match message.role:
        case "system":
            return encode_system(joined_text(message.content))
        case "user":
            return encode({"role": "user", "content": user_content(message.content, dialect, _user_part)})
        case "assistant":
            return _encode_assistant(message.content, dialect)


def encode_system(text: str) -> bytes:
    """Return a system message."""
    return encode({"role": "system", "content": text})


def system_text(wire: bytes) -> str:
    """Return the text of a message that `encode_system` made."""
    return msgspec.json.decode(wire, type=_System).content


class _System(Struct, frozen=True):
    content: str


def body(ref: ModelRef, request: Request, *, without: frozenset[str] = frozenset()) -> bytes:
    """Return the request body: encoded messages and tools are joined, never encoded again.

    `without` names settings that this model was found to refuse.
    """
    quirks = quirks_of(ref.provider_type)
    messages = b",".join(filter(None, request.messages))
    if quirks.short_call_ids or _MISTRAL_NAMES.search(ref.name):
        messages = _ID_FIELDS.sub(_shorten, messages)
    head = encode(_settings(ref, request, quirks, without))
    usage = (
        b',"stream_options":{"include_usage":true}'
        if quirks.stream_options and "stream_options" not in without
        else b""
    )
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


def _settings(ref: ModelRef, request: Request, quirks: Quirks, without: frozenset[str]) -> JsonObject:
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
        other = "max_completion_tokens" if "max_tokens" in without else "max_tokens"
        field = other if quirks.max_tokens_field in without else quirks.max_tokens_field
        fields[field] = min(bound, ref.max_output_tokens or bound)
    # Clients copy the effort from agent to agent; OpenAI refuses it where the model does not reason.
    if settings.reasoning_effort is not None and (
        quirks.effort_of is None or quirks.effort_of.match(ref.name)
    ):
        fields["reasoning_effort"] = settings.reasoning_effort
    if request.tools and not settings.parallel_tool_calls and quirks.parallel_tool_calls:
        fields["parallel_tool_calls"] = False  # true is what every provider does by itself
    if (form := formats.wanted(settings)) is not None:
        fields["response_format"] = form.chat
    if isinstance(raw, dict):
        fields |= {k: v for k, v in cast("JsonObject", raw).items() if k not in _OWN_FIELDS}
    return {name: value for name, value in fields.items() if name not in without} if without else fields


def _tool_choice(choice: str) -> bytes:
    if choice in ("auto", "none", "required"):
        return encode(choice)
    return encode({"type": "function", "function": {"name": choice}})


def _encode_assistant(parts: Sequence[Part], dialect: Dialect) -> bytes:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    if not text and not calls:
        return b""
    if dialect.calls == "text":
        return encode({"role": "assistant", "content": text_calls.written(text, calls)})
    message: JsonObject = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [_call(part, place, dialect) for place, part in enumerate(calls)]
    if dialect.thoughts != "none":
        message |= _thoughts(parts, dialect, calling=bool(calls))
    return encode(message)


def encode_return(part: ToolReturnPart, dialect: Dialect) -> bytes:
    """Return one result without what `encode_images` adds."""
    if dialect.calls == "text":
        said = (TextPart(text_calls.result(part)), *part.shown)
        return encode({"role": "user", "content": user_content(said, dialect, _user_part)})
    text = return_text(part, SEEN_LATER if dialect.images else UNSEEN_IMAGE)
    return encode({"role": "tool", "tool_call_id": wire_call_id(part.tool_call_id), "content": text})


def return_text(part: ToolReturnPart, note: str) -> str:
    """Return the text of a result, with a note for each of its images."""
    return "\n".join([*filter(None, [part.text]), *[note] * len(part.shown)]) if part.shown else part.text


def _thoughts(parts: Sequence[Part], dialect: Dialect, *, calling: bool) -> JsonObject:
    """Return the fields that give a model its own thoughts back."""
    thoughts = [part for part in parts if isinstance(part, ReasoningPart) and dialect.signed(part.signer)]
    if dialect.thoughts == "reasoning_content":
        # A message that calls tools is refused without the field, also one that another model wrote.
        text = "".join(part.reasoning for part in thoughts) or (_NO_THOUGHTS if calling else "")
        return {"reasoning_content": text} if text else {}
    if dialect.thoughts == "reasoning_details":
        details = [detail for part in thoughts for detail in _details(part.signature)]
        return {"reasoning_details": details} if details else {}
    return {}


def _details(signature: str | None) -> list[object]:
    try:
        return msgspec.json.decode(signature or "", type=list[object])
    except ValueError:
        return []


def _call(part: ToolCallPart, place: int, dialect: Dialect) -> JsonObject:
    function = {"name": tool_name(part.name), "arguments": call_arguments(part.arguments)}
    call: JsonObject = {"id": wire_call_id(part.id), "type": "function", "function": function}
    if dialect.thoughts == "thought_signature":
        signature = part.signature if dialect.signed(part.signer) else None
        if signature is None and place == 0:
            signature = _UNSIGNED
        if signature is not None:
            call["extra_content"] = {"google": {"thought_signature": signature}}
    return call


def tool_name(name: str) -> str:
    """Return a name that may be sent: providers refuse the whole history for one outside of this alphabet."""
    if _TOOL_NAME.fullmatch(name):
        return name
    return _NOT_IN_TOOL_NAMES.sub("_", name)[:64] or "unnamed"


def call_arguments(text: str) -> str:
    """Return arguments that may be sent: what is no JSON object, which everybody parses, is quoted in one."""
    if not text.strip():
        return "{}"
    try:
        msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return msgspec.json.encode({"invalid_arguments": mend(text)}).decode()
    return text


def joined_text(parts: Sequence[Part]) -> str:
    """Return the texts of a message, each on lines of its own."""
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def user_content(
    parts: Sequence[Part], dialect: Dialect, shown: Callable[[Part], JsonObject | None]
) -> str | list[JsonObject]:
    """Return a user's message: its text, or where it has images its parts as `shown` writes each."""
    if not any(isinstance(part, ImagePart) for part in parts):
        return joined_text(parts)
    if not dialect.images:
        return "\n".join(text for part in parts if (text := text_or_note(part)))
    return [content for part in parts if (content := shown(part)) is not None]


def _user_part(part: Part) -> JsonObject | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(source):
            url = image_url(source)
            if url is None:
                return {"type": "text", "text": LOST_IMAGE}
            detail = {"detail": source["detail"]} if source.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case ReasoningPart() | ToolCallPart() | ToolReturnPart() | ApprovalPart():
            return None


def text_or_note(part: Part) -> str:
    """Return a part of a user's message for a model that cannot look at images."""
    match part:
        case TextPart(text):
            return text
        case ImagePart():
            return UNSEEN_IMAGE
        case _:
            return ""


def image_url(source: JsonObject) -> str | None:
    """Return the address of an image, which holds the image itself where it came inline."""
    if source.get("url"):
        return str(source["url"])
    if source.get("data"):
        return f"data:{source.get('media_type') or 'image/png'};base64,{source['data']}"
    return None


def encode(value: object) -> bytes:
    """Return a value as JSON; halves of surrogate pairs, which no JSON may hold, are mended."""
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
