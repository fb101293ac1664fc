"""Where commands enter: counted, accepted durably in batches, delivered in the order of acceptance."""

import logging
from typing import TYPE_CHECKING

import anyio
import msgspec
from msgspec.structs import replace

from actors import approvals, cancelling, clock, stored_commands
from actors.batch import Batcher
from actors.commands import Envelope, Receipt, SendMessages
from actors.errors import (
    ActorError,
    BusyError,
    DrainingError,
    InvalidAnswerError,
    NotRunningError,
    PendingApprovalError,
    UnknownModelError,
)
from actors.mailbox import Waiting
from actors.population import Population
from actors.thread import Thread
from storage import inbox, messages, runs
from storage.errors import StorageError, UnavailableError
from storage.inbox import Accepted, Pending, Submission
from storage.pool import connection
from storage.records import ToolReturnPart

if TYPE_CHECKING:
    from actors.agent import Actor

log = logging.getLogger("wakeful.host")

POLL = 1.0  # seconds; finds commands whose wake-up was lost
POLL_ROWS = 1000


class Intake:
    """Accepts commands for agents, alive or not. An acknowledged one survives any crash."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._commons = population.commons
        self._commands: dict[str, tuple[SendMessages, float]] = {}  # by run, and since when
        self._looked_at = 0  # the last command of a look that did not come to the end of what is pending
        self.batcher: Batcher[Submission, Accepted] = Batcher(self._accept, key=lambda s: s.run_id)

    async def accept(self, agent_id: str, envelope: Envelope) -> Receipt:
        """Accept a command; see `AgentRef.tell`."""
        load, command = self._commons.load, envelope.command
        conversation_id = command.conversation_id
        ahead = load.waiting(conversation_id)
        if command.approvals:
            envelope = await self._answering(agent_id, envelope)
        elif (refusal := self._refusal(agent_id, command)) and not await self._known(agent_id, envelope.key):
            raise refusal
        elif command.steer_run is not None and not await self._known(agent_id, envelope.key):
            await self._check_steered(agent_id, conversation_id, command.steer_run)
        if command.when_busy == "interrupt":
            runs_ended = self._under_way(agent_id, conversation_id)
            envelope = replace(envelope, command=replace(command, interrupts=runs_ended))
        command, submission = envelope.command, _submission(agent_id, envelope)
        reserve = load.reserve_answer if command.approvals else load.reserve
        reserve(agent_id, conversation_id)  # from here on nothing may fail before it is given back
        self._commands[submission.run_id] = command, clock.monotonic()
        if ahead == 0:
            self._population.heads.begin(
                agent_id, command, run_id=submission.run_id, key=envelope.key, fresh=envelope.fresh
            )
        accepted: Accepted | None = None
        # Shielded, and bounded by the committer's deadlines: a caller that leaves must not take the
        # bookkeeping of a command that was already accepted with it.
        with anyio.CancelScope(shield=True):
            accepted = await self.batcher.submit(submission)
        assert accepted is not None
        if command.when_busy == "interrupt":
            await self._end_late_ones(agent_id, command)
        busy = ahead > 0 and not accepted.replayed
        steered = busy and command.when_busy == "steer"
        if steered and command.steer_run is not None:  # the run may have ended while this was accepted
            thread = self._thread(agent_id, conversation_id)
            steered = thread is not None and thread.disposition(accepted.run_id)[0] == "steered"
        return Receipt(
            run_id=accepted.run_id,
            conversation_id=accepted.conversation_id,
            seq=accepted.seq,
            replayed=accepted.replayed,
            disposition="steered" if steered else "queued" if busy else "started",
            queue_position=_place(command, ahead) if busy and not steered else 0,
        )

    def _refusal(self, agent_id: str, command: SendMessages) -> ActorError | None:
        """Return why a conversation takes no message now: it waits for an answer, or is busy."""
        conversation_id = command.conversation_id
        awaited = self._commons.awaited.get(conversation_id)
        rejects = self._commons.settings.when_pending == "reject"
        if awaited is not None and rejects and not self._answered(agent_id, conversation_id):
            return PendingApprovalError(conversation_id, awaited[1])
        if command.when_busy == "reject" and self._commons.load.waiting(conversation_id) > 0:
            return BusyError(conversation_id, self._run_in(agent_id, conversation_id))
        return None

    async def _check_steered(self, agent_id: str, conversation_id: str, run_id: str) -> None:
        """Refuse to steer a run that does not run in this conversation now.

        Raises:
            NotRunningError
        """
        if not self._commons.load.held(run_id):
            raise NotRunningError(run_id, over=True)
        thread = (await self._population.wake(agent_id)).thread(conversation_id)
        if thread.turn is None or thread.turn.finished or not thread.turn.owns(run_id):
            raise NotRunningError(run_id, over=not self._commons.load.held(run_id))

    def _under_way(self, agent_id: str, conversation_id: str) -> tuple[str, ...]:
        """Return the runs that a conversation is working on."""
        thread = self._thread(agent_id, conversation_id)
        return () if thread is None else thread.under_way

    async def _end_late_ones(self, agent_id: str, command: SendMessages) -> None:
        """Make durable what a command interrupts beside what is stored with it: it began meanwhile.

        Raises:
            UnavailableError, DrainingError: That could not be made durable; the command itself is.
        """
        thread = self._thread(agent_id, command.conversation_id)
        turn = None if thread is None else thread.turn
        if thread is None or turn is None or turn.finished or not turn.cancelled:
            return
        if late := [run_id for run_id in thread.under_way if run_id not in command.interrupts]:
            await cancelling.note(self._commons, agent_id, late)

    def _thread(self, agent_id: str, conversation_id: str) -> Thread | None:
        """Return a conversation of an agent that is alive."""
        actor = self._population.hot.get(agent_id)
        return None if actor is None else actor.threads.get(conversation_id)

    def _answered(self, agent_id: str, conversation_id: str) -> bool:
        """Whether the answer is here already, and its calls are being run."""
        thread = self._thread(agent_id, conversation_id)
        return thread is not None and thread.turn is not None and bool(thread.turn.decisions)

    async def _answering(self, agent_id: str, envelope: Envelope) -> Envelope:
        """Return an answer as it is to be accepted: it fits what is asked, or came before and is repeated.

        Raises:
            InvalidAnswerError, NotFoundError
        """
        command = envelope.command
        actor = await self._population.wake(agent_id)
        thread = actor.thread(command.conversation_id)
        request = thread.pending
        problem = approvals.NOTHING_PENDING
        if request is not None:
            problem = approvals.complaint(request, command) or self._unseen(actor, thread, command)
            if problem is None:
                kept = command.client_tools if command.client_tools is not None else request.client_tools
                return replace(envelope, command=replace(command, client_tools=kept or None))
        if await self._known(agent_id, envelope.key):
            return envelope
        async with connection(self._commons.pool) as conn:
            recent = await messages.list_newest(conn, command.conversation_id, limit=approvals.RECENT)
        if not approvals.answered_before(command, recent):
            raise InvalidAnswerError(problem)
        return envelope

    def _unseen(self, actor: "Actor", thread: Thread, command: SendMessages) -> str | None:
        """Return why a result with images is not taken, in words for the client: its model sees none."""
        if not any(isinstance(d, ToolReturnPart) and d.shown for d in command.approvals):
            return None
        handle = command.model or thread.conversation.model or actor.agent.settings.model
        try:
            model = self._commons.catalog.resolve(handle)
        except UnknownModelError:
            return None  # the run will say so
        if model.dialect(thread.model_settings(actor.agent.settings.model_settings)).images:
            return None
        return f"The model {handle!r} cannot look at images: answer with text alone."

    async def _known(self, agent_id: str, key: str) -> bool:
        """Say whether the key names a command already: a repeat is answered, not refused for its own run."""
        try:
            async with connection(self._commons.pool) as conn:
                return await runs.find_by_key(conn, agent_id=agent_id, key=key) is not None
        except StorageError:
            return False

    async def _accept(self, batch: list[Submission]) -> list[Accepted | Exception]:
        """Commit a batch of commands and deliver them, in the order of their acceptance.

        The poll or a waking agent may read a command before its acknowledgement is here, most easily
        where that is lost and asked for again; then its run is counted already, or even over.
        """
        verdicts: list[Accepted | Exception] = []
        with self._commons.load.ends() as ended:
            try:
                verdicts = list(await self._commons.committer.accept(batch))
            finally:
                for place, item in enumerate(batch):
                    self._settle(item, verdicts[place] if place < len(verdicts) else None, ended)
        for place, verdict in enumerate(verdicts):
            if isinstance(verdict, Accepted) and verdict.replayed:
                verdicts[place] = await self._replayed(batch[place].agent_id, verdict)
        return verdicts

    def _settle(self, item: Submission, verdict: Accepted | Exception | None, ended: set[str]) -> None:
        """Deliver a command that was accepted, unless its run is over, and set the counts right."""
        load, heads = self._commons.load, self._population.heads
        command, begun = self._commands.pop(item.run_id)
        heads.trusted = verdict is not None and not isinstance(verdict, UnavailableError)
        if not heads.trusted:
            load.lost()
        if not isinstance(verdict, Accepted) or verdict.replayed or item.run_id in ended:
            heads.drop(item.run_id)
            load.give_back(item.agent_id, item.conversation_id)
            return
        if load.held(item.run_id):  # whoever was faster counted it as well
            load.give_back(item.agent_id, item.conversation_id)
        load.hold(item.run_id, item.agent_id, item.conversation_id)
        now = clock.monotonic()
        waiting = Waiting(seq=verdict.seq, run_id=item.run_id, command=command, since=now, accept=now - begun)
        self._population.deliver(item.agent_id, waiting)

    async def _replayed(self, agent_id: str, accepted: Accepted) -> Accepted | StorageError:
        """Deliver the command that a repeat named if nobody was told of it: its first ack was lost.

        Before the repeat is acknowledged, so that what its client sends next comes after it.
        """
        row = Pending(
            seq=accepted.seq,
            agent_id=agent_id,
            conversation_id=accepted.conversation_id,
            run_id=accepted.run_id,
        )
        try:
            if not self._commons.load.held(row.run_id):
                await self._fetch(row)
        except StorageError as error:
            return error
        return accepted

    def _run_in(self, agent_id: str, conversation_id: str) -> str:
        """Return the run that a conversation is busy with, perhaps one that is being accepted."""
        thread = self._thread(agent_id, conversation_id)
        if thread is not None and thread.turn is not None:
            return thread.turn.run_id
        if accepted := self._commons.load.runs_of(agent_id, conversation_id):
            return accepted[0]
        coming = (run for run, (said, _) in self._commands.items() if said.conversation_id == conversation_id)
        return next(coming, "")

    # --- what no wake-up told us of -------------------------------------------------------------------

    async def poll(self) -> None:
        """Find pending commands until cancelled: accepted elsewhere, before a crash, or not woken."""
        while True:
            await anyio.sleep(POLL)
            try:
                await self.poll_once()
            except (StorageError, DrainingError) as error:
                log.warning("poll failed", extra={"reason": str(error)})

    async def poll_once(self) -> None:
        """Look once, and wake or tell whoever has something pending that it does not know of.

        The next look goes on behind this one's last command: those that wait long hide no other.
        """
        self._commons.check_lease()
        with self._commons.load.ends() as ended:
            async with connection(self._commons.pool) as conn:
                rows = await inbox.pending(conn, after=self._looked_at, limit=POLL_ROWS)
            self._looked_at = rows[-1].seq if len(rows) == POLL_ROWS else 0
            for row in rows:
                if row.run_id not in ended:
                    await self._find(row)

    async def _find(self, row: Pending) -> None:
        """Wake the agent of a command that waits, or tell the live one that was never told of it."""
        actor = self._population.hot.get(row.agent_id)
        if actor is None:
            self._population.summon(row)
        elif row.seq not in actor.known and not self._commons.load.held(row.run_id):
            await self._fetch(row)

    async def _fetch(self, row: Pending) -> None:
        """Deliver a command that a hot actor was never told of."""
        with self._commons.load.ends() as ended:
            async with connection(self._commons.pool) as conn:
                found = await inbox.get(conn, row.seq)
        if found is None or row.run_id in ended or self._commons.load.held(row.run_id):
            return
        stored, attempt, applied = found
        command = stored_commands.read(stored, agent_id=row.agent_id, run_id=row.run_id)
        if command is None:
            return  # the next activation gives it up
        waiting = Waiting(
            seq=row.seq,
            run_id=row.run_id,
            command=command,
            since=clock.monotonic(),
            attempt=attempt,
            applied=applied,
        )
        self._population.deliver(row.agent_id, waiting)


def _place(command: SendMessages, ahead: int) -> int:
    """Return where a command waits that came behind `ahead` others."""
    return 1 if command.when_busy == "interrupt" else ahead


def _submission(agent_id: str, envelope: Envelope) -> Submission:
    command = envelope.command
    return Submission(
        agent_id=agent_id,
        organization_id=envelope.organization_id,
        conversation_id=command.conversation_id,
        run_id=clock.new_id("run"),
        key=envelope.key,
        request_hash=envelope.request_hash.hex(),
        caller=envelope.caller,
        command=msgspec.Raw(msgspec.json.encode(command)),
        background=command.background,
        request_config=command.request_config,
        callback_url=command.callback_url,
    )
