"""What the AI SDK's chat transport sends: messages of a client's list, answers to calls, and tools. Pure."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from actors.commands import Decision, InputMessage, SendMessages
from gateway import decisions, inputs
from gateway.ai_sdk import files
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.inputs import MAX_OTID_CHARS, MAX_STEPS, MessageIn
from storage.pending_records import ClientTool, PendingCall, PendingRequest
from storage.records import ApprovalPart, ImagePart, JsonObject, Run, TextPart, ToolReturnPart

_Id = Annotated[str, Meta(min_length=1, max_length=MAX_OTID_CHARS)]

DENIED_BY_CLIENT = "the client did not run it"


class Approval(Struct, frozen=True, kw_only=True):
    """What a person said about a call; `approved` is missing while nobody did."""

    id: str
    approved: bool | None = None
    reason: str | None = None


class UIPart(Struct, frozen=True, kw_only=True, rename="camel"):
    """One part of a message, as far as it says something to an agent; its `type` says what it is."""

    type: str
    text: str | None = None
    url: str | None = None
    media_type: str | None = None
    tool_call_id: str | None = None
    state: str | None = None
    output: Any = None
    error_text: str | None = None
    approval: Approval | None = None


class UIMessage(Struct, frozen=True, kw_only=True):
    """One message of the client's list."""

    id: _Id
    role: Literal["system", "user", "assistant"]
    parts: tuple[UIPart, ...] = ()


class ChatRequest(Struct, frozen=True, kw_only=True, rename="camel"):
    """What `DefaultChatTransport` posts: the chat's id and the client's whole list of messages.

    Only messages that the conversation does not have are sent to the agent. `message_id` names the message
    that the answer goes on with. `tools` are run by the client; each has a name, a description and the JSON
    schema of its arguments, `parameters` or `inputSchema`.
    """

    id: str
    messages: tuple[UIMessage, ...]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    tools: tuple[JsonObject, ...] | None = None
    max_steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)] = 50


class Continued(Struct, frozen=True, kw_only=True):
    """How a run's stream is written, kept with the run so that it can be taken up again.

    `message_id` is that of the client's message (none: the run's own id), `earlier` are the runs that wrote
    its beginning, `client_tools` the names of the client's own.
    """

    message_id: str | None = None
    earlier: tuple[str, ...] = ()
    client_tools: tuple[str, ...] = ()


def continued(run: Run) -> Continued:
    """Return how the stream of a run is written; runs of other front ends say nothing about it."""
    try:
        return msgspec.convert(run.request_config.get("ai_sdk") or {}, Continued)
    except msgspec.ValidationError:
        return Continued()


def key_of(command: SendMessages) -> str:
    """Return the idempotency key of a request: its conversation, what it answers, and its messages' ids."""
    said = [command.conversation_id, command.approvals_otid, *(m.otid for m in command.messages)]
    return f"ai-sdk-{sha256(msgspec.json.encode(said)).hexdigest()}"


# --- messages ---------------------------------------------------------------------------------


def target(request: ChatRequest) -> UIMessage | None:
    """Return the message that the answer goes on with, `None` where it is a new one.

    It is chosen as the AI SDK's client does, which appends to this message whatever it is answered.
    """
    named = next((m for m in request.messages if m.id == request.message_id), None)
    if request.trigger == "submit-message" and named is not None:
        return named if named.role == "assistant" else None
    last = request.messages[-1] if request.messages else None
    return last if last is not None and last.role == "assistant" else None


def calls_of(message: UIMessage | None) -> frozenset[str]:
    """Return the calls that a message shows."""
    parts = () if message is None else message.parts
    return frozenset(part.tool_call_id for part in parts if part.tool_call_id is not None)


def settled_of(message: UIMessage | None) -> frozenset[str]:
    """Return the calls of which a message shows the end."""
    parts = () if message is None else message.parts
    ended = (part for part in parts if (part.state or "").startswith("output-"))
    return frozenset(part.tool_call_id for part in ended if part.tool_call_id is not None)


def latest(messages: Sequence[UIMessage]) -> tuple[InputMessage, ...]:
    """Return what the user said after the last answer; each message's id is its otid.

    Raises:
        InvalidRequestError: A message has no content, or content of a kind that cannot be sent.
        NotSupportedError: A message holds a file that is no image.
    """
    last = max((place for place, m in enumerate(messages) if m.role == "assistant"), default=-1)
    said: list[MessageIn] = []
    for place, message in enumerate(messages[last + 1 :], last + 1):
        if message.role == "user":
            content = _content(message, f"/messages/{place}/parts")
            said.append(MessageIn(role="user", content=content, otid=message.id))
    return inputs.sequence_of(said, "/messages")


def _content(message: UIMessage, at: str) -> tuple[TextPart | ImagePart, ...]:
    content: list[TextPart | ImagePart] = []
    for place, part in enumerate(message.parts):
        if part.type == "text" and part.text:
            content.append(TextPart(part.text))
        elif part.type == "file":
            content.append(files.image_of(part.url, part.media_type, f"{at}/{place}"))
    if not content:
        raise InvalidRequestError("a message needs text or an image", param=at)
    return tuple(content)


# --- answers ----------------------------------------------------------------------------------


def answers_of(messages: Sequence[UIMessage], waiting: PendingRequest) -> tuple[Decision, ...]:
    """Return the answers to what a conversation waits for, in its order; empty where there are none.

    Raises:
        BadArgumentError: Some of the calls are answered, but not all of them.
        InvalidRequestError, NotSupportedError: As `files.returned`.
    """
    shown = {
        part.tool_call_id: (part, f"/messages/{place}/parts/{number}")
        for place, message in enumerate(messages)
        if message.role == "assistant"
        for number, part in enumerate(message.parts)
    }
    found = [_answer(call, *shown[call.id]) if call.id in shown else None for call in waiting.calls]
    missing = [call for call, answer in zip(waiting.calls, found, strict=True) if answer is None]
    if len(missing) == len(waiting.calls):
        return ()
    if missing:
        names = ", ".join(f"{call.name} ({call.id})" for call in missing)
        raise BadArgumentError(f"every call must be answered at once; missing: {names}", param="/messages")
    return tuple(answer for answer in found if answer is not None)


def _answer(call: PendingCall, part: UIPart, at: str) -> Decision | None:
    if call.kind == "client":
        return _result(call, part, at)
    approval = part.approval
    if part.state != "approval-responded" or approval is None or approval.approved is None:
        return None
    return ApprovalPart(call.id, approval.approved, approval.reason)


def _result(call: PendingCall, part: UIPart, at: str) -> Decision | None:
    match part.state:
        case "output-available":
            if (found := files.returned(part.output, f"{at}/output")) is not None:
                return ToolReturnPart(call.id, call.name, "success", found[0], images=found[1])
            text = part.output if isinstance(part.output, str) else msgspec.json.encode(part.output).decode()
            return ToolReturnPart(call.id, call.name, "success", text)
        case "output-error":
            return ToolReturnPart(call.id, call.name, "error", part.error_text or "the call failed")
        case "output-denied":
            return ApprovalPart(call.id, approve=False, reason=DENIED_BY_CLIENT)
        case _:
            return None


def client_tools(tools: Sequence[JsonObject] | None) -> tuple[ClientTool, ...] | None:
    """Return the tools that the client runs, `None` where the request does not say.

    Raises:
        InvalidRequestError: As `decisions.client_tools`.
    """
    if tools is None:
        return None
    return decisions.client_tools(
        [{**tool, "parameters": tool.get("parameters") or tool.get("inputSchema")} for tool in tools]
    )
