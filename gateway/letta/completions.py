"""An agent behind OpenAI's chat completions: what is asked of it, and what it says in their shapes. Pure.

The agent keeps its own history, so that of a request only the last user message is new to it. Its model,
sampling and tools are the agent's own. Shapes: platform.openai.com/docs/api-reference/chat, 2025.
"""

from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct

from actors.events import (
    MessageCommitted,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from gateway.errors import InvalidRequestError, NotSupportedError
from gateway.letta import messages as letta_messages
from gateway.letta.runs import failure_of
from gateway.letta.speech import DEFAULT_VOICE, Speech, heard
from gateway.reducing import Reducing, Table
from storage.records import JsonObject, Message, RunError, TextPart, Usage

DONE = b"data: [DONE]\n\n"
PARAGRAPH = "\n\n"  # between what the agent says before it calls a tool and after

_encode = msgspec.json.Encoder().encode


# --- what is asked ----------------------------------------------------------------------------


class ImageUrl(Struct, frozen=True):
    """Where an image is: an address, or a `data:` URL that holds it."""

    url: str


class ContentPart(Struct, frozen=True, kw_only=True):
    """A piece of a message: text or an image."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class ChatMessage(Struct, frozen=True, kw_only=True):
    """A message of a request. Only the last one of a user is read."""

    role: str
    content: Any = None


class StreamOptions(Struct, frozen=True, kw_only=True):
    """`include_usage` asks for the tokens used, in a chunk of their own before the end."""

    include_usage: bool = False


class ChatCompletionRequest(Struct, frozen=True, kw_only=True):
    """What is asked of an agent; `model` is its id. Options of sampling are the agent's and are not read."""

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    tools: tuple[JsonObject, ...] | None = None
    n: int | None = 1


def user_message(request: ChatCompletionRequest) -> JsonObject:
    """Return the last user message as the agent's own routes take it.

    Raises:
        InvalidRequestError: There is none, its content has another shape, or more than one answer is asked.
        NotSupportedError: The request brings tools.
    """
    if request.tools:
        raise NotSupportedError(
            "tools of a client are not called over chat completions; send client_tools with "
            "client.agents.messages.create",
            param="/tools",
        )
    if request.n not in (None, 1):
        raise InvalidRequestError("an agent gives one answer", param="/n")
    for place in reversed(range(len(request.messages))):
        if request.messages[place].role == "user":
            at = f"/messages/{place}/content"
            return {"role": "user", "content": _content(request.messages[place].content, at)}
    raise InvalidRequestError("there is no user message", param="/messages")


def _content(given: object, at: str) -> str | list[JsonObject]:
    if isinstance(given, str):
        return given
    try:
        parts = msgspec.convert(given, tuple[ContentPart, ...])
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"no content of a message: {error}", param=at) from error
    return [_part(part, f"{at}/{place}") for place, part in enumerate(parts)]


def _part(part: ContentPart, at: str) -> JsonObject:
    if part.type == "text" and part.text is not None:
        return {"type": "text", "text": part.text}
    if part.type == "image_url" and part.image_url is not None:
        return {"type": "image", "source": _image(part.image_url.url, at)}
    raise InvalidRequestError(f"the part has no {part.type}", param=at)


def _image(url: str, at: str) -> JsonObject:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, found, data = url.removeprefix("data:").partition(";base64,")
    if not found:
        raise InvalidRequestError("a data URL of an image is written in base64", param=at)
    return {"type": "base64", "media_type": kind, "data": data}


# --- what is said -----------------------------------------------------------------------------


class CompletionUsage(Struct, frozen=True, kw_only=True):
    """The tokens of all steps of the run."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionMessage(Struct, frozen=True, kw_only=True):
    """What the agent said to the user."""

    content: str
    role: str = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True, kw_only=True):
    """The one answer."""

    message: CompletionMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: CompletionUsage
    object: str = "chat.completion"


class Completion(Reducing):
    """What one run says, as chunks of a stream or, without `tokens`, kept for a whole answer.

    Feed it the run's events from the first; `end` is set after `RunFinished`.
    """

    def __init__(self, run_id: str, model: str, created: int, *, tokens: bool, usage: bool = False) -> None:
        super().__init__(self._TOKENS if tokens else self._WHOLE)
        self.end: RunFinished | None = None
        self.finished = False
        self._id = f"chatcmpl-{run_id.removeprefix('run-')}"
        self._model = model
        self._created = created
        self._usage = usage
        self._texts: dict[str, str] = {}  # of whole messages, by id
        self._begun: set[str] = set()  # messages of which text went out
        self._speech = Speech(DEFAULT_VOICE)

    def whole(self) -> ChatCompletion:
        """Return the answer, once the run has ended."""
        assert self.end is not None
        said = CompletionMessage(content=PARAGRAPH.join(text for text in self._texts.values() if text))
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=(Choice(message=said, finish_reason=_reason(self.end)),),
            usage=_used(self.end.usage),
        )

    def broken_off(self, error: RunError) -> bytes:
        """Return the end of a stream that cannot go on although its run may."""
        self.finished = True
        return _failure(error) + DONE

    def _started(self, event: RunStarted, out: list[bytes]) -> None:
        del event
        if not self._begun:
            out.append(self._chunk({"role": "assistant", "content": ""}))

    def _heard(self, event: MessageCommitted, _: list[bytes]) -> None:
        self._texts[event.message.id] = _text(event.message)

    def _committed(self, event: MessageCommitted, out: list[bytes]) -> None:
        if event.message.id not in self._begun:
            self._say(event.message.id, _text(event.message), out)

    def _delta(self, event: TextDelta, out: list[bytes]) -> None:
        self._say(event.message_id, event.text, out)

    def _call_started(self, event: ToolCallStarted, _: list[bytes]) -> None:
        self._speech.begins(event)

    def _call_delta(self, event: ToolCallDelta, out: list[bytes]) -> None:
        self._say(event.message_id, self._speech.hear(event) or "", out)

    def _call_ended(self, event: ToolCallEnded, _: list[bytes]) -> None:
        self._speech.ends(event)

    def _say(self, message_id: str, text: str, out: list[bytes]) -> None:
        if not text:
            return
        if message_id not in self._begun:
            text = PARAGRAPH + text if self._begun else text
            self._begun.add(message_id)
        out.append(self._chunk({"content": text}))

    def _ended(self, event: RunFinished, _: list[bytes]) -> None:
        self.end = event

    def _finished(self, event: RunFinished, out: list[bytes]) -> None:
        self.end = event
        self.finished = True
        error = failure_of(event.status, event.stop_reason, event.error)
        if error is not None:
            out.append(_failure(error))
        else:
            out.append(self._chunk({}, finish_reason=_reason(event)))
            if self._usage:
                out.append(self._data({"choices": (), "usage": _used(event.usage)}))
        out.append(DONE)

    def _chunk(self, delta: JsonObject, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._data({"choices": (choice,)})

    def _data(self, more: JsonObject) -> bytes:
        head = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }
        return b"data: " + _encode({**head, **more}) + b"\n\n"

    _WHOLE: ClassVar[Table] = {MessageCommitted: _heard, RunFinished: _ended}
    _TOKENS: ClassVar[Table] = {
        RunStarted: _started,
        MessageCommitted: _committed,
        TextDelta: _delta,
        ToolCallStarted: _call_started,
        ToolCallDelta: _call_delta,
        ToolCallEnded: _call_ended,
        RunFinished: _finished,
    }


def _text(message: Message) -> str:
    """Return what a committed message says to the user."""
    if message.role != "assistant" or letta_messages.is_input(message):
        return ""
    said = heard(message, DEFAULT_VOICE)
    return "".join(part.text for part in said.content if isinstance(part, TextPart))


def _reason(end: RunFinished) -> str:
    return "length" if end.stop_reason == "max_tokens_exceeded" else "stop"


def _used(usage: Usage) -> CompletionUsage:
    return CompletionUsage(
        prompt_tokens=usage.prompt, completion_tokens=usage.completion, total_tokens=usage.total
    )


def _failure(error: RunError) -> bytes:
    body = {"error": {"type": error.type, "message": error.message, "code": None, "param": None}}
    return b"data: " + _encode(body) + b"\n\n"
