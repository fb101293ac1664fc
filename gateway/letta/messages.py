"""Shows stored messages as Letta's: one stored message becomes one or several LettaMessages. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypedDict, assert_never
from uuid import UUID

from actors import summary
from actors.summary import CompactionStats
from gateway.letta.shapes import (
    ApprovalRequestMessage,
    ApprovalResponseMessage,
    ApprovalReturn,
    AssistantMessage,
    EventMessage,
    LettaMessage,
    ReasoningMessage,
    SummaryMessage,
    SystemMessage,
    ToolCall,
    ToolCallMessage,
    ToolReturn,
    ToolReturnMessage,
    UserMessage,
)
from gateway.letta.speech import DEFAULT_VOICE, Voice, heard
from storage.records import (
    ApprovalPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)


def show_all(
    messages: Iterable[Message], include: frozenset[str] | None, *, voice: Voice | None = DEFAULT_VOICE
) -> list[LettaMessage]:
    """Return the messages as Letta shows them, in order; `include` keeps only these message types."""
    shown = [one for message in messages for one in show(heard(message, voice))]
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
    if message.role in ("system", "user") or message.otid is not None or message.step_id is None:
        return True
    return is_answer(message)


def is_answer(message: Message) -> bool:
    """Say whether a message answers calls that waited, rather than asks for them."""
    return message.role == "approval" and not any(isinstance(p, ToolCallPart) for p in message.content)


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
        case "assistant":
            return _assistant(message)
        case "approval":
            return [_answer(message)] if is_answer(message) else [_request(message)]
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
    """Mark what is listed for ever and never sent again: input that a provider refused, withdrawn answers."""
    return True if message.excluded else None


class _Envelope(TypedDict):
    """What every message that Letta shows carries, whatever its type."""

    id: str
    date: str
    name: str | None
    otid: str
    sender_id: str | None
    step_id: str | None
    is_err: Literal[True] | None
    run_id: str | None


def _envelope(message: Message, index: int = 0) -> _Envelope:
    """Return what the message `index` of those that a stored one becomes carries."""
    return {
        "id": message.id,
        "date": date_of(message.created_at),
        "name": message.name,
        "otid": _otid(message) if index == 0 else otid_of(message.id, index),
        "sender_id": message.sender_id,
        "step_id": message.step_id,
        "is_err": _is_err(message),
        "run_id": message.run_id,
    }


def _system(message: Message) -> SystemMessage:
    return SystemMessage(**_envelope(message), content=_text(message))


def _user(message: Message) -> UserMessage:
    parts = tuple(part for part in message.content if isinstance(part, TextPart | ImagePart))
    plain = len(parts) == 1 and isinstance(parts[0], TextPart)
    return UserMessage(
        **_envelope(message),
        content=_text(message) if plain or not parts else parts,
    )


def compaction(message: Message, *, told: bool) -> list[LettaMessage]:
    """Return a stored summary as an answer tells the compaction that wrote it.

    `told` is for clients that asked to be told: the event, then the summary. Others see a user's message.
    """
    if not told:
        return [_user(message)]
    stats = summary.unpack(_text(message))[1]
    event = [] if stats is None else [event_of(stats, before(message.id), message.created_at, message.run_id)]
    return [*event, _summary(message)]


def event_of(stats: CompactionStats, event_id: str, at: datetime, run_id: str | None) -> EventMessage:
    """Return what happened when a window was shortened."""
    return EventMessage(
        id=event_id,
        date=date_of(at),
        otid=otid_of(event_id, 0),
        run_id=run_id,
        event_data={
            "trigger": stats.trigger,
            "context_token_estimate": stats.context_tokens_before,
            "context_window": stats.context_window,
        },
    )


def before(message_id: str) -> str:
    """Return the id just below this one, for what is told before a message and not stored itself."""
    number = int(message_id.removeprefix("message-").replace("-", ""), 16) - 1
    return f"message-{UUID(int=number % (1 << 128))}"


def _summary(message: Message) -> SummaryMessage:
    text, stats = summary.unpack(_text(message))
    return SummaryMessage(
        id=message.id,
        date=date_of(message.created_at),
        otid=_otid(message),
        step_id=message.step_id,
        run_id=message.run_id,
        summary=text,
        compaction_stats=stats,
    )


def _assistant(message: Message) -> list[LettaMessage]:
    """Adjacent parts of one kind become one message; all calls become the last one but for a late thought."""
    shown: list[LettaMessage] = []
    before, late = _late_thought(message.content)
    for index, part in enumerate(_merged(before)):
        shown.append(_spoken(message, part, index))
    if calls := _calls(message):
        shown.append(ToolCallMessage(**_envelope(message, len(shown)), tool_call=calls[0], tool_calls=calls))
    if late is not None:
        shown.append(_spoken(message, late, len(shown)))
    return shown


def _late_thought(content: tuple[Part, ...]) -> tuple[tuple[Part, ...], ReasoningPart | None]:
    """Return the content before, and the thought that a model wrote in a call when that had begun."""
    match content[-2:]:
        case (ToolCallPart(), ReasoningPart(source="non_reasoner_model") as thought):
            return content[:-1], thought
        case _:
            return content, None


def _spoken(
    message: Message, part: TextPart | ReasoningPart, index: int
) -> AssistantMessage | ReasoningMessage:
    envelope = _envelope(message, index)
    if isinstance(part, TextPart):
        return AssistantMessage(**envelope, content=part.text)
    return ReasoningMessage(
        **envelope, source=part.source, reasoning=part.reasoning, signature=part.signature
    )


def _calls(message: Message) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(part.name, part.arguments, part.id)
        for part in message.content
        if isinstance(part, ToolCallPart)
    )


def _request(message: Message) -> ApprovalRequestMessage:
    calls = _calls(message)
    return ApprovalRequestMessage(**_envelope(message), tool_call=calls[0], tool_calls=calls)


def _answer(message: Message) -> ApprovalResponseMessage:
    approvals = tuple(
        ApprovalReturn(part.tool_call_id, part.approve, part.reason, part.arguments)
        if isinstance(part, ApprovalPart)
        else _returned(part)
        for part in message.content
        if isinstance(part, ApprovalPart | ToolReturnPart)
    )
    only = approvals[0] if len(approvals) == 1 else None
    decision = only if isinstance(only, ApprovalReturn) else None
    return ApprovalResponseMessage(
        **_envelope(message),
        approvals=approvals,
        approve=None if decision is None else decision.approve,
        reason=None if decision is None else decision.reason,
    )


def _returned(part: ToolReturnPart) -> ToolReturn:
    content = (*([TextPart(part.text)] if part.text else []), *part.shown) if part.shown else part.text
    return ToolReturn(content, part.status, part.tool_call_id, part.stdout or None, part.stderr or None)


def _merged(content: tuple[Part, ...]) -> list[TextPart | ReasoningPart]:
    """Return the text and reasoning of a message with neighbours of one kind joined."""
    merged: list[TextPart | ReasoningPart] = []
    for part in content:
        match merged[-1] if merged else None, part:
            case TextPart() as last, TextPart():
                merged[-1] = TextPart(last.text + part.text)
            case ReasoningPart() as last, ReasoningPart():
                signature = part.signature or last.signature
                merged[-1] = ReasoningPart(last.reasoning + part.reasoning, signature, source=last.source)
            case _, TextPart() | ReasoningPart():
                merged.append(part)
            case _:
                pass
    return merged


def _tool(message: Message) -> list[LettaMessage]:
    parts = [part for part in message.content if isinstance(part, ToolReturnPart)]
    if not parts:
        return []
    returns = tuple(_returned(part) for part in parts)
    first = returns[0]
    return [
        ToolReturnMessage(
            id=message.id,
            date=date_of(message.created_at),
            name=parts[0].name,
            otid=_otid(message),
            sender_id=message.sender_id,
            step_id=message.step_id,
            is_err=_is_err(message),
            run_id=message.run_id,
            tool_return=parts[0].text,
            status=first.status,
            tool_call_id=first.tool_call_id,
            stdout=first.stdout,
            stderr=first.stderr,
            tool_returns=returns,
        )
    ]
