"""Reads what a full export (`wakeful agents export --full`) holds beside an agent file's own keys. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from gateway import decode
from gateway.agent_files import reader
from gateway.agent_files.reader import MAX_MESSAGES, Call, Function, Line, Return, Said
from gateway.requests.passages import CreateArchivePassage
from storage.records import JsonObject

MAX_PASSAGES = 10_000

# The roles that agent files have for what the API shows; the rest is not of a conversation.
_ROLES = {
    "user_message": "user",
    "assistant_message": "assistant",
    "reasoning_message": "assistant",
    "tool_call_message": "assistant",
    "approval_request_message": "assistant",
    "tool_return_message": "tool",
    "summary_message": "summary",
}


class ShownCall(Struct, frozen=True):
    """A call as the API shows it."""

    name: str
    arguments: str
    tool_call_id: str


class ShownReturn(Struct, frozen=True):
    """A result as the API shows it."""

    tool_return: str | list[JsonObject]
    tool_call_id: str
    status: str = "success"


class Shown(Struct, frozen=True, kw_only=True):
    """A message as the API shows it; of one stored message several may be shown, under its id."""

    id: str
    message_type: str
    date: str | None = None
    name: str | None = None
    is_err: bool | None = None
    content: str | tuple[JsonObject, ...] | None = None
    reasoning: str | None = None
    summary: str | None = None
    tool_calls: tuple[ShownCall, ...] | None = None
    tool_returns: tuple[ShownReturn, ...] | None = None


class File(Struct, frozen=True, kw_only=True):
    """The further keys. `window` are the ids of what the agent's model sees of `recall`."""

    recall: tuple[JsonObject, ...] = ()
    window: tuple[str, ...] = ()
    conversations: tuple[JsonObject, ...] = ()
    archival: tuple[JsonObject, ...] = ()


class Whole(Struct, frozen=True):
    """What was said before the window begins, the passages, and what had to be left out, in words."""

    history: tuple[Said, ...] = ()
    archival: tuple[CreateArchivePassage, ...] = ()
    left_out: tuple[str, ...] = ()


def read(data: bytes, *, room: int, now: datetime) -> Whole:
    """Return what a file holds beside its one agent; nothing where it is no full export.

    `room` is how many messages are taken: the newest. Vectors are not read: the server makes its own.

    Raises:
        InvalidRequestError: A field has a value that is not allowed.
    """
    file = decode.body(data, File)
    shown = [
        decode.convert(one, Shown, param=f"/file/recall/{place}") for place, one in enumerate(file.recall)
    ]
    said = _history(shown, file.window, now) if file.window else []
    taken = said[max(0, len(said) - max(0, room)) :]
    left: list[str] = []
    if file.recall and not file.window:
        left.append("recall: it does not say where the window begins")
    if len(taken) < len(said):
        left.append(f"the oldest {len(said) - len(taken)} messages: a file may bring {MAX_MESSAGES}")
    if file.conversations:
        left.append(f"conversations: {len(file.conversations)}")
    if len(file.archival) > MAX_PASSAGES:
        left.append(f"archival: the last {len(file.archival) - MAX_PASSAGES} of {len(file.archival)}")
    archival = tuple(
        decode.convert(one, CreateArchivePassage, param=f"/file/archival/{place}")
        for place, one in enumerate(file.archival[:MAX_PASSAGES])
    )
    return Whole(tuple(taken), archival, tuple(left))


def _history(shown: Sequence[Shown], window: Sequence[str], now: datetime) -> list[Said]:
    """Return what was said before the window begins; its summary stands in the window already."""
    inside = set(window)
    calls: dict[str, str] = {}
    found: list[Said] = []
    for rows in _grouped(shown):
        if rows[0].id in inside:
            if rows[0].message_type in ("summary_message", "system_message"):
                continue
            break
        line = _line(rows)
        said = None if line is None else reader.said(line, calls, now)
        if said is not None and said.content:
            found.append(said)
    return found


def _grouped(shown: Iterable[Shown]) -> Iterable[list[Shown]]:
    """Yield the messages that show one stored message, which stand side by side."""
    group: list[Shown] = []
    for one in shown:
        if group and group[0].id != one.id:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _line(rows: Sequence[Shown]) -> Line | None:
    """Return a stored message as agent files have it; None where no model ever saw it."""
    role = _ROLES.get(rows[0].message_type)
    if role is None or any(row.is_err for row in rows):
        return None
    calls = [
        Call(call.tool_call_id, Function(call.name, call.arguments))
        for row in rows
        for call in row.tool_calls or ()
    ]
    returns = [
        Return(one.tool_call_id, one.status, one.tool_return)
        for row in rows
        for one in row.tool_returns or ()
    ]
    return Line(
        id=rows[0].id,
        role=role,
        content=tuple(part for row in rows for part in _parts(row)),
        name=rows[0].name,
        tool_calls=tuple(calls) or None,
        tool_returns=tuple(returns) or None,
        created_at=rows[0].date,
    )


def _parts(row: Shown) -> Iterable[JsonObject]:
    if row.reasoning:
        yield {"type": "reasoning", "reasoning": row.reasoning}
    text = row.summary if row.summary is not None else row.content
    if isinstance(text, str):
        yield {"type": "text", "text": text}
    else:
        yield from text or ()


def is_full(data: bytes) -> bool:
    """Say whether a file may have any of the further keys, without reading it."""
    return any(msgspec.json.encode(name) in data for name in ("recall", "archival", "conversations"))
