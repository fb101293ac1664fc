"""The shape of a chat-completions event, and how odd ones are read into it."""

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.llm.loose import object_of, objects
from storage.records import Usage

# No model reads or writes more in one call; larger counts are lies or overflows.
MOST_TOKENS = 1_000_000_000


class FunctionDelta(Struct, gc=False):
    """A fragment of a call: the name usually comes once, the arguments in pieces."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct):
    """A fragment of the call at `index`."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    extra_content: dict[str, Any] | None = None


class ContentPart(Struct):
    """A part of content that is a list: Mistral's text and thinking parts."""

    text: str | None = None
    thinking: "str | list[ContentPart] | None" = None


Detail = dict[str, Any]  # OpenRouter's way to say reasoning; it is sent back unchanged


class Delta(Struct):
    """What an event adds to the answer."""

    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Detail] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class Choice(Struct):
    """One alternative; we ask for one. `message` stands where a server does not stream."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class Chunk(Struct):
    """One event. `usage` and `error` are read leniently."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


def loads(data: bytes) -> object:
    """Return the JSON value of an event that stricter decoders refuse: lone surrogates, bad UTF-8, NaN.

    Raises:
        ValueError: It is no JSON at all.
        RecursionError: It is nested too deeply.
    """
    return json.loads(data.decode("utf-8", "replace"), strict=False)


def is_error(value: object) -> bool:
    """Say whether an event reports a failure instead of adding to the answer."""
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    if not isinstance(value, Mapping):
        return False
    event = cast("Mapping[str, object]", value)
    return bool(event.get("error")) or event.get("object") == "error" or event.get("type") == "error"


def read_chunk(event: Mapping[str, object]) -> Chunk:
    """Return an event whose fields have unusual types as far as it can be understood."""
    usage = event.get("usage")
    return Chunk(
        choices=[_read_choice(choice) for choice in objects(event.get("choices"))],
        usage=cast("dict[str, Any]", usage) if isinstance(usage, dict) else None,
    )


def read_usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """Return a provider's counts, or `None` where it reports none, zeros or nonsense.

    `context` is the prompt; `steps` is left to whoever counts steps.
    """
    if usage is None:
        return None
    prompt = _tokens(usage.get("prompt_tokens"))
    completion = _tokens(usage.get("completion_tokens"))
    if not prompt or completion is None:
        return None
    read = object_of(usage.get("prompt_tokens_details"))
    wrote = object_of(usage.get("completion_tokens_details"))
    return Usage(
        prompt=prompt,
        completion=completion,
        total=_tokens(usage.get("total_tokens")) or prompt + completion,
        cached=_tokens(read.get("cached_tokens")) or _tokens(usage.get("prompt_cache_hit_tokens")) or 0,
        cache_write=_tokens(read.get("cache_write_tokens"))
        or _tokens(usage.get("cache_creation_input_tokens"))
        or 0,
        reasoning=_tokens(wrote.get("reasoning_tokens")) or 0,
        context=prompt,
    )


def text_of(content: str | list[ContentPart] | None) -> str:
    """Return the text of content, whichever way it is written."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content if part.text and part.thinking is None)


def thought_of(delta: Delta) -> str:
    """Return the reasoning that hides in lists."""
    if delta.reasoning_details:
        said = (detail.get("text") or detail.get("summary") for detail in delta.reasoning_details)
        return "".join(text for text in said if isinstance(text, str))
    if isinstance(delta.content, list):
        return "".join(text_of(part.thinking) for part in delta.content if part.thinking)
    return ""


def call_signature(extra_content: Mapping[str, object]) -> str | None:
    """Return Gemini's signature of a call."""
    signature = object_of(extra_content.get("google")).get("thought_signature")
    return signature if isinstance(signature, str) and signature else None


def joined_details(details: list[Detail]) -> list[Detail]:
    """Return streamed reasoning details as the list that the whole answer would have held.

    Fragments of one detail follow each other with the same type and index; their texts are joined,
    and their other fields come with any of them.
    """
    whole: list[Detail] = []
    for detail in details:
        if whole and _goes_on(whole[-1], detail):
            _join(whole[-1], detail)
        else:
            whole.append(dict(detail))
    return whole


def _goes_on(last: Detail, detail: Detail) -> bool:
    """Say whether `detail` is a fragment of the same reasoning as `last`. What is encrypted comes whole."""
    same = all(last.get(key) == detail.get(key) for key in ("type", "index"))
    return same and detail.get("type") != "reasoning.encrypted"


def _join(last: Detail, detail: Detail) -> None:
    for key, value in detail.items():
        if key in ("text", "summary") and isinstance(value, str):
            last[key] = f"{last.get(key) or ''}{value}"
        elif value is not None:
            last[key] = value


def _read_choice(choice: Mapping[str, object]) -> Choice:
    delta, message = object_of(choice.get("delta")), object_of(choice.get("message"))
    return Choice(
        delta=_read_delta(delta) if delta else None,
        message=_read_delta(message) if message else None,
        finish_reason=_string(choice.get("finish_reason")),
    )


def _read_delta(delta: Mapping[str, object]) -> Delta:
    content = delta.get("content")
    return Delta(
        content=[_read_part(part) for part in cast("list[object]", content)]
        if isinstance(content, list)
        else _string(content),
        reasoning_content=_string(delta.get("reasoning_content")),
        reasoning=_string(delta.get("reasoning")),
        reasoning_details=[dict(detail) for detail in objects(delta.get("reasoning_details"))],
        refusal=_string(delta.get("refusal")),
        tool_calls=[_read_call(call) for call in objects(delta.get("tool_calls"))],
    )


def _read_part(part: object) -> ContentPart:
    if not isinstance(part, Mapping):
        return ContentPart(text=_string(part))
    members = cast("Mapping[str, object]", part)
    thinking = members.get("thinking")
    return ContentPart(
        text=_string(members.get("text")),
        thinking=[_read_part(inner) for inner in cast("list[object]", thinking)]
        if isinstance(thinking, list)
        else _string(thinking),
    )


def _read_call(call: Mapping[str, object]) -> ToolCallDelta:
    function = object_of(call.get("function"))
    arguments = function.get("arguments")
    if isinstance(arguments, (dict, list)):  # some servers send the arguments as the object they mean
        arguments = msgspec.json.encode(cast("object", arguments)).decode()
    index = call.get("index")
    if isinstance(index, str) and index.isascii() and index.isdigit():
        index = int(index)
    return ToolCallDelta(
        index=int(index) if isinstance(index, (int, float)) else None,
        id=_string(call.get("id")),
        function=FunctionDelta(_string(function.get("name")), _string(arguments)),
        extra_content=dict(object_of(call.get("extra_content"))) or None,
    )


def _string(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        text = members.get("text") or members.get("content")
        return text if isinstance(text, str) else None
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _tokens(value: object) -> int | None:
    """Return a believable count; providers report -1, floats, and 10^12."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value <= MOST_TOKENS else None
