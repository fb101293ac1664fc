"""OpenAI's chat-completions format as a provider writes it: requests read, answers cut into events."""

import hashlib
import struct
from base64 import b64encode
from functools import lru_cache
from itertools import cycle
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, structs

from bench.replies import DEFAULT_TEXT, Reply, ToolCall, words

DONE = b"data: [DONE]\n\n"
BAD_EVENT = b'data: {"id":"chatcmpl-cut","choices":[{"index":0,"delta":{"content":"ha\n\n'
GARBAGE = b"\x00\xff\xfe<html>502 Bad Gateway</html>\x80\x81 data: nonsense\r\n{]\n"
FRAGMENT_CHARS = 12  # of a tool call's arguments in one event
DIMENSIONS = 1536

_encode = msgspec.json.encode


class StreamOptions(Struct, frozen=True):
    """What a client asks of a stream."""

    include_usage: bool = False


class Message(Struct, frozen=True):
    """As much of a message as the provider looks at."""

    role: str = ""
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The words of the message, whatever its spelling."""
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class Asked(Struct, frozen=True):
    """A request for a completion. Messages stay raw: most are never looked at."""

    model: str
    messages: list[Raw]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the stream shall end with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class Plan(Struct, frozen=True):
    """A streamed answer: paced pieces, then what closes it. The first piece carries the role."""

    pieces: list[bytes]
    closing: bytes


read_request = msgspec.json.Decoder(Asked).decode
_read_message = msgspec.json.Decoder(Message).decode


def last_user_text(messages: list[Raw]) -> str:
    """The words of the newest user message, or nothing."""
    for raw in reversed(messages):
        message = _read_message(raw)
        if message.role == "user":
            return message.text
    return ""


def refusal(messages: list[Raw], body: bytes) -> str | None:
    """Say why OpenAI would refuse these messages with status 400, or None.

    A call must be followed by exactly one result, before anything else is said. The check is skipped
    where the body names no call, so that it costs the ordinary request nothing.
    """
    if not messages:
        return "Invalid 'messages': empty array. Expected an array with minimum length 1."
    if b'"tool_call' not in body:  # neither `tool_calls` nor `tool_call_id`
        return None
    waiting: set[str] = set()
    for index, message in enumerate(map(_read_message, messages)):
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                return (
                    f"Invalid parameter: messages[{index}] with role 'tool' must be a response to a "
                    "preceding message with 'tool_calls'."
                )
            waiting.discard(message.tool_call_id)
            continue
        if waiting:
            break
        waiting = {str(call.get("id")) for call in message.tool_calls or ()}
    if waiting:
        return (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {sorted(waiting)}"
        )
    return None


def in_schema(reply: Reply, asked: Asked) -> Reply:
    """The answer of a model that is held to a schema of calls and replies: one JSON object, as text.

    Its first call is `{"name", "arguments"}`, its text `{"reply"}`. Other schemas are answered as scripted.
    """
    described = (asked.response_format or {}).get("json_schema") or {}
    schema = described.get("schema") or {}
    kinds = [set(kind.get("properties") or ()) for kind in schema.get("anyOf") or [schema]]
    if not any(kind in ({"reply"}, {"name", "arguments"}) for kind in kinds):
        return reply
    if reply.tool_calls:
        call = reply.tool_calls[0]
        inner = call.arguments if isinstance(call.arguments, dict) else Raw(call.arguments.encode() or b"{}")
        text = _encode({"name": call.name, "arguments": inner}).decode()
    else:
        text = _encode({"reply": DEFAULT_TEXT if reply.text is None else reply.text}).decode()
    return structs.replace(reply, text=text, tool_calls=())


def answer_text(reply: Reply, asked: Asked, user_text: str) -> str:
    """The text of an answer; an echo names how many messages it saw, then repeats the last."""
    if reply.echo:
        return f"[{len(asked.messages)} messages] {user_text}"
    if reply.text is None:
        return "" if reply.tool_calls or reply.reasoning else DEFAULT_TEXT
    return reply.text


def plan(reply: Reply, asked: Asked, user_text: str, *, number: int, created: int) -> Plan:
    """Write a streamed answer, with the faults that lie in its words."""
    nulls = b',"usage":null' if asked.wants_usage else b""
    head = b'data: {"id":"chatcmpl-%d","object":"chat.completion.chunk","created":%d,"model":%b,' % (
        number,
        created,
        _encode(asked.model),
    )
    before = head + b'"choices":[{"index":0,"delta":'
    after = b',"logprobs":null,"finish_reason":null}]' + nulls + b"}\n\n"
    deltas = _deltas(reply, answer_text(reply, asked, user_text), number)
    pieces = [before + delta + after for delta in deltas]
    role = before + b'{"role":"assistant","content":""}' + after
    closing = b""
    if reply.fault != "no_finish":
        reason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
        closing = head + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%b}]%b}\n\n' % (
            _encode(reason),
            nulls,
        )
    if (asked.wants_usage or reply.usage is not UNSET) and reply.usage is not None:
        closing += head + b'"choices":[],"usage":%b}\n\n' % _encode(usage(reply, asked, len(deltas)))
    if reply.fault != "no_done":
        closing += DONE
    return recut(flawed(reply, Plan([role + pieces[0], *pieces[1:]] if pieces else [role], closing)), reply)


def _deltas(reply: Reply, text: str, number: int) -> list[bytes]:
    thoughts = [_encode(_thought(reply, word)) for word in words(reply.reasoning or "")]
    spoken = [b'{"content":%b}' % _encode(word) for word in words(text)]
    calls = [_call_deltas(call, index, number) for index, call in enumerate(reply.tool_calls)]
    if not reply.interleave:
        return thoughts + spoken + [delta for call in calls for delta in call]
    longest = max(map(len, calls), default=0)
    return thoughts + spoken + [call[i] for i in range(longest) for call in calls if i < len(call)]


def _thought(reply: Reply, word: str) -> dict[str, Any]:
    match reply.reasoning_key:
        case "reasoning_details":
            return {"reasoning_details": [{"type": "reasoning.text", "text": word, "index": 0}]}
        case "thinking":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": word}]}]}
        case key:
            return {key: word}


def _call_deltas(call: ToolCall, index: int, number: int) -> list[bytes]:
    text = arguments(call)
    opening = {
        "index": index,
        "id": call_id(call, index, number),
        "type": "function",
        "function": {"name": call.name, "arguments": ""},
    }
    parts = [text[i : i + FRAGMENT_CHARS] for i in range(0, len(text), FRAGMENT_CHARS)]
    rest = [{"index": index, "function": {"arguments": part}} for part in parts]
    return [_encode({"tool_calls": [part]}) for part in (opening, *rest)]


def arguments(call: ToolCall) -> str:
    """The arguments of a call as text."""
    return call.arguments if isinstance(call.arguments, str) else _encode(call.arguments).decode()


def call_id(call: ToolCall, index: int, number: int) -> str:
    """The id of a call: its own, or one that no other answer uses."""
    return f"call_{number}_{index}" if call.id is None else call.id


def usage(reply: Reply, asked: Asked, completion: int) -> dict[str, Any]:
    """The counts that an answer reports."""
    if reply.usage == "negative":
        return {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6}
    if isinstance(reply.usage, dict):
        return reply.usage
    prompt = sum(map(len, asked.messages)) // 4
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def flawed(reply: Reply, whole: Plan) -> Plan:
    """The answer with an event that is none, or an error, where the script wants one."""
    at = reply.tokens
    match reply.fault:
        case "bad_json_event":
            return Plan([*whole.pieces[:at], BAD_EVENT, *whole.pieces[at:]], whole.closing)
        case "error_event":
            error = {"error": {"message": "The server had an error", "type": "server_error", "code": None}}
            body = error if reply.body is UNSET else reply.body
            return Plan([*whole.pieces[:at], b"data: %b\n\n" % _encode(body)], b"")
        case _:
            return whole


def recut(whole: Plan, reply: Reply) -> Plan:
    """The answer with other line ends and in pieces of other sizes."""
    pieces, closing = whole.pieces, whole.closing
    if reply.crlf:
        pieces, closing = [p.replace(b"\n", b"\r\n") for p in pieces], closing.replace(b"\n", b"\r\n")
    if reply.chunk is None:
        return Plan(pieces, closing)
    cut: list[bytes] = []
    data, at = b"".join(pieces) + closing, 0
    for size in cycle([reply.chunk] if isinstance(reply.chunk, int) else reply.chunk):
        cut.append(data[at : at + size])
        at += size
        if at >= len(data):
            return Plan(cut, b"")
    raise AssertionError("a cycle of sizes does not end")


def completion(reply: Reply, asked: Asked, user_text: str, *, number: int, created: int) -> bytes:
    """Write an answer that is not streamed, with the faults that lie in its words."""
    text = answer_text(reply, asked, user_text)
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if reply.reasoning:
        thought = _thought(reply, reply.reasoning)
        if "content" in thought:
            thought["content"].append({"type": "text", "text": text})
        message |= thought
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": call_id(call, index, number),
                "type": "function",
                "function": {"name": call.name, "arguments": arguments(call)},
            }
            for index, call in enumerate(reply.tool_calls)
        ]
    reason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": None if reply.fault == "no_finish" else reason,
    }
    whole: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": created,
        "model": asked.model,
        "choices": [choice],
    }
    if reply.usage is not None:
        whole["usage"] = usage(reply, asked, len(words(text)))
    data = _encode(whole)
    return data[: len(data) // 2] if reply.fault == "bad_json_event" else data


class Embed(Struct, frozen=True):
    """A request for embeddings."""

    input: str | list[str]
    model: str = "text-embedding-3-small"
    encoding_format: str | None = "float"
    dimensions: int | None = None


def embeddings(asked: Embed) -> bytes:
    """Embed texts by hashing their words: one text gives one vector, shared words bring two nearer.

    A model `words-384` gives vectors of that length.
    """
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    name, _, length = asked.model.rpartition("-")
    size = asked.dimensions or (int(length) if name == "words" and length.isdecimal() else DIMENSIONS)
    data: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        vector = embed(text, size)
        if asked.encoding_format == "base64":
            shown: Any = b64encode(struct.pack(f"<{size}f", *vector)).decode()
        else:
            shown = vector
        data.append({"object": "embedding", "index": index, "embedding": shown})
    used = sum(len(words(text)) for text in texts)
    counts = {"prompt_tokens": used, "total_tokens": used}
    return _encode({"object": "list", "data": data, "model": asked.model, "usage": counts})


def embed(text: str, size: int) -> list[float]:
    """Return the vector of a text: each word adds or takes one at a place of its own; of length 1."""
    sums: dict[int, float] = {}
    for word in text.lower().split() or [""]:
        number, sign = _hashed(word)
        place = number % size
        sums[place] = sums.get(place, 0.0) + sign
    length = sum(x * x for x in sums.values()) ** 0.5 or 1.0
    vector = [0.0] * size
    for place, x in sums.items():
        vector[place] = x / length
    return vector


@lru_cache(maxsize=1 << 16)
def _hashed(word: str) -> tuple[int, float]:
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big"), 1.0 if digest[4] & 1 else -1.0
