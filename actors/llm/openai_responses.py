"""Writes the responses dialect: stored messages, tools and settings become request bytes.

Pure. System and plain text messages have the same bytes as in chat completions. Nothing is stored at the
provider: the model's reasoning comes back encrypted and is sent again with what followed it.
"""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.commands import InputMessage
from actors.llm import formats
from actors.llm.dialects import Dialect
from actors.llm.keeping import kept
from actors.llm.known import quirks_of
from actors.llm.model import ModelRef, Request
from actors.llm.openai_chat import (
    LOST_IMAGE,
    UNSEEN_IMAGE,
    call_arguments,
    encode,
    encode_system,
    image_url,
    joined_text,
    return_text,
    tool_name,
    user_content,
    wire_call_id,
)
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

ENCRYPTED = "reasoning.encrypted_content"
# Further settings that a person may give an agent and that this dialect knows.
_EXTRA_FIELDS = ("prompt_cache_key", "service_tier", "top_logprobs", "top_p", "truncation")
_OWN_FIELDS = frozenset({"model", "input", "stream", "store", "tools", "tool_choice", "previous_response_id"})


class Signature(Struct, frozen=True):
    """What a reasoning item is sent back with; a `ReasoningPart` holds it as JSON text."""

    id: str
    encrypted_content: str


def encode_message(message: Message, dialect: Dialect) -> bytes:
    """Return one stored message as items of `input`, joined by commas; `b""` where nothing is to be sent."""
    match message.role:
        case "system":
            return encode_system(joined_text(message.content))
        case "user" | "summary":
            return encode({"role": "user", "content": user_content(message.content, dialect, _user_part)})
        case "assistant" | "approval":
            return _encode_assistant(message.content, dialect, whole=not message.interrupted)
        case "tool":
            returns = (part for part in message.content if isinstance(part, ToolReturnPart))
            return b",".join(_encode_return(part, dialect) for part in returns)


def encode_input(message: InputMessage, dialect: Dialect) -> bytes:
    """Return an input message as `encode_message` would once it is stored."""
    match message.role:
        case "system":
            return encode_system(joined_text(message.content))
        case "user":
            return encode({"role": "user", "content": user_content(message.content, dialect, _user_part)})
        case "assistant":
            return _encode_assistant(message.content, dialect, whole=True)


def body(ref: ModelRef, request: Request, *, without: frozenset[str] = frozenset()) -> bytes:
    """Return the request body: encoded messages are joined, never encoded again."""
    head = encode(_settings(ref, request, without))
    pieces = [
        head[:-1],
        b',"stream":true,"store":false,"input":[',
        b",".join(filter(None, request.messages)),
        b"]",
    ]
    if request.tools:
        pieces += [b',"tools":', _flat(request.tools), b',"tool_choice":', _tool_choice(request.tool_choice)]
    return b"".join([*pieces, b"}"])


def _settings(ref: ModelRef, request: Request, without: frozenset[str]) -> JsonObject:
    settings: ModelSettings = request.settings
    quirks = quirks_of(ref.provider_type)
    thinks = quirks.effort_of is None or quirks.effort_of.match(ref.name) is not None
    fields: JsonObject = {"model": ref.name}
    fields |= {name: settings.extra[name] for name in _EXTRA_FIELDS if settings.extra.get(name) is not None}
    if settings.temperature is not None and not (
        quirks.fixed_temperature and quirks.fixed_temperature.match(ref.name)
    ):
        fields["temperature"] = settings.temperature
    if settings.max_output_tokens is not None:
        bound = settings.max_output_tokens
        fields["max_output_tokens"] = min(bound, ref.max_output_tokens or bound)
    if request.tools and not settings.parallel_tool_calls:
        fields["parallel_tool_calls"] = False
    text: JsonObject = {} if (form := formats.wanted(settings)) is None else {"format": form.responses}
    if settings.extra.get("verbosity") is not None and "verbosity" not in without:
        text["verbosity"] = settings.extra["verbosity"]
    if text:
        fields["text"] = text
    if thinks and "include" not in without:
        fields["include"] = [ENCRYPTED]
    if thinks and (reasoning := _reasoning(settings, without)):
        fields["reasoning"] = reasoning
    raw: Any = settings.extra.get("extra_body")
    if isinstance(raw, dict):
        fields |= {k: v for k, v in cast("JsonObject", raw).items() if k not in _OWN_FIELDS}
    return {name: value for name, value in fields.items() if name not in without}


def _reasoning(settings: ModelSettings, without: frozenset[str]) -> JsonObject:
    reasoning: JsonObject = {}
    if settings.reasoning_effort is not None and "reasoning.effort" not in without:
        reasoning["effort"] = settings.reasoning_effort
    if "reasoning.summary" not in without:
        reasoning["summary"] = "auto"
    return reasoning


@kept
def _flat(tools: bytes) -> bytes:
    """Return the tools of a chat request as this dialect writes them. It takes them as strict by itself."""
    functions = [tool["function"] for tool in msgspec.json.decode(tools, type=list[dict[str, Any]])]
    return encode([{"strict": False, **function, "type": "function"} for function in functions])


def _tool_choice(choice: str) -> bytes:
    if choice in ("auto", "none", "required"):
        return encode(choice)
    return encode({"type": "function", "name": choice})


def _encode_assistant(parts: Sequence[Part], dialect: Dialect, *, whole: bool) -> bytes:
    """Return the items of an answer in the order in which they came.

    Reasoning is sent only in front of what followed it, and never of an answer that was cut: the API
    refuses a reasoning item that stands alone.
    """
    items: list[JsonObject] = []
    waiting: list[JsonObject] = []
    for part in parts:
        match part:
            case ReasoningPart():
                if whole and dialect.signed(part.signer) and (item := _reasoning_item(part)) is not None:
                    waiting.append(item)
            case TextPart(text) if text:
                items += [*waiting, {"role": "assistant", "content": text}]
                waiting = []
            case ToolCallPart():
                items += [*waiting, _call(part)]
                waiting = []
            case _:
                pass
    return b",".join(map(encode, items))


def _reasoning_item(part: ReasoningPart) -> JsonObject | None:
    try:
        signature = msgspec.json.decode(part.signature or "", type=Signature)
    except ValueError:
        return None
    summary = [{"type": "summary_text", "text": part.reasoning}] if part.reasoning else []
    return {
        "type": "reasoning",
        "id": signature.id,
        "summary": summary,
        "encrypted_content": signature.encrypted_content,
    }


def _encode_return(part: ToolReturnPart, dialect: Dialect) -> bytes:
    """Return one result; this dialect has images in it (platform.openai.com/docs/guides/function-calling)."""
    output: str | list[JsonObject] = return_text(part, UNSEEN_IMAGE)
    if part.shown and dialect.images:
        parts = (*([TextPart(part.text)] if part.text else []), *part.shown)
        output = [content for one in parts if (content := _user_part(one)) is not None]
    return encode(
        {"type": "function_call_output", "call_id": wire_call_id(part.tool_call_id), "output": output}
    )


def _call(part: ToolCallPart) -> JsonObject:
    return {
        "type": "function_call",
        "call_id": wire_call_id(part.id),
        "name": tool_name(part.name),
        "arguments": call_arguments(part.arguments),
    }


def _user_part(part: Part) -> JsonObject | None:
    match part:
        case TextPart(text):
            return {"type": "input_text", "text": text}
        case ImagePart(source):
            url = image_url(source)
            if url is None:
                return {"type": "input_text", "text": LOST_IMAGE}
            return {"type": "input_image", "image_url": url, "detail": source.get("detail") or "auto"}
        case _:
            return None
