"""What the scripted provider can be told to answer, and which request gets which answer."""

import re
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, structs

DEFAULT_TEXT = "This is the scripted provider, and this is its fixed answer."

Fault = Literal[
    "cut_after",  # close the socket after `tokens` pieces
    "rst_after",  # reset it
    "hang",  # never answer
    "hang_after",  # fall silent after `tokens` pieces
    "half_headers",  # close in the middle of a header line
    "empty_200",  # status 200 and no body
    "garbage",  # status 200 and bytes that are no answer
    "bad_json_event",  # half a JSON object where the next piece is due
    "error_event",  # an error object as an event where the next piece is due, then the end
    "no_finish",  # a stream without a finish reason
    "no_done",  # a stream that ends without [DONE]
]
Size = Annotated[int, Meta(gt=0)]
ReasoningKey = Literal["reasoning_content", "reasoning", "reasoning_details", "thinking"]


class ToolCall(Struct, frozen=True, forbid_unknown_fields=True):
    """A call the model asks for. `arguments` may be a string that is no JSON."""

    name: str
    arguments: str | dict[str, Any] = ""
    id: str | None = None


class Reply(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One scripted answer. Without `text`, `reasoning` or `tool_calls` it has the default text.

    `match` restricts it to requests whose last user message contains the words, `model` to one model.
    It is used `repeat` times. `delay_ms` passes before the first piece, `gap_ms` between pieces.
    `chunk` re-cuts the stream into pieces of those many bytes, over and over. At piece `gate_after` the
    answer waits until `gate` is opened. `raw` is a whole HTTP response, status line included, after
    which the socket closes; `sse` the verbatim body of an event stream. A `body` is the answer's whole
    JSON, with any `status`. `embeddings` gives it to requests for embeddings, which get no other; it may say
    `status`, `headers`, `body`, `raw`, `delay_ms` and a fault. `stamped` writes the clock's nanoseconds over
    every `STAMP` at the moment it is sent.
    """

    text: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    echo: bool = False
    status: int = 200
    headers: dict[str, str] = {}
    body: Any = UNSET
    raw: str | None = None
    raw_base64: str | None = None
    sse: str | None = None
    fault: Fault | None = None
    tokens: int = 0
    finish_reason: str | None = None
    reasoning_key: ReasoningKey = "reasoning_content"
    usage: dict[str, Any] | Literal["negative"] | UnsetType | None = UNSET
    interleave: bool = False
    chunk: Size | Annotated[tuple[Size, ...], Meta(min_length=1)] | None = None
    crlf: bool = False
    delay_ms: float = 0
    gap_ms: float = 0
    gate: str | None = None
    gate_after: int = 0
    match: str | None = None
    model: str | None = None
    embeddings: bool = False
    stamped: bool = False
    repeat: Size | Literal["forever"] = 1


STAMP = "~" * 19  # as many characters as `time.monotonic_ns()` is written with, zeros before it

# The tiny language of model names: fixed-t20-d500-g20 is 20 tokens, 500 ms before the first, then one
# every 20 ms; r is reasoning tokens before them. The tokens of `clock` say when they were written.
_NAME = re.compile(r"(fixed|echo|clock)((?:-[tdgr]\d+)*)")
_WORDS = re.compile(r"\S+\s*|\s+")


def words(text: str) -> list[str]:
    """Cut a text into tokens that join to it again."""
    return _WORDS.findall(text)


@lru_cache(maxsize=256)
def named(model: str) -> Reply | None:
    """The behaviour that a model's name spells, or None."""
    found = _NAME.fullmatch(model)
    if found is None:
        return None
    numbers = {part[0]: int(part[1:]) for part in found[2].split("-")[1:]}
    thought = "".join(f"thought{i} " for i in range(numbers.get("r", 0)))
    count = numbers.get("t", 1)
    texts = {"fixed": "".join(f"word{i} " for i in range(count)), "clock": f"{STAMP} " * count}
    return Reply(
        text=texts.get(found[1]),
        echo=found[1] == "echo",
        stamped=found[1] == "clock",
        reasoning=thought or None,
        delay_ms=numbers.get("d", 0),
        gap_ms=numbers.get("g", 0),
    )


class Script:
    """The answers still to be given, in order."""

    def __init__(self) -> None:
        self._replies: list[Reply] = []

    def extend(self, replies: list[Reply]) -> None:
        """Queue answers behind those already there."""
        self._replies += replies

    def clear(self) -> None:
        """Forget every queued answer."""
        self._replies.clear()

    def take(self, model: str, user_text: str) -> Reply:
        """Choose the answer: the first queued one that fits, else what the model's name says."""
        return self._next(model, user_text, embeddings=False) or named(model) or _DEFAULT

    def take_embeddings(self, model: str) -> Reply | None:
        """Choose what a request for embeddings gets: the first answer queued for one, or its vectors."""
        return self._next(model, "", embeddings=True)

    def _next(self, model: str, user_text: str, *, embeddings: bool) -> Reply | None:
        for index, reply in enumerate(self._replies):
            fits = (reply.model or model) == model and (reply.match or "") in user_text
            if fits and reply.embeddings == embeddings:
                self._use(index)
                return reply
        return None

    def _use(self, index: int) -> None:
        reply = self._replies[index]
        if reply.repeat == "forever":
            return
        if reply.repeat > 1:
            self._replies[index] = structs.replace(reply, repeat=reply.repeat - 1)
        else:
            del self._replies[index]


_DEFAULT = Reply(text=DEFAULT_TEXT)
