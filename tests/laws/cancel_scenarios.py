"""What a host does when it dies while it cancels runs: for a client, or with their conversation."""

import anyio
import msgspec

from actors import clock
from actors.commands import InputMessage, SendMessages
from actors.events import TextDelta
from storage import inbox
from storage.inbox import Submission
from storage.pool import connection
from storage.records import DEFAULT_ORGANIZATION, TextPart
from tests.actors.worlds import create_agent
from tests.laws import checks
from tests.laws.crowd import open_conversation
from tests.laws.host_process import Cancel
from tests.laws.nursery import HostProcess
from tests.laws.scenarios import LOOK, Talk, hear_out


class CancelRun(Talk):
    """A message whose turn never ends, and its cancellation, which is acknowledged before the run's end."""

    planted = ("late_ends",)
    ENDS_AS = "cancelled"

    async def prepare(self) -> None:
        self.REPLIES = ({"text": "one two three", "gate": clock.new_id("gate"), "gate_after": 1},)
        self._acknowledged = self._noted = False
        await super().prepare()

    async def act(self, host: HostProcess) -> None:
        """Send the message, and cancel its run unless an earlier life was told to."""
        async with host.line() as line:
            receipt = await line.tell(self._message("I like tea"))
        if not self._noted:
            async with host.line() as line:
                async for event in line.follow(self.agent_id, receipt):
                    if isinstance(event, TextDelta):
                        break
            async with host.line() as line:
                await line.ask(Cancel(self.agent_id))
            self._acknowledged = True
        await hear_out(host, self.agent_id, receipt)

    async def between(self) -> list[str]:
        async with connection(self._pool) as conn:
            row = await conn.fetchrow(_STANDS, self.agent_id)
        self._noted = row is not None and (row["noted"] or row["status"] == "cancelled")
        wrong = await super().between()
        if self._acknowledged and not self._noted:
            wrong.append("a cancel was acknowledged and is lost")
        return wrong

    async def end(self) -> list[str]:
        async with connection(self._pool) as conn:
            messages = await checks.history(conn, self.agent_id)
        asked = [checks.text_of(m) for m in messages if m.role == "user"]
        answered = [checks.text_of(m) for m in messages if m.role != "user" and not m.interrupted]
        return [] if (asked, answered) == (["I like tea"], []) else [f"said was {asked}, {answered}"]


_STANDS = """
select i.command ? 'cancelled' as noted, r.status
  from inbox i join runs r on r.id = i.run_id
 where i.agent_id = $1
"""


class Late(Talk):
    """Two messages that were accepted in a conversation while it was being deleted."""

    ENDS_AS = "cancelled"
    TEXTS = ("a", "b")

    async def prepare(self) -> None:
        self.agent_id = await create_agent(self._pool, model="openai/none")
        self._conversation_id = (await open_conversation(self._pool, self.agent_id)).conversation_id
        async with connection(self._pool) as conn:
            await inbox.accept(conn, [self._submission(text) for text in self.TEXTS])
            await conn.execute(
                "update conversations set deleted_at = now() where id = $1", self._conversation_id
            )

    def _submission(self, text: str) -> Submission:
        message = InputMessage(role="user", content=(TextPart(text),))
        command = SendMessages(conversation_id=self._conversation_id, messages=(message,))
        return Submission(
            agent_id=self.agent_id,
            organization_id=DEFAULT_ORGANIZATION,
            conversation_id=self._conversation_id,
            run_id=clock.new_id("run"),
            key=f"{self._key}-{text}",
            request_hash="00",
            caller="law",
            command=msgspec.Raw(msgspec.json.encode(command)),
        )

    async def act(self, host: HostProcess) -> None:
        """Wait until the host has ended them; nobody can ask it to."""
        await host.ready()
        query = "select exists (select from inbox where agent_id = $1 and done_at is null)"
        async with connection(self._pool) as conn:
            while await conn.fetchval(query, self.agent_id):
                await anyio.sleep(LOOK)

    async def between(self) -> list[str]:
        return []

    async def end(self) -> list[str]:
        async with connection(self._pool) as conn:
            messages = await checks.history(conn, self._conversation_id)
        found = sorted((m.role, checks.text_of(m), m.excluded) for m in messages)
        return [] if found == [("user", t, True) for t in self.TEXTS] else [f"the history is {found}"]
