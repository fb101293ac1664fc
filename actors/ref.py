"""An agent's address: all that the gateway, and other agents, hold of one."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from actors import shortening, toolcalls
from actors.channels import Hand
from actors.commands import Edit, Envelope, Receipt
from actors.compaction import Done
from actors.errors import NothingToCancelError, NotRunningError
from actors.events import Logged
from actors.summary import CompactionSettings
from storage.records import JsonObject, Step, ToolReturnPart

if TYPE_CHECKING:
    from actors.host import Host


class AgentRef:
    """The address of one agent, alive or not. Making one costs nothing and checks nothing."""

    __slots__ = ("_host", "agent_id")

    def __init__(self, host: "Host", agent_id: str) -> None:
        self._host = host
        self.agent_id = agent_id

    async def tell(self, envelope: Envelope) -> Receipt:
        """Accept a command durably and return its receipt; its handling goes on without the caller.

        Raises:
            KeyReusedError: The key came before with another body.
            NotFoundError: No such agent or conversation.
            MailboxFullError: Too many commands wait.
            BusyError: The conversation is busy and the command asked to be rejected then.
            NotRunningError: The command steers a run that does not run in this conversation now.
            DrainingError: The host is stopping or lost its lease.
            UnavailableError: The database did not answer; nothing was acknowledged.
        """
        return await self._host.accept(self.agent_id, envelope)

    async def edit(self, edit: Edit) -> None:
        """Apply an edit between steps; return once it is committed. Cancelling does not undo it.

        Raises:
            NotFoundError: No such agent, block, tool or conversation.
            ConflictError: A uniqueness rule refused it.
            InvalidEditError: The agent as it is does not allow it.
            DrainingError: The host is stopping or lost its lease.
            UnavailableError: The database did not answer.
        """
        await self._host.edit(self.agent_id, edit)

    async def compact(self, conversation_id: str, settings: CompactionSettings | None = None) -> Done:
        """Sum up and shorten a conversation's window between two of its turns; return what came of it.

        `settings` win over the agent's. Where there is nothing to compact nothing changes. Cancelling ends
        the wait, not the compaction.

        Raises:
            NotFoundError: No such agent or conversation.
            NotShorterError: There are too few messages; nothing was changed.
            ModelError, UnknownModelError: Nobody wrote a summary; nothing was changed.
            DrainingError: The host is stopping or lost its lease.
            UnavailableError: The database did not answer.
        """
        return await self._host.operate(
            self.agent_id,
            conversation_id,
            lambda actor, thread: shortening.on_demand(actor, thread, settings),
        )

    async def call_tool(self, name: str, arguments: JsonObject) -> ToolReturnPart:
        """Run one of the agent's tools between two turns of its own conversation; return its result.

        What it does to memory is committed then, and no message tells of it. Cancelling ends the wait, not
        the call.

        Raises:
            NotFoundError: There is no such agent, or it has no such tool.
            DrainingError: The host is stopping or lost its lease.
            UnavailableError: The database did not answer.
        """
        return await self._host.operate(
            self.agent_id,
            self.agent_id,
            lambda actor, thread: toolcalls.call(actor, thread, name, arguments),
        )

    async def cancel(
        self, run_ids: tuple[str, ...] | None = None, *, conversation_id: str | None = None
    ) -> dict[str, str]:
        """Cancel these runs, or every unfinished one; return what became of each.

        What is returned is durable: a run that has not ended yet does so as cancelled, whatever crashes.

        Raises:
            NothingToCancelError: None of them is active.
            DrainingError: The host is stopping or lost its lease.
            UnavailableError: The database did not answer; the runs may end as cancelled all the same.
        """
        return await self._host.cancel(self.agent_id, run_ids, conversation_id=conversation_id)

    async def cancel_run(self, run_id: str) -> None:
        """Cancel one run, or deny the calls that it ended with and that still wait for an answer.

        Raises:
            NotRunningError: The run is over, or unknown, and nothing of it waits.
            DrainingError: The host is stopping or lost its lease.
            UnavailableError: The database did not answer.
        """
        try:
            await self._host.cancel(self.agent_id, (run_id,), conversation_id=None)
        except NothingToCancelError as error:
            raise NotRunningError(run_id, over=True) from error

    def follow(
        self, run_id: str, conversation_id: str, hand: Hand | None = None
    ) -> AsyncGenerator[list[Logged], None]:
        """Yield a run's events in batches, from its `RunStarted` to its `RunFinished`.

        Waits while the run is queued. Ending the iteration does not touch the run. A delta that `hand`
        takes the moment it is said is not yielded.

        Raises:
            LogTrimmedError: The run is over and its events are no longer in memory.
        """
        return self._host.logs.channel(conversation_id, self.agent_id).follow(run_id, hand)

    def running_step(self, run_id: str) -> Step | None:
        """Return the step that is under way in this run and not yet in the database."""
        return self._host.running_step(self.agent_id, run_id)
