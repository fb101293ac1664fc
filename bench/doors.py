"""How servers are spoken to: the requests of each wire, and what of its answers is text. Pure."""

from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import Struct

HISTORY_TEXT = (
    "We spoke about the garden and the long way round the lake, the weather that week, what the "
    "neighbours had planted along the fence, and when the next train would leave."
)

Wire = Literal["relay", "letta", "agui", "openai", "websocket"]
Way = Literal["stream", "blocking"]


class DoorError(Exception):
    """An answer says that it failed, or is none; the message says how."""


class Door(Struct, frozen=True, kw_only=True):
    """One way into a server. `url` has no slash at its end; of AG-UI it is the endpoint, `{agent}` and all.

    `model` is what a request for a completion names; other wires name it where an agent is made. `history`
    messages go before what is said, where the client sends them: in requests for completions, and in AG-UI.
    """

    name: str
    wire: Wire
    url: str
    way: Way = "stream"
    key: str | None = None
    model: str = ""
    history: int = 0


class Post(Struct, frozen=True):
    """A request: path below the door's URL, and JSON body."""

    path: str
    body: bytes


def post(door: Door, agent: str, text: str, *, run: str) -> Post:
    """The request that says a text to an agent. `run` is a fresh id where a wire wants one."""
    stream = door.way == "stream"
    said = [{"role": "user", "content": text}]
    match door.wire:
        case "relay":
            return Post("/relay", _json({"agent": agent, "text": text, "stream": stream}))
        case "letta":
            more = {"streaming": True, "stream_tokens": True} if stream else {}
            return Post(f"/v1/agents/{agent}/messages", _json({"messages": said, **more}))
        case "openai":
            head = b'{"model":%b,"stream":%b,"messages":[' % (_json(door.model), _json(stream))
            return Post("/chat/completions", head + _before(door.history) + _json(said[0]) + b"]}")
        case "agui":
            message = {"id": f"message-{run}", **said[0]}
            more: dict[str, Any] = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
            if door.history:  # a client of AG-UI sends what was said before
                body = {"threadId": agent, "runId": run, **more}
                head = _json(body)[:-1] + b',"messages":['
                return Post("", head + _before(door.history, ids=True) + _json(message) + b"]}")
            return Post("", _json({"threadId": agent, "runId": run, "messages": [message], **more}))
        case "websocket":
            raise ValueError("a websocket has no requests")


class _Said(Struct, frozen=True):
    message_type: str = ""
    content: str | list[dict[str, Any]] | None = None
    stop_reason: str | None = None


class _Messages(Struct, frozen=True):
    messages: list[_Said]


class _Delta(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    delta: _Delta = _Delta()
    message: _Delta = _Delta()


class _Chunk(Struct, frozen=True):
    choices: list[_Choice] = []
    error: Any = None


class _Event(Struct, frozen=True):
    type: str = ""
    delta: Any = None


_said = msgspec.json.Decoder(_Said).decode
_messages = msgspec.json.Decoder(_Messages).decode
_chunk = msgspec.json.Decoder(_Chunk).decode
_event = msgspec.json.Decoder(_Event).decode


def text_of(wire: Wire, data: bytes) -> str:
    """The text that one event of a stream adds to the answer, empty where it adds none.

    Raises:
        DoorError: The event says that the answer failed, or cannot be read.
    """
    if not data.startswith(b"{"):  # [DONE], and the like
        return ""
    try:
        match wire:
            case "relay" | "letta":
                return _text_of_message(_said(data))
            case "openai":
                chunk = _chunk(data)
                if chunk.error is not None:
                    raise DoorError(f"error: {data[:200].decode(errors='replace')}")
                return "".join(choice.delta.content or "" for choice in chunk.choices)
            case "agui" | "websocket":
                event = _event(data)
                if event.type == "RUN_ERROR":
                    raise DoorError(f"error: {data[:200].decode(errors='replace')}")
                if event.type in ("TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK"):
                    return event.delta if isinstance(event.delta, str) else ""
                return ""
    except msgspec.MsgspecError as error:
        raise DoorError(f"unreadable: {error}") from None


def whole_text(wire: Wire, body: bytes) -> str:
    """The text of a blocking answer.

    Raises:
        DoorError: It says that it failed, or cannot be read.
    """
    try:
        if wire == "openai":
            return "".join(choice.message.content or "" for choice in _chunk(body).choices)
        return "".join(map(_text_of_message, _messages(body).messages))
    except msgspec.MsgspecError as error:
        raise DoorError(f"unreadable: {error}") from None


def _text_of_message(said: _Said) -> str:
    if said.message_type == "error_message" or said.stop_reason in ("error", "llm_api_error"):
        raise DoorError(f"error: {said.stop_reason or said.message_type}")
    if said.message_type != "assistant_message" or said.content is None:
        return ""
    if isinstance(said.content, str):
        return said.content
    return "".join(str(part.get("text", "")) for part in said.content)


class Events:
    """Cuts a stream of server-sent events into their data."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that are whole now. Comments and other fields are left out."""
        data = self._tail + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *events, self._tail = data.split(b"\n\n")
        found: list[bytes] = []
        for event in events:
            if event.startswith(b"data:") and b"\n" not in event:
                found.append(event[5:].lstrip())
            else:
                lines = [line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:")]
                if lines:
                    found.append(b"\n".join(lines))
        return found


@lru_cache(maxsize=8)
def _before(history: int, *, ids: bool = False) -> bytes:
    """So many messages, by turns the user's and the assistant's, with a comma behind each."""
    roles = ("user", "assistant")
    said = ({"role": roles[i % 2], "content": HISTORY_TEXT} for i in range(history))
    named = ({"id": f"message-{i}", **one} if ids else one for i, one in enumerate(said))
    return b"".join(_json(one) + b"," for one in named)


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
