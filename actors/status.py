"""How live agents are doing, read from hot state: cheap enough for a dashboard to ask all the time."""

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from actors import clock
from actors.errors import UnknownModelError
from storage.records import Timing

if TYPE_CHECKING:
    from actors.agent import Actor
    from actors.thread import Thread

RATE_WINDOW = 2.0  # seconds over which tokens are counted; up to twice as many
FEWEST_SECONDS = 0.05  # of a stream before anything can be said of its rate

Status = Literal["running", "waiting_for_approval", "idle"]


class AgentFigures(Struct, frozen=True, kw_only=True):
    """How an agent is doing. `active` runs are under way, `queued` commands wait, in all conversations.

    `tokens_per_second` counts fragments as they are streamed. The latencies, in milliseconds, are those of
    the last step that this life of the agent committed. `context_tokens` is what the conversation that
    spoke last takes of the model's window of `context_limit` tokens; None where nobody knows.
    """

    agent_id: str
    name: str | None
    status: Status
    queued: int = 0
    active: int = 0
    tokens_per_second: float = 0.0
    first_token_ms: float | None = None
    step_ms: float | None = None
    checkpoint_ms: float | None = None
    context_tokens: int | None = None
    context_limit: int | None = None


class Pulse:
    """How fast a log grows: two readings of its length, the later one never older than the window."""

    __slots__ = ("_before", "_last")

    def __init__(self) -> None:
        self._before = self._last = (0.0, 0)

    def begin(self, now: float, length: int) -> None:
        """Count from here on."""
        self._before = self._last = (now, length)

    def rate(self, now: float, length: int) -> float:
        """Return events per second over about the window; 0 where it is too early to say."""
        if now - self._last[0] >= RATE_WINDOW:
            self._before, self._last = self._last, (now, length)
        since, counted = self._before
        if now - since < FEWEST_SECONDS:
            return 0.0
        return (length - counted) / (now - since)


def figures(actor: "Actor") -> AgentFigures:
    """Return how a live agent is doing."""
    now = clock.monotonic()
    threads = actor.threads.values()
    running = [t.turn for t in threads if t.turn is not None and not t.turn.finished]
    queued = sum(len(t.mailbox) + len(t.steering) for t in threads)
    streaming = [r for r in running if r.answer is not None]
    latest = actor.latest
    tokens, limit = _context(actor, actor.threads.get(actor.spoke))
    return AgentFigures(
        agent_id=actor.agent.id,
        name=actor.agent.name,
        status=_status(actor, busy=bool(running)),
        queued=queued,
        active=len(running),
        tokens_per_second=sum(r.pulse.rate(now, r.channel.next) for r in streaming),
        first_token_ms=None if latest is None else (latest.send + latest.first_token) / 1e6,
        step_ms=None if latest is None else _total_ns(latest) / 1e6,
        checkpoint_ms=None if latest is None else latest.checkpoint / 1e6,
        context_tokens=tokens,
        context_limit=limit,
    )


def _total_ns(timing: Timing) -> int:
    """Return what the whole step took; what it waited in the queue included."""
    asked = timing.prompt + timing.send + timing.first_token + timing.stream
    return timing.claim + timing.queue + asked + timing.tools + timing.checkpoint + timing.compaction


def _status(actor: "Actor", *, busy: bool) -> Status:
    """Return the status. Commands that wait for nothing but a place among the running ones are running."""
    threads = actor.threads.values()
    if busy or any(t.pending is None and (t.steering or len(t.mailbox)) for t in threads):
        return "running"
    return "waiting_for_approval" if any(t.pending is not None for t in threads) else "idle"


def _context(actor: "Actor", thread: "Thread | None") -> tuple[int | None, int | None]:
    """Return (tokens of the prompt as it stands, tokens of the window); see `AgentFigures`."""
    if thread is None:
        return None, None
    used = None
    if thread.loaded:
        used = actor.calibration.apply(thread.system_tokens + actor.toolbox.tokens + thread.tokens)
    if thread.turn is not None and thread.turn.window_tokens:
        return used, thread.turn.window_tokens
    settings = actor.agent.settings
    if settings.context_window_tokens:
        return used, settings.context_window_tokens
    return used, _window(actor, thread.conversation.model or settings.model)


def _window(actor: "Actor", handle: str) -> int | None:
    """Return the window of a model. The actor keeps it: it costs more to find than all the rest here."""
    if actor.window is None or actor.window[0] != handle:
        try:
            model = actor.commons.catalog.resolve(handle)
        except UnknownModelError:
            return None
        actor.window = handle, model.ref.context_window_tokens
    return actor.window[1]
