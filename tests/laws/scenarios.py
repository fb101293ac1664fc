"""What a host does when it dies at a failpoint, and what its database must look like then and at the end."""

import signal
from contextlib import suppress
from typing import Any, ClassVar

import anyio
from msgspec.structs import replace

from actors import clock
from actors.commands import Receipt
from actors.events import StepStarted
from bench.provider import Provider
from storage import passages
from storage.pool import Pool, connection, transaction
from tests.actors.worlds import create_agent, new_block
from tests.laws import checks
from tests.laws.host_process import Tell
from tests.laws.nursery import HostProcess, RefusedError
from tests.storage.libraries import passage

LOOK = 0.02
OVER = "LogTrimmedError"  # the run ended before we asked for its events


class Talk:
    """A message whose turn takes three steps: a memory edit, a search, an answer."""

    planted: tuple[str, ...] = ()
    settings: ClassVar[dict[str, float]] = {}
    ENDS_AS = "completed"  # what becomes of its runs
    REPLIES: tuple[dict[str, Any], ...] = (
        {"tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "tea"}}]},
        {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "coffee"}}]},
        {"text": "noted"},
    )
    ENDS: tuple[tuple[str, str], ...] = (
        ("user", "I like tea"),
        ("assistant", ""),
        ("tool", "tea"),
        ("assistant", ""),
        ("tool", "No results found."),
        ("assistant", "noted"),
    )

    def __init__(self, pool: Pool, provider: Provider) -> None:
        self._pool = pool
        self._provider = provider
        self._key = clock.new_id("key")
        self.agent_id = ""

    async def prepare(self) -> None:
        """Create the agent and let the model know its lines."""
        self.agent_id = await create_agent(self._pool, model="openai/none")
        await self._teach()

    async def _teach(self) -> None:
        """Give the model the lines that are still to be said, under a name that no dead host ever asked."""
        model = clock.new_id("model")
        async with connection(self._pool) as conn:
            said = await conn.fetchval("select count(*) from steps where agent_id = $1", self.agent_id)
            await conn.execute(
                "update agents set settings = jsonb_set(settings, '{model}', to_jsonb($2::text))"
                " where id = $1",
                self.agent_id,
                f"openai/{model}",
            )
        await self._provider.script([{**reply, "model": model} for reply in self._lines(said)])

    def _lines(self, said: int) -> list[dict[str, Any]]:
        """Return what the model has to say once it has answered `said` times."""
        return list(self.REPLIES[said:])

    async def act(self, host: HostProcess) -> None:
        """Send the message, with the key of all attempts, and wait for the end of its run."""
        async with host.line() as line:
            receipt = await line.tell(self._message("I like tea"))
            await hear_out(host, self.agent_id, receipt)

    def _message(self, text: str, number: int = 0) -> Tell:
        return Tell(
            agent_id=self.agent_id, conversation_id=self.agent_id, text=text, key=f"{self._key}-{number}"
        )

    async def between(self) -> list[str]:
        """Return what is wrong while no host is alive, and prepare for the next one."""
        await self._teach()
        return await checks.memory_is_that_of_the_history(self._pool)

    async def end(self) -> list[str]:
        """Return what is wrong when everything is over."""
        async with connection(self._pool) as conn:
            messages = await checks.history(conn, self.agent_id)
        found = tuple((m.role, checks.said_in(m)) for m in messages)
        wrong = [] if _alike(found, self.ENDS) else [f"the history is {found}"]
        wrong += await checks.memory_is_that_of_the_history(self._pool)
        return wrong + await checks.versions_are_counted(self._pool)


def _alike(found: tuple[tuple[str, str], ...], wanted: tuple[tuple[str, str], ...]) -> bool:
    """Compare histories; what was said may be part of a longer text."""
    return len(found) == len(wanted) and all(
        a[0] == b[0] and b[1] in a[1] for a, b in zip(found, wanted, strict=True)
    )


async def hear_out(host: HostProcess, agent_id: str, receipt: Receipt) -> None:
    """Wait until a run is over."""
    async with host.line() as line:
        try:
            _ = [event async for event in line.follow(agent_id, receipt)]
        except RefusedError as error:
            if error.kind != OVER:
                raise


class Remember(Talk):
    """The same, where one step creates, renames and detaches blocks and archives; the next one searches."""

    REPLIES = (
        {
            "tool_calls": [
                {
                    "name": "memory",
                    "arguments": {"command": "create", "path": "/memories/notes", "description": "More."},
                },
                {
                    "name": "memory",
                    "arguments": {"command": "rename", "old_path": "human", "new_path": "person"},
                },
                {"name": "memory", "arguments": {"command": "delete", "path": "/memories/old"}},
                {"name": "archival_memory_insert", "arguments": {"content": "the umbrella is green"}},
            ]
        },
        {"tool_calls": [{"name": "archival_memory_search", "arguments": {"query": "umbrella"}}]},
        {"text": "noted"},
    )
    ENDS = (
        ("user", "I like tea"),
        ("assistant", ""),
        ("tool", "passage-"),
        ("assistant", ""),
        ("tool", "the umbrella is green"),
        ("assistant", "noted"),
    )

    async def prepare(self) -> None:
        self.agent_id = await create_agent(
            self._pool,
            model="openai/none",
            blocks=(new_block("human"), new_block("old")),
            more_tools=("memory", "archival_memory_insert", "archival_memory_search"),
            embedding="openai/embed",
        )
        await self._teach()

    async def between(self) -> list[str]:
        return await super().between() + await self._half_done()

    async def end(self) -> list[str]:
        return await super().end() + await self._half_done()

    async def _half_done(self) -> list[str]:
        """Return what of the first step is there without the rest of it."""
        async with connection(self._pool) as conn:
            results = [m for m in await checks.history(conn, self.agent_id) if m.role == "tool"]
            held = await conn.fetch(
                "select label from agents_blocks where agent_id = $1 order by ordinal", self.agent_id
            )
            stored = await conn.fetch(
                "select p.id from passages p join archives_agents a using (archive_id) where a.agent_id = $1",
                self.agent_id,
            )
        told = [checks.said_in(message) for message in results[:1]]
        labels, passages = [row["label"] for row in held], [row["id"] for row in stored]
        expected = ["person", "notes"] if told else ["human", "old"]
        wrong = [] if labels == expected else [f"after {len(told)} steps the blocks are {labels}"]
        if len(passages) != len(told) or not all(p in text for p, text in zip(passages, told, strict=False)):
            wrong.append(f"the passages are {passages}, the model was told {told}")
        return wrong


class Compact(Talk):
    """Long messages in a small window, so that a turn begins with a summary of what was said before."""

    TEXTS = tuple(f"{n} " + "word " * 400 for n in range(6))
    REPLIES = tuple({"text": f"heard {n}"} for n in range(6))
    ENDS = tuple(pair for n in range(6) for pair in (("user", f"{n} word"), ("assistant", f"heard {n}")))
    SUMMARY = "so far they counted"

    async def prepare(self) -> None:
        self.agent_id = await create_agent(self._pool, model="openai/none", context_window_tokens=2500)
        await self._teach()

    def _lines(self, said: int) -> list[dict[str, Any]]:
        return [{"text": self.SUMMARY, "match": "<conversation>", "repeat": "forever"}, *self.REPLIES[said:]]

    async def act(self, host: HostProcess) -> None:
        for number, text in enumerate(self.TEXTS):
            async with host.line() as line:
                receipt = await line.tell(self._message(text, number))
            await hear_out(host, self.agent_id, receipt)

    async def between(self) -> list[str]:
        return await super().between() + await self._half_done()

    async def end(self) -> list[str]:
        async with connection(self._pool) as conn:
            messages = await checks.history(conn, self.agent_id)
        found = tuple((m.role, checks.said_in(m)) for m in messages if m.role != "summary")
        wrong = [] if _alike(found, self.ENDS) else [f"the history is {found}"]
        if len(found) == len(messages):
            wrong.append("nothing was summed up")
        return wrong + await self._half_done() + await checks.versions_are_counted(self._pool)

    async def _half_done(self) -> list[str]:
        """Return what of a compaction is there without the rest of it."""
        async with connection(self._pool) as conn:
            row = await conn.fetchrow(_WINDOW, self.agent_id)
        assert row is not None
        if (row["newest"], row["from_position"] > 1) == (row["summary_position"], row["newest"] is not None):
            return []
        return [f"the window begins at {row['from_position']} behind {dict(row)}"]


_WINDOW = """
select c.from_position, c.summary_position,
       (select max(m.position) from messages m
         where m.conversation_id = c.id and m.role = 'summary') as newest
  from conversations c
 where c.id = $1
"""


class Approve(Talk):
    """A message whose turn asks for an approval, the approval, and one that nobody asked for."""

    planted = ("haste",)
    CALL = "call-to-approve"
    REPLIES = (
        {
            "tool_calls": [
                {"name": "memory_insert", "arguments": {"label": "human", "new_string": "tea"}, "id": CALL}
            ]
        },
        {"text": "noted"},
    )
    ENDS = (
        ("user", "I like tea"),
        ("approval", ""),
        ("approval", ""),
        ("tool", "tea"),
        ("assistant", "noted"),
    )

    async def prepare(self) -> None:
        rule = {"type": "requires_approval", "tool_name": "memory_insert"}
        self.agent_id = await create_agent(self._pool, model="openai/none", tool_rules=(rule,))
        await self._teach()

    async def act(self, host: HostProcess) -> None:
        await super().act(host)
        async with host.line() as line:
            receipt = await line.tell(self._approval(self.CALL))
            await hear_out(host, self.agent_id, receipt)
            with suppress(RefusedError):
                await line.tell(self._approval("call-of-nobody"))

    def _approval(self, call_id: str) -> Tell:
        return replace(self._message(call_id), key=f"{self._key}-{call_id}", approved=call_id)

    async def between(self) -> list[str]:
        return await super().between() + await self._half_done()

    async def end(self) -> list[str]:
        return await super().end() + await self._half_done()

    async def _half_done(self) -> list[str]:
        """Return what waits for nothing, and calls without a result that nobody is asked about."""
        async with connection(self._pool) as conn:
            roles = [message.role for message in await checks.history(conn, self.agent_id)]
            asked = await conn.fetchval(
                "select count(*) from pending_requests where agent_id = $1", self.agent_id
            )
        waits = "approval" in roles and "tool" not in roles
        return [] if asked == waits else [f"{asked} requests wait behind {roles}"]


class Embed(Talk):
    """A message to an agent whose memories wait for their vectors, and the vectors."""

    TEXTS = ("the kettle sings", "the umbrella is green")

    async def prepare(self) -> None:
        self.agent_id = await create_agent(self._pool, model="openai/none", embedding="openai/embed")
        async with connection(self._pool) as conn, transaction(conn):
            await passages.insert_for_agent(conn, self.agent_id, [passage(text) for text in self.TEXTS])
        await self._teach()

    async def act(self, host: HostProcess) -> None:
        await super().act(host)
        while await self._waiting():
            await anyio.sleep(LOOK)

    async def between(self) -> list[str]:
        return await super().between() + await self._half_done()

    async def end(self) -> list[str]:
        waiting = await self._waiting()
        wrong = [f"{waiting} passages have no vector"] if waiting else []
        return await super().end() + wrong + await self._half_done()

    async def _waiting(self) -> int:
        async with connection(self._pool) as conn:
            return await conn.fetchval(_WAITING, self.agent_id)

    async def _half_done(self) -> list[str]:
        """Return what of a portion is there without the rest of it."""
        async with connection(self._pool) as conn:
            settled = await conn.fetchval(
                "select a.embedding from archives a join archives_agents aa on aa.archive_id = a.id"
                " where aa.agent_id = $1",
                self.agent_id,
            )
        waiting = await self._waiting()
        if (waiting, settled) in ((len(self.TEXTS), None), (0, "openai/embed")):
            return []
        return [f"{waiting} passages wait, the archive's model is {settled}"]


_WAITING = """
select count(*) from passages p join archives_agents aa on aa.archive_id = p.archive_id
 where aa.agent_id = $1 and p.dimensions is null
"""


class LostAnswer(Talk):
    """The same, where the answer to the last commit is lost."""

    planted = ("lost_commit_answers",)


class UnheardEnd(Talk):
    """The same, where nobody can ask what became of the last commit: the next activation finds out."""

    planted = ("lost_commit_answers", "no_patience")


class LostWakeups(Talk):
    """Two messages whose deliveries are lost, so that the poll finds them: one asleep, one awake."""

    planted = ("lost_wakeups", "haste")
    REPLIES = ({"text": "one"}, {"text": "two"})
    ENDS = (("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two"))

    async def act(self, host: HostProcess) -> None:
        for number, text in enumerate(("a", "b")):
            async with host.line() as line:
                receipt = await line.tell(self._message(text, number))
            await self._over(receipt.run_id)

    async def _over(self, run_id: str) -> None:
        """Wait for the end of a run that the host does not expect, so that it cannot be followed."""
        query = "select completed_at is not null from runs where id = $1"
        async with connection(self._pool) as conn:
            while not await conn.fetchval(query, run_id):
                await anyio.sleep(LOOK)


class Drain(Talk):
    """A message whose turn is under way when the host is asked to end."""

    settings: ClassVar[dict[str, float]] = {"drain_seconds": 0}
    ENDS = (("user", "I like tea"), ("assistant", "noted"))

    async def prepare(self) -> None:
        self._gate = clock.new_id("gate")
        self._draining = True
        self.REPLIES = ({"text": "noted", "gate": self._gate},)
        await super().prepare()

    async def act(self, host: HostProcess) -> None:
        if not self._draining:
            await super().act(host)
            return
        async with host.line() as line:
            receipt = await line.tell(self._message("I like tea"))
            async for event in line.follow(self.agent_id, receipt):
                if isinstance(event, StepStarted):
                    host.signal(signal.SIGTERM)

    async def between(self) -> list[str]:
        self._draining = False
        await self._provider.open(self._gate)
        return await super().between()


class Crash(Talk):
    """Two messages; the turn of the second crashes, so that the agent is activated again."""

    planted = ("crashing_turn",)
    REPLIES = ({"text": "one"}, {"text": "two"})
    ENDS = (("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two"))

    async def act(self, host: HostProcess) -> None:
        for number, text in enumerate(("a", "b")):
            async with host.line() as line:
                receipt = await line.tell(self._message(text, number))
            await hear_out(host, self.agent_id, receipt)


class Reject(Talk):
    """A message under way, and one that is to be refused while it is."""

    ENDS = (("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two"))

    async def prepare(self) -> None:
        self._gate = clock.new_id("gate")
        self.REPLIES = ({"text": "one", "gate": self._gate}, {"text": "two"})
        await super().prepare()

    async def act(self, host: HostProcess) -> None:
        async with host.line() as line:
            first = await line.tell(self._message("a"))
            hasty = replace(self._message("b", 1), when_busy="reject")
            with suppress(RefusedError):  # once the first is over it is accepted
                await line.tell(hasty)
            await self._provider.open(self._gate)
            await hear_out(host, self.agent_id, first)
            await hear_out(host, self.agent_id, await line.tell(hasty))
