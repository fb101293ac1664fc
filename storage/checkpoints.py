"""The one writer of steps: a fenced commit of messages, blocks, runs and inbox, many agents at once."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from storage import extras
from storage.errors import FencedError, StaleBlocksError, StorageError
from storage.extras import Extras
from storage.pool import Conn, transaction
from storage.records import Message, Part, RunError, Step, ToolCall, Usage


class BlockWrite(Struct, frozen=True, kw_only=True):
    """A new value for a block that must still have `version`."""

    id: str
    version: int
    value: str


class MessageRewrite(Struct, frozen=True, kw_only=True):
    """A change to a stored message: a rebuilt system prompt, or an input that is never sent again."""

    id: str
    content: tuple[Part, ...] | None = None
    tokens: int | None = None
    excluded: bool | None = None


class RunUpdate(Struct, frozen=True, kw_only=True):
    """Where a run stands after the step; `completed_at` counts exactly when `status` is terminal."""

    id: str
    status: str
    usage: Usage = Usage()
    stop_reason: str | None = None
    error: RunError | None = None
    completed_at: datetime | None = None
    ttft_ns: int | None = None
    total_duration_ns: int | None = None


class InboxUpdate(Struct, frozen=True, kw_only=True):
    """Where a command stands after the step. A committed step resets its attempts."""

    seq: int
    state: str


class WindowUpdate(Struct, frozen=True, kw_only=True):
    """The conversation's window after the step: `[from_position, end_position)`.

    `summary_position` names the summary in force; 0 is none, `None` leaves it as it is. One that
    `only_grows` has the start and the summary that are stored: its row is left alone, as its new messages
    tell where it ends.
    """

    id: str
    from_position: int
    end_position: int
    summary_position: int | None = None
    only_grows: bool = False

    def __post_init__(self) -> None:
        """Guard what the table has no check for: one would be prepared anew at every step."""
        assert 1 <= self.from_position <= self.end_position, "a window is a range of positions from 1"


class Checkpoint(Struct, frozen=True, kw_only=True):
    """All that one step changes. It commits whole or not at all, under `fence` and at `version`."""

    id: str
    agent_id: str
    fence: int
    version: int
    messages: tuple[Message, ...] = ()
    rewrites: tuple[MessageRewrite, ...] = ()
    blocks: tuple[BlockWrite, ...] = ()
    runs: tuple[RunUpdate, ...] = ()
    steps: tuple[Step, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    inbox: tuple[InboxUpdate, ...] = ()
    windows: tuple[WindowUpdate, ...] = ()
    extras: Extras | None = None
    stop_reason: str | None = None
    duration_ms: int | None = None


# What it defends against stands at the function, in schema.sql: fence, version, blocks, repeats.
_COMMIT = "select agent_id, owned, stale from commit_steps($1, $2, $3, $4, $5, $6, $7, $8, $9)"

_encoder = msgspec.json.Encoder()

Outcome = None | StorageError


async def commit(conn: Conn, batch: Sequence[Checkpoint]) -> list[Outcome]:
    """Commit steps of different agents in one round trip; return one outcome each, in order.

    `None` means committed. `FencedError`: a newer owner; stop. `StaleBlocksError`: reload the named
    blocks, apply the edits again, commit again. An error of the database itself is raised and then
    nothing of the batch is committed; see `landed` for a commit whose answer was lost.

    Raises:
        ConflictError: A block that one of the steps creates has a label that its agent has already.
    """
    if all(c.extras is None for c in batch):
        return await _commit_steps(conn, batch)
    async with transaction(conn):
        outcomes = await _commit_steps(conn, batch)
        for checkpoint, outcome in zip(batch, outcomes, strict=True):
            if outcome is None and checkpoint.extras is not None:
                await extras.write(conn, checkpoint.agent_id, checkpoint.extras)
    return outcomes


async def _commit_steps(conn: Conn, batch: Sequence[Checkpoint]) -> list[Outcome]:
    if len(batch) == 1 and is_plain(batch[0]):
        return [await _commit_plain(conn, batch[0])]
    rows = await conn.fetch(
        _COMMIT,
        _encoder.encode([_head(c) for c in batch]),
        _encoder.encode([m for c in batch for m in c.messages]),
        _owned(batch, "runs"),
        _owned(batch, "inbox"),
        _owned(batch, "windows"),
        _encoder.encode([s for c in batch for s in c.steps]),
        _owned(batch, "blocks") if any(c.blocks for c in batch) else None,
        _owned(batch, "rewrites") if any(c.rewrites for c in batch) else None,
        _encoder.encode(calls) if (calls := [t for c in batch for t in c.tool_calls]) else None,
    )
    verdicts = {row["agent_id"]: row for row in rows}
    return [_outcome(c, verdicts[c.agent_id]["owned"], verdicts[c.agent_id]["stale"]) for c in batch]


def is_plain(c: Checkpoint) -> bool:
    """Say whether a step is of the common shape that `commit_step` writes."""
    if (len(c.runs), len(c.inbox), len(c.steps), len(c.windows)) != (1, 1, 1, 1):
        return False
    run, step = c.runs[0], c.steps[0]
    same = step.run_id == run.id and run.stop_reason == c.stop_reason
    same = same and len({block.id for block in c.blocks}) == len(c.blocks)
    return same and all(
        _is_plain_message(m, run.id, c.windows[0].id, step.organization_id) for m in c.messages
    )


def _is_plain_message(m: Message, run_id: str, conversation_id: str, organization_id: str) -> bool:
    """Say whether what `_message_row` leaves out of a message can be told from its step."""
    plain = (m.run_id, m.conversation_id, m.organization_id) == (run_id, conversation_id, organization_id)
    return plain and not (m.excluded or m.interrupted)


def _message_row(m: Message) -> tuple[object, ...]:
    """Return what of a message its step does not say, in the order of the type `message_row`."""
    return (
        m.id,
        m.position,
        m.role,
        _encoder.encode(m.content),
        m.name,
        m.otid,
        m.sender_id,
        m.step_id,
        m.tokens,
        m.created_at,
    )


_COMMIT_PLAIN = f"select commit_step({', '.join(f'${place}' for place in range(1, 37))})"


async def _commit_plain(conn: Conn, c: Checkpoint) -> Outcome:
    """Commit one step of the common shape, for half of what the general statement costs."""
    run, command, step, window = c.runs[0], c.inbox[0], c.steps[0], c.windows[0]
    stale = await conn.fetchval(
        _COMMIT_PLAIN,
        c.agent_id,
        c.fence,
        c.version,
        c.id,
        c.stop_reason,
        c.duration_ms,
        [_message_row(m) for m in c.messages],
        run.id,
        run.status,
        _encoder.encode(run.usage),
        None if run.error is None else _encoder.encode(run.error),
        run.completed_at,
        run.ttft_ns,
        run.total_duration_ns,
        command.seq,
        command.state,
        window.id,
        None if window.only_grows else window.from_position,
        window.end_position,
        window.summary_position,
        step.id,
        step.organization_id,
        step.position,
        step.status,
        step.model,
        step.provider,
        step.context_window_tokens,
        _encoder.encode(step.usage),
        step.stop_reason,
        None if step.error is None else _encoder.encode(step.error),
        _encoder.encode(step.timing),
        step.created_at,
        _may_be_known(step, c.messages),
        _encoder.encode(c.blocks) if c.blocks else None,
        _encoder.encode(c.rewrites) if c.rewrites else None,
        _encoder.encode(c.tool_calls) if c.tool_calls else None,
    )
    return _outcome(c, stale is not None, stale or None)


def _may_be_known(step: Step, messages: Sequence[Message]) -> bool:
    """Say whether an earlier commit may have left this step open.

    The one that writes what the model said writes the step's row too, and no other does before it.
    """
    return not any(m.step_id == step.id and m.role == "assistant" for m in messages)


def _outcome(checkpoint: Checkpoint, owned: bool, stale: list[str] | None) -> Outcome:
    if not owned:
        return FencedError(checkpoint.agent_id, checkpoint.fence)
    if stale is not None:
        return StaleBlocksError(checkpoint.agent_id, tuple(stale))
    return None


def _head(c: Checkpoint) -> dict[str, str | int | None]:
    return {
        "id": c.id,
        "agent_id": c.agent_id,
        "fence": c.fence,
        "version": c.version,
        "stop_reason": c.stop_reason,
        "duration_ms": c.duration_ms,
    }


def _owned(batch: Sequence[Checkpoint], field: str) -> bytes:
    """Return the rows of `field` of every checkpoint as a JSON array, each with its agent's id."""
    rows: list[bytes] = []
    for checkpoint in batch:
        prefix = b'{"agent_id":"' + checkpoint.agent_id.encode() + b'",'
        rows += [prefix + _encoder.encode(row)[1:] for row in getattr(checkpoint, field)]
    return b"[" + b",".join(rows) + b"]"


_LANDED = "select id, version, checkpoint_id from agents where id = any ($1::text[])"


async def landed(conn: Conn, batch: Sequence[Checkpoint]) -> list[bool]:
    """Return which checkpoints are in the database: the truth about a commit whose answer was lost."""
    rows = await conn.fetch(_LANDED, [c.agent_id for c in batch])
    last = {row["id"]: row["checkpoint_id"] for row in rows}
    return [last.get(c.agent_id) == c.id for c in batch]
