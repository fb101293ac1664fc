"""What AG-UI clients send: `RunAgentInput`, turned into what an agent is told. Pure.

Clients send the whole history with every run. Of it an agent takes what the user said after the last answer
and it has not heard, by the ids of the messages, and results of calls that it waits for.
"""

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Struct

from actors.commands import Decision, InputMessage, WhenBusy
from gateway import decisions, decode, inputs, interrupts
from gateway.errors import InvalidRequestError, NotSupportedError
from gateway.inputs import Content, MessageIn
from gateway.interrupts import Resume
from storage.pending_records import ClientTool, PendingRequest
from storage.records import ImagePart, JsonObject, TextPart, ToolReturnPart

MAX_HISTORY = 10_000
MAX_CONTEXT = 64

AguiRole = Literal["developer", "system", "assistant", "user", "tool", "activity", "reasoning"]
Id = Annotated[str, Meta(min_length=1, max_length=256)]


class HistoryMessage(Struct, frozen=True, kw_only=True, rename="camel"):
    """A message of the client's history. Only `user` and `tool` messages are read."""

    id: Id
    role: AguiRole
    content: Any = None
    name: str | None = None
    tool_call_id: str | None = None
    error: str | None = None


class ClientToolIn(Struct, frozen=True, kw_only=True):
    """A tool that the client runs. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str | None = None
    parameters: JsonObject | None = None


class ContextItem(Struct, frozen=True, kw_only=True):
    """Something that the client lets the agent know: it is told once, and again when it changes."""

    description: str
    value: str


class Wishes(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How this run is to be handled: the part of `forwardedProps` under the key `wakeful`."""

    when_busy: WhenBusy = "queue"
    max_steps: Annotated[int, Meta(ge=1, le=inputs.MAX_STEPS)] = 50
    model: str | None = None


class RunAgentInput(Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of an AG-UI run (protocol 1.0).

    `threadId` names a conversation: `default` or the agent's id its own, `conv-…` that one, and any other
    text one that is opened for it. `runId` makes the request repeatable: the same one follows the same run.
    `state` is what the client last saw of the agent's memory; the agent's own is the truth, so it is not
    read. Of `forwardedProps` the key `wakeful` is read.
    """

    thread_id: Id
    run_id: Id
    messages: Annotated[tuple[HistoryMessage, ...], Meta(max_length=MAX_HISTORY)]
    protocol_version: str | None = None
    parent_run_id: str | None = None
    state: Any = None
    tools: tuple[ClientToolIn, ...] | None = None
    context: Annotated[tuple[ContextItem, ...], Meta(max_length=MAX_CONTEXT)] | None = None
    forwarded_props: Any = None
    resume: tuple[Resume, ...] | None = None


def key_of(conversation_id: str, run_id: str) -> str:
    """Return the idempotency key of a client's run: ids of clients are unique in a conversation at most."""
    return f"agui-{sha256(f'{conversation_id}|{run_id}'.encode()).hexdigest()}"


def wishes_of(given: RunAgentInput) -> Wishes:
    """Return how the client wants its run handled.

    Raises:
        InvalidRequestError: It asks for something that there is not.
    """
    props: object = given.forwarded_props
    if not isinstance(props, dict):
        return Wishes()
    wished = cast("JsonObject", props).get("wakeful")
    return Wishes() if wished is None else decode.convert(wished, Wishes, param="/forwardedProps/wakeful")


# --- what is said -------------------------------------------------------------------------------


def sent_ids(given: RunAgentInput) -> list[str]:
    """Return the ids by which an agent would know what this request says: of messages and of its context."""
    said = [message.id for _, message in _unheard(given.messages, ())]
    told = context_message(given.context)
    return said if told is None or told.otid is None else [*said, told.otid]


def new_messages(given: RunAgentInput, known: Collection[str]) -> tuple[InputMessage, ...]:
    """Return what the agent has not heard: what the user said after the last answer and the last `known`.

    Before it stands the client's context where that is new. Context alone says nothing.

    Raises:
        InvalidRequestError: A message is none that could be sent.
        NotSupportedError: One holds sound, video or a document.
    """
    said: list[InputMessage] = []
    for place, message in _unheard(given.messages, known):
        said.append(_user_message(message, f"/messages/{place}"))
    told = context_message(given.context)
    if not said or told is None or told.otid in known:
        return tuple(said)
    return (told, *said)


def _unheard(messages: Sequence[HistoryMessage], known: Collection[str]) -> list[tuple[int, HistoryMessage]]:
    """Return the user's messages after the last that was heard, or answered, with their places.

    Raises:
        InvalidRequestError: They are too many.
    """
    found: list[tuple[int, HistoryMessage]] = []
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message.role == "assistant" or (message.role == "user" and message.id in known):
            break
        if message.role == "user":
            found.append((place, message))
    if len(found) > inputs.MAX_MESSAGES:
        raise InvalidRequestError(
            f"at most {inputs.MAX_MESSAGES} messages fit one request", param="/messages"
        )
    return found[::-1]


def context_message(context: Sequence[ContextItem] | None) -> InputMessage | None:
    """Return what the client lets the agent know, under an id that changes when it does."""
    if not context:
        return None
    text = "\n".join(f"{item.description}: {item.value}" for item in context)
    return InputMessage(
        role="system",
        content=(TextPart(f"The application that the user works with says:\n{text}"),),
        otid=f"context-{sha256(text.encode()).hexdigest()[:32]}",
    )


def _user_message(message: HistoryMessage, at: str) -> InputMessage:
    content = message.content
    if not isinstance(content, str):
        content = _parts(content, f"{at}/content")
    return inputs.message_of(MessageIn(role="user", content=content, name=message.name, otid=message.id), at)


class _Source(Struct, frozen=True, rename="camel"):
    type: Literal["data", "url", "file"]
    value: str
    mime_type: str | None = None


class _Part(Struct, frozen=True):
    type: Literal["text", "image", "audio", "video", "document", "binary"]
    text: str | None = None
    source: _Source | None = None


def _parts(content: object, at: str) -> Content:
    parts = decode.convert(content, tuple[_Part, ...], param=at)
    return tuple(_part(part, f"{at}/{place}") for place, part in enumerate(parts))


def _part(part: _Part, at: str) -> TextPart | ImagePart:
    if part.type == "text" and part.text is not None:
        return TextPart(part.text)
    if part.type in ("audio", "video", "document", "binary"):
        raise NotSupportedError(
            f"a part of type {part.type} is not taken here: send text or images", param=at
        )
    if part.type != "image" or part.source is None:
        raise InvalidRequestError(f"a part of type {part.type} lacks what it shows", param=at)
    source = part.source
    if source.type == "file":
        raise NotSupportedError(
            "no files are kept here: send an image as data or by its URL", param=f"{at}/source"
        )
    if source.type == "url":
        return ImagePart({"type": "url", "url": source.value})
    return ImagePart({"type": "base64", "media_type": source.mime_type, "data": source.value})


# --- what is answered ---------------------------------------------------------------------------


def answers_of(given: RunAgentInput, waiting: PendingRequest | None) -> tuple[Decision, ...]:
    """Return the answers to what the conversation waits for: `resume`, and results of the client's tools.

    A result counts only for a call that waits: the client sends old ones again with its history.

    Raises:
        InvalidRequestError: One says neither yes nor no nor a result.
    """
    found = list(interrupts.decisions_of(given.resume)) if given.resume else []
    answered = {decision.tool_call_id for decision in found}
    calls = () if waiting is None else waiting.calls
    awaited = {call.id for call in calls if call.kind == "client"} - answered
    results: dict[str, Decision] = {}
    for place, message in enumerate(given.messages):
        if message.role == "tool" and message.tool_call_id in awaited:
            results[message.tool_call_id] = _result(message, f"/messages/{place}/content")
    return (*found, *results.values())


def _result(message: HistoryMessage, at: str) -> ToolReturnPart:
    content = message.content
    text, images = decisions.returned(content if isinstance(content, str) else _parts(content, at), at)
    assert message.tool_call_id is not None, "only results of calls are read"
    if message.error is not None:
        return ToolReturnPart(message.tool_call_id, "", "error", text or message.error, images=images)
    return ToolReturnPart(message.tool_call_id, "", "success", text, images=images)


def client_tools_of(given: RunAgentInput) -> tuple[ClientTool, ...] | None:
    """Return the tools that the client offers to run; None where it offers none.

    Raises:
        InvalidRequestError: One is no tool that a model could be shown, or two share a name.
    """
    if not given.tools:
        return None
    try:
        return decisions.client_tools([msgspec.to_builtins(tool) for tool in given.tools])
    except InvalidRequestError as error:
        param = (error.param or "").replace("/client_tools", "/tools", 1)
        raise InvalidRequestError(str(error), param=param or "/tools") from None
