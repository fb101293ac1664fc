"""Shows stored messages as Letta's: one stored message becomes one or several LettaMessages. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, assert_never

from msgspec import Struct

from storage.records import (
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

MessageType = Literal[
    "system_message",
    "user_message",
    "assistant_message",
    "reasoning_message",
    "hidden_reasoning_message",
    "tool_call_message",
    "tool_return_message",
    "approval_request_message",
    "approval_response_message",
    "summary_message",
    "event_message",
]


class Shown(Struct, frozen=True, kw_only=True):
    """What every LettaMessage has. `date` is in whole seconds, `is_err` is null unless true."""

    id: str
    date: str
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    step_id: str | None = None
    is_err: bool | None = None
    seq_id: int | None = None
    run_id: str | None = None


class SystemMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="system_message"):
    """The system prompt, or what a client said in that role."""

    content: str


class UserMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="user_message"):
    """What a person said: text, or parts where there is more than one or an image."""

    content: str | tuple[TextPart | ImagePart, ...]


class AssistantMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="assistant_message"):
    """What the model said."""

    content: str


class ReasoningMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="reasoning_message"):
    """What the model thought."""

    source: Literal["reasoner_model", "non_reasoner_model"] = "reasoner_model"
    reasoning: str
    signature: str | None = None


class ToolCall(Struct, frozen=True, gc=False):
    """One call; `arguments` is JSON text."""

    name: str
    arguments: str
    tool_call_id: str


class ToolCallMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="tool_call_message"):
    """The calls the model asked for; the deprecated `tool_call` is the first."""

    tool_call: ToolCall
    tool_calls: tuple[ToolCall, ...]


class ToolReturn(Struct, frozen=True, tag_field="type", tag="tool"):
    """The result of one call."""

    tool_return: str
    status: Literal["success", "error"]
    tool_call_id: str
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None


class ToolReturnMessage(
    Shown, frozen=True, kw_only=True, tag_field="message_type", tag="tool_return_message"
):
    """Results of calls; the deprecated single fields are the first one's."""

    tool_return: str
    status: Literal["success", "error"]
    tool_call_id: str
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None
    tool_returns: tuple[ToolReturn, ...]


class SummaryMessage(Shown, frozen=True, kw_only=True, tag_field="message_type", tag="summary_message"):
    """What stands for messages that left the window."""

    summary: str
    compaction_stats: None = None


LettaMessage = (
    SystemMessage
    | UserMessage
    | AssistantMessage
    | ReasoningMessage
    | ToolCallMessage
    | ToolReturnMessage
    | SummaryMessage
)


def show_all(messages: Iterable[Message], include: frozenset[str] | None) -> list[LettaMessage]:
    """Return the messages as Letta shows them, in order; `include` keeps only these message types."""
    shown = [one for message in messages for one in show(message)]
    return shown if include is None else only(shown, include)


def only(shown: Iterable[LettaMessage], include: frozenset[str]) -> list[LettaMessage]:
    """Return those whose message type is in `include`."""
    return [one for one in shown if type_of(one) in include]


def type_of(shown: LettaMessage) -> str:
    """Return the `message_type` of a message."""
    return str(type(shown).__struct_config__.tag)


def is_input(message: Message) -> bool:
    """Say whether a client sent this message, so that no answer echoes it.

    An assistant's row with an otid, or made by no step, was sent too: what models say has neither.
    """
    return message.role in ("system", "user") or message.otid is not None or message.step_id is None


def date_of(moment: datetime) -> str:
    """Return a UTC instant as Letta writes dates: whole seconds and `+00:00`."""
    return moment.isoformat(timespec="seconds")


def otid_of(message_id: str, index: int) -> str:
    """Return the otid of part `index` of a message: its UUID with the last 7 bits replaced."""
    tail = (int(message_id[-2:], 16) & ~0x7F) | (index & 0x7F)
    return f"{message_id.removeprefix('message-')[:-2]}{tail:02x}"


def show(message: Message) -> list[LettaMessage]:
    """Return one stored message as Letta shows it: what was thought and said, then the calls."""
    match message.role:
        case "user":
            return [_user(message)]
        case "assistant" | "approval":
            return _assistant(message)
        case "tool":
            return _tool(message)
        case "system":
            return [_system(message)]
        case "summary":
            return [_summary(message)]
        case _:
            assert_never(message.role)


def _text(message: Message) -> str:
    content = message.content
    if len(content) == 1 and isinstance(content[0], TextPart):
        return content[0].text
    return "".join(part.text for part in content if isinstance(part, TextPart))


def _otid(message: Message) -> str:
    return otid_of(message.id, 0) if message.otid is None else message.otid


def _is_err(message: Message) -> Literal[True] | None:
    """Mark input that a provider refused: it is listed for ever and never sent again."""
    return True if message.excluded else None


def _system(message: Message) -> SystemMessage:
    return SystemMessage(
        id=message.id,
        date=date_of(message.created_at),
        name=message.name,
        otid=_otid(message),
        sender_id=message.sender_id,
        step_id=message.step_id,
        is_err=_is_err(message),
        run_id=message.run_id,
        content=_text(message),
    )


def _user(message: Message) -> UserMessage:
    parts = tuple(part for part in message.content if isinstance(part, TextPart | ImagePart))
    plain = len(parts) == 1 and isinstance(parts[0], TextPart)
    return UserMessage(
        id=message.id,
        date=date_of(message.created_at),
        name=message.name,
        otid=_otid(message),
        sender_id=message.sender_id,
        step_id=message.step_id,
        is_err=_is_err(message),
        run_id=message.run_id,
        content=_text(message) if plain or not parts else parts,
    )


def _summary(message: Message) -> SummaryMessage:
    return SummaryMessage(
        id=message.id,
        date=date_of(message.created_at),
        otid=_otid(message),
        step_id=message.step_id,
        run_id=message.run_id,
        summary=_text(message),
    )


def _assistant(message: Message) -> list[LettaMessage]:
    """Adjacent parts of one kind become one message; all calls become the last one."""
    shown: list[LettaMessage] = []
    date = date_of(message.created_at)
    for part in _merged(message.content):
        otid = _otid(message) if not shown else otid_of(message.id, len(shown))
        if isinstance(part, TextPart):
            shown.append(
                AssistantMessage(
                    id=message.id,
                    date=date,
                    name=message.name,
                    otid=otid,
                    sender_id=message.sender_id,
                    step_id=message.step_id,
                    is_err=_is_err(message),
                    run_id=message.run_id,
                    content=part.text,
                )
            )
        else:
            shown.append(
                ReasoningMessage(
                    id=message.id,
                    date=date,
                    name=message.name,
                    otid=otid,
                    sender_id=message.sender_id,
                    step_id=message.step_id,
                    run_id=message.run_id,
                    reasoning=part.reasoning,
                    signature=part.signature,
                )
            )
    calls = tuple(
        ToolCall(part.name, part.arguments, part.id)
        for part in message.content
        if isinstance(part, ToolCallPart)
    )
    if calls:
        shown.append(
            ToolCallMessage(
                id=message.id,
                date=date,
                name=message.name,
                otid=otid_of(message.id, len(shown)),
                sender_id=message.sender_id,
                step_id=message.step_id,
                run_id=message.run_id,
                tool_call=calls[0],
                tool_calls=calls,
            )
        )
    return shown


def _merged(content: tuple[Part, ...]) -> list[TextPart | ReasoningPart]:
    """Return the text and reasoning of a message with neighbours of one kind joined."""
    merged: list[TextPart | ReasoningPart] = []
    for part in content:
        last = merged[-1] if merged else None
        if isinstance(part, TextPart):
            if isinstance(last, TextPart):
                merged[-1] = TextPart(last.text + part.text)
            else:
                merged.append(part)
        elif isinstance(part, ReasoningPart):
            if isinstance(last, ReasoningPart):
                merged[-1] = ReasoningPart(last.reasoning + part.reasoning, part.signature or last.signature)
            else:
                merged.append(part)
    return merged


def _tool(message: Message) -> list[LettaMessage]:
    parts = [part for part in message.content if isinstance(part, ToolReturnPart)]
    if not parts:
        return []
    returns = tuple(
        ToolReturn(part.text, part.status, part.tool_call_id, part.stdout or None, part.stderr or None)
        for part in parts
    )
    first = returns[0]
    return [
        ToolReturnMessage(
            id=message.id,
            date=date_of(message.created_at),
            name=parts[0].name,
            otid=_otid(message),
            sender_id=message.sender_id,
            step_id=message.step_id,
            run_id=message.run_id,
            tool_return=first.tool_return,
            status=first.status,
            tool_call_id=first.tool_call_id,
            stdout=first.stdout,
            stderr=first.stderr,
            tool_returns=returns,
        )
    ]
