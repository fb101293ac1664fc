"""What the laws of whole agents share: a client's view of events, a strict provider's view of requests."""

import re
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, get_args

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from actors import clock
from actors.commands import InputMessage
from actors.events import (
    Event,
    MessageCommitted,
    ReasoningDelta,
    Retracted,
    RunFinished,
    StepStarted,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from actors.host import Host, HostSettings
from actors.llm.catalog import Catalog
from actors.llm.providers import provider_for
from actors.llm.wire import Timeouts, Wire
from bench.provider import Provider
from bench.recording import Record
from storage.pool import Pool, connection
from storage.records import Message, ReasoningPart, StopReason, TextPart, ToolCallPart
from tests.actors.worlds import World

STOP_REASONS = frozenset(get_args(StopReason))
QUICK = Timeouts(connect=1.0, first_token=0.4, idle=0.3, after_finish=0.2)
HUNG_UP = "http://127.0.0.1:9/v1"  # the discard port: nobody listens
NO_SUCH_HOST = "http://provider.invalid/v1"  # RFC 6761: never resolves


class HastyClock(clock.SystemClock):
    """A clock whose sleeps are noted and take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.lowlevel.checkpoint()


@contextmanager
def hasty_clock() -> Generator[HastyClock]:
    """Let nobody wait for a back-off inside the block."""
    hasty = HastyClock()
    before = clock.replace(hasty)
    try:
        yield hasty
    finally:
        clock.replace(before)


@asynccontextmanager
async def impatient_world(
    pool: Pool,
    provider: Provider,
    *,
    settings: HostSettings | None = None,
    timeouts: Timeouts = QUICK,
    catalog: Catalog | None = None,
) -> AsyncGenerator[World]:
    """Run a host that soon gives up on a silent provider; `hungup/…` and `nodns/…` cannot be reached."""
    catalog = catalog or Catalog(
        [
            provider_for("openai", provider.base_url, "sk-test"),
            provider_for("hungup", HUNG_UP, "sk-test"),
            provider_for("nodns", NO_SUCH_HOST, "sk-test"),
        ],
        wire=Wire(timeouts=timeouts),
    )
    host = Host(pool, catalog, name="test-host", settings=settings or HostSettings(drain_seconds=1))
    try:
        async with host.running():
            yield World(host, provider)
    finally:
        await catalog.aclose()


# --- what a client sees -------------------------------------------------------------------------


class Client:
    """Reduces events to messages, as a chat window would: deltas first, then what was committed."""

    def __init__(self) -> None:
        self.committed: dict[str, Message] = {}
        self.complaints: list[str] = []
        self._shown: dict[str, dict[str, str]] = {}
        self._of_step: dict[str, str] = {}
        self._over: set[str] = set()

    def begin_anew(self) -> None:
        """The log was lost with its process: what was not committed leaves the screen."""
        self._shown.clear()

    def take(self, events: Iterable[Event]) -> None:
        """Take events in their order."""
        for event in events:
            if event.run_id in self._over and isinstance(
                event, TextDelta | ReasoningDelta | ToolCallDelta | ToolCallStarted
            ):
                self.complaints.append(f"{type(event).__name__} after the run's end")
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case StepStarted(step_id=step_id, message_id=message_id):
                self._of_step[step_id] = message_id
            case TextDelta(_, message_id, text):
                self._add(message_id, "text", text)
            case ReasoningDelta(_, message_id, text):
                self._add(message_id, "reasoning", text)
            case ToolCallStarted(_, message_id, call_id, name, _):
                self._add(message_id, f"{call_id} {name} ", "")
            case ToolCallDelta(_, message_id, call_id, text):
                self._add(message_id, self._call(message_id, call_id), text)
            case Retracted(step_id=step_id):
                self._shown.pop(self._of_step.get(step_id, ""), None)
            case MessageCommitted(_, message):
                self._commit(message)
            case RunFinished(run_id):
                if run_id in self._over:
                    self.complaints.append("a run ended twice")
                self._over.add(run_id)
            case _:
                pass

    def _add(self, message_id: str, what: str, text: str) -> None:
        shown = self._shown.setdefault(message_id, {})
        shown[what] = shown.get(what, "") + text

    def _call(self, message_id: str, call_id: str) -> str:
        keys = [k for k in self._shown.get(message_id, {}) if k.startswith(f"{call_id} ")]
        return keys[0] if keys else f"{call_id} ? "

    def _commit(self, message: Message) -> None:
        shown = self._shown.pop(message.id, None)
        if shown is not None and shown != spoken(message):
            self.complaints.append(f"shown {shown!r} but stored {spoken(message)!r}")
        self.committed[message.id] = message

    def disagreements(self, stored: Sequence[Message]) -> list[str]:
        """Say in what this client's view differs from the stored messages (without the system one)."""
        found = list(self.complaints)
        found += [f"shown, neither kept nor retracted: {shown!r}" for shown in self._shown.values()]
        history = {m.id: _as_shown(m) for m in stored if m.position > 0}
        mine = {m.id: _as_shown(m) for m in self.committed.values()}
        found += [
            f"stored {history.get(message_id)!r}, client has {mine.get(message_id)!r}"
            for message_id in history.keys() | mine.keys()
            if history.get(message_id) != mine.get(message_id)
        ]
        return found


def _as_shown(message: Message) -> Message:
    """Return the message without what may change later: whether models are still sent it."""
    return replace(message, excluded=False)


def spoken(message: Message) -> dict[str, str]:
    """Return what of a message a client was shown as deltas."""
    said: dict[str, str] = {}
    for part in message.content:
        match part:
            case TextPart(text):
                said["text"] = text
            case ReasoningPart(text):
                said["reasoning"] = text
            case ToolCallPart(call_id, name, arguments):
                said[f"{call_id} {name} "] = arguments
            case _:
                pass
    return said


# --- what a strict provider accepts -------------------------------------------------------------


def malformed(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Say why the strictest provider would refuse these chat messages; [] where it takes them."""
    found: list[str] = []
    if not messages or messages[0]["role"] != "system":
        found.append("no system message in front")
    if len(messages) < 2:
        found.append("nothing but the system prompt")
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                found.append(f"result {message['tool_call_id']!r} answers no open call")
            else:
                waiting.remove(message["tool_call_id"])
            continue
        found += [f"call {call_id!r} has no result right behind it" for call_id in waiting]
        calls = message.get("tool_calls") or []
        waiting = [call["id"] for call in calls]
        if len(set(waiting)) < len(waiting):
            found.append(f"two calls of one message share an id: {waiting}")
        if any(re.fullmatch(r"[\w.-]{1,64}", call["function"]["name"]) is None for call in calls):
            found.append("a call's name is no name")
        if not message.get("content") and not calls:
            found.append(f"a message of {message['role']} says nothing")
    return found + [f"call {call_id!r} has no result at the end" for call_id in waiting]


def refused(records: Iterable[Record]) -> list[str]:
    """Say which recorded requests the scripted provider, or a strict one, would refuse."""
    found: list[str] = []
    for record in records:
        if record.refusal is not None:
            found.append(f"the provider refused: {record.refusal}")
        if record.body is not None and "messages" in record.body:
            found += malformed(record.body["messages"])
    return found


# --- shared looks at the database and the log ----------------------------------------------------


def everything_said(world: World, conversation_id: str) -> list[Event]:
    """Return every event in the memory of a conversation's log."""
    channel = world.host.logs.channels.get(conversation_id)
    segments = [] if channel is None else channel.segments
    return [event for segment in segments for event in segment.read(segment.start)]


async def until(condition: Callable[[], bool], *, seconds: float = 15) -> None:
    """Return when the condition holds, or when the time is up: the caller's checks say which."""
    with anyio.move_on_after(seconds):
        while not condition():
            await anyio.sleep(0.001)


async def unfinished(pool: Pool) -> dict[str, int]:
    """Return how many inbox rows are in each state but `done`."""
    async with connection(pool) as conn:
        rows = await conn.fetch("select state, count(*) as n from inbox where state <> 'done' group by state")
    return {row["state"]: row["n"] for row in rows}


async def run_status(pool: Pool, run_id: str) -> str:
    """Return the stored status of a run."""
    async with connection(pool) as conn:
        return await conn.fetchval("select status from runs where id = $1", run_id)


def user_message(text: str) -> tuple[InputMessage, ...]:
    """Return the messages of a command that says one thing."""
    return (InputMessage(role="user", content=(TextPart(text),)),)


def crash(host: Host) -> None:
    """Let a host die where it stands: its tasks end, it drains nothing and keeps its lease."""

    async def nothing() -> None:
        return None

    host.drain = nothing  # type: ignore[method-assign]
    group = host._commons.group
    assert group is not None
    for task in tuple(group._tasks):  # type: ignore[attr-defined]
        task.cancel()
