"""One message, or one decision, and its answer, over as many connections as that takes.

The message carries an id of ours, so sending it again after a cut sends nothing twice. A connection that
breaks goes on where it stood; where the server no longer has what came between, because it was killed, the
stored messages tell it, and the run from its new start.
"""

from collections.abc import Sequence
from uuid import uuid4

import anyio
import msgspec
from msgspec import Struct

from gateway.chat import client as chat_client
from gateway.chat.client import Agent, AwayError, Call, ChatError
from gateway.chat.transcript import Transcript
from gateway.chat.view import View
from gateway.client import Answered, Client, ClientError, DeniedError, Gap, LostError, Patience, Sent
from gateway.client import events as client_events
from gateway.client.events import Custom, Event

AWAY = Patience(first_seconds=0.1, longest_seconds=1.0, away_seconds=600.0)
RETRY_SECONDS = 0.5
CANCEL_SECONDS = 5.0
FINISHED = ("completed", "failed", "cancelled")
WAITS = ("requires_approval", "interrupt")  # how a run ends that needs a person first
CONFLICT = 409

GONE = "The server is away; the answer goes on when it is back. Ctrl-C stops waiting."


class _Queue(Struct, frozen=True, rename="camel"):
    change: str = ""
    run_id: str = ""
    into: str = ""


class _End(Struct, frozen=True):
    """How a run ended."""

    stop_reason: str
    failure: str = ""


class Absence:
    """Says once each time the server goes away that it did."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._told = False

    def began(self, error: LostError) -> None:
        """The server cannot be reached, for this reason."""
        del error
        if not self._told:
            self._told = True
            self._view.notice(GONE)

    def ended(self) -> None:
        """The server was heard of."""
        self._told = False


class Answer:
    """An exchange with an agent: what is said, a message or decisions, and what comes back.

    `waiting` are the calls that a person has to answer before the agent goes on; `accepted` says whether the
    agent took what was said.
    """

    def __init__(
        self,
        client: Client,
        stored: chat_client.Client,
        agent: Agent,
        said: str | Sequence[Answered],
        *,
        view: View,
        absence: Absence,
    ) -> None:
        self._client = client
        self._stored = stored
        self._agent = agent
        self._said = said
        self._view = view
        self._absence = absence
        self._transcript = Transcript(view)
        self._message_id = str(uuid4())
        self._run_id: str | None = None
        self._cancelled = False
        self.waiting: tuple[Call, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether the agent took what was said."""
        return self._run_id is not None

    async def show(self) -> bool:
        """Show the answer to its end; return whether there was one. What went wrong is shown as well."""
        try:
            while (answered := await self._follow()) is None:
                self._transcript.interrupted()
        except (ClientError, ChatError) as error:
            self._transcript.interrupted()
            if not await self._must_wait(error):
                self._view.notice(f"No answer: {error}")
            return False
        return answered

    async def _must_wait(self, error: Exception) -> bool:
        """Whether a message was refused because the agent waits for a person; `waiting` says for what."""
        if self.accepted or not isinstance(error, DeniedError) or error.code != CONFLICT:
            return False
        try:
            self.waiting = await self._stored.waiting(self._agent.id)
        except ChatError:
            return False
        return bool(self.waiting)

    async def cancel(self) -> bool:
        """Ask the server, once, to end the answer; return whether it will."""
        if self._run_id is None or self._cancelled or not self._client.is_connected:
            return False
        self._cancelled = True
        try:
            with anyio.fail_after(CANCEL_SECONDS):
                await self._client.cancel(self._run_id)
        except DeniedError as error:
            return error.code == 409  # it is over already
        except (ClientError, TimeoutError):
            return False
        return True

    async def _follow(self) -> bool | None:
        """Send the message, or take up its run, and show what comes; None where it must be told anew."""
        async with self._client.subscribe(f"conv:{self._agent.id}") as items:
            if self._run_id is None:
                await self._send()
            elif (answered := await self._from_history()) is not None:
                return answered
            async for item in items:
                self._absence.ended()
                if isinstance(item, Gap):
                    return None
                if item.tags.get("run") == self._run_id and (ended := self._take(item.event)) is not None:
                    return await self._ended(ended)
        return None

    async def _send(self) -> None:
        """Send the message; a server that is too busy is asked again.

        Raises:
            ClientError: It was not accepted.
        """
        told = False
        give_up_at = anyio.current_time() + AWAY.away_seconds
        while True:
            try:
                sent = await self._tell()
            except DeniedError as error:
                if not error.temporary or anyio.current_time() >= give_up_at:
                    raise
                if not told:
                    told = True
                    self._view.notice(f"Not now: {error}. Trying again.")
                await anyio.sleep(RETRY_SECONDS)
            else:
                self._absence.ended()
                self._run_id = sent.run
                return

    async def _tell(self) -> Sent:
        if isinstance(self._said, str):
            return await self._client.send(self._agent.id, self._said, client_message_id=self._message_id)
        return await self._client.resume(self._agent.id, self._said)

    def _take(self, event: Event) -> _End | None:
        """Show an event of the run; return its end, if it is that."""
        self._transcript.feed(event)
        match event:
            case client_events.RunFinished():
                return _End(str((event.result or {}).get("stop_reason", event.outcome.type)))
            case client_events.RunError(message):
                return _End("error", message)
            case Custom("wakeful.queue", value):
                joined = msgspec.json.decode(value, type=_Queue)
                if joined.change == "joined" and joined.run_id == self._run_id:
                    self._run_id = joined.into
            case _:
                pass
        return None

    async def _from_history(self) -> bool | None:
        """Show what is stored of the run; None where it is not over, else whether there is an answer."""
        assert self._run_id is not None
        give_up_at = anyio.current_time() + AWAY.away_seconds
        while True:
            try:
                run = await self._stored.run(self._run_id)  # first: what is over has all its messages
                messages = await self._stored.messages(self._run_id)
                break
            except AwayError:
                if anyio.current_time() >= give_up_at:
                    raise
                await anyio.sleep(RETRY_SECONDS)
        self._transcript.retold()
        for message in messages:
            self._transcript.tell(message)
        if run.status not in FINISHED:
            return None
        failure = "the run failed" if run.status == "failed" else ""
        return await self._ended(_End(run.stop_reason or run.status, failure))

    async def _ended(self, end: _End) -> bool:
        """Show how the run ended, or take up what it waits for; return whether there is an answer."""
        self._transcript.finish()
        if end.stop_reason in WAITS and not end.failure:
            self.waiting = await self._stored.waiting(self._agent.id)
        elif (notice := _notice(end)) is not None:
            self._view.notice(notice)
        return not end.failure


def _notice(end: _End) -> str | None:
    """Return what a person is told of the end of a run: nothing of the usual one."""
    if end.failure:
        return f"No answer: {end.failure}"
    if end.stop_reason == "cancelled":
        return "Stopped."
    if end.stop_reason in ("end_turn", "success"):
        return None
    return f"The agent stopped early: {end.stop_reason}"
