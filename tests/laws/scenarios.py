"""What a host does when it dies at a failpoint, and what its database must look like then and at the end."""

import signal
from contextlib import suppress
from typing import Any, ClassVar

import anyio
from msgspec import Struct
from msgspec.structs import replace

from actors import clock
from actors.commands import (
    AttachBlock,
    AttachTool,
    CreateConversation,
    DeleteAgent,
    DeleteConversation,
    DetachBlock,
    DetachTool,
    Edit,
    Receipt,
    Recompile,
    ResetMessages,
    UpdateAgent,
    UpdateBlock,
)
from actors.events import StepStarted
from bench.provider import Provider
from storage.pool import Pool, connection
from storage.records import AgentChanges, BlockChanges
from tests.actors.worlds import create_agent, new_block
from tests.laws import checks
from tests.laws.host_process import Change, Tell
from tests.laws.nursery import HostProcess, RefusedError

LOOK = 0.02
OVER = "LogTrimmedError"  # the run ended before we asked for its events


class Talk:
    """A message whose turn takes three steps: a memory edit, a search, an answer."""

    planted: tuple[str, ...] = ()
    settings: ClassVar[dict[str, float]] = {}
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


class LostAnswer(Talk):
    """The same, where the answer to the last commit is lost."""

    planted = ("lost_commit_answers",)


class UnheardEnd(Talk):
    """The same, where nobody can ask what became of the last commit: the next activation finds out."""

    planted = ("lost_commit_answers", "no_patience")


class LostWakeups(Talk):
    """Two messages whose deliveries are lost, so that the poll finds them: one asleep, one awake."""

    planted = ("lost_wakeups",)
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


class State(Struct, frozen=True):
    """What edits change of an agent; `shown` are the values of blocks that its prompt contains."""

    version: int
    name: str
    tags: list[str]
    description: str | None
    blocks: list[str]
    tools: list[str]
    conversations: int
    shown: list[str]


class Edits:
    """Every kind of edit, one after the other. What an agent is follows from how many were committed."""

    planted: tuple[str, ...] = ()
    settings: ClassVar[dict[str, float]] = {}
    STATES: ClassVar[list[State | None]] = []  # by version; see `learn_states`

    def __init__(self, pool: Pool, _: Provider) -> None:
        self._pool = pool
        self._extra = new_block("extra", "more to know")
        self._conversation = clock.new_id("conv")
        self._edits: list[Edit] = []
        self._done = 0
        self.agent_id = ""

    async def prepare(self) -> None:
        """Create the agent, a block beside it, and the edits."""
        human = new_block("human")
        self.agent_id = await create_agent(self._pool, model="openai/none", blocks=(human,))
        await create_agent(self._pool, model="openai/none", blocks=(self._extra,))
        async with connection(self._pool) as conn:
            rows = await conn.fetch("select id from tools order by name")
        tools = [row["id"] for row in rows]
        changes = AgentChanges(name="renamed", tags=("a",), settings={"description": "changed"})
        self._edits = [
            CreateConversation(conversation_id=self._conversation),
            ResetMessages(self._conversation),
            Recompile(self.agent_id),
            UpdateBlock(label="human", changes=BlockChanges(value="likes tea")),
            AttachBlock(self._extra.id),
            DetachBlock(self._extra.id),
            UpdateAgent(changes=changes, block_ids=(human.id, self._extra.id), tool_ids=(tools[0],)),
            AttachTool(tools[1]),
            DetachTool(tools[0]),
            DeleteConversation(self._conversation),
            DeleteAgent(),
        ]

    async def act(self, host: HostProcess) -> None:
        """Apply the edits that are not acknowledged yet."""
        async with host.line() as line:
            while self._done < len(self._edits):
                await line.ask(Change.of(self.agent_id, self._edits[self._done]))
                self._done += 1

    async def between(self) -> list[str]:
        """Compare the agent with one that as many edits were committed to; go on after the last of them."""
        state = await self._state()
        committed = len(self._edits) if state is None else state.version
        expected = self.STATES[committed]
        wrong = [] if state == expected else [f"after {committed} edits the agent is {state}, not {expected}"]
        if committed not in (self._done, self._done + 1):
            wrong.append(f"{self._done} edits were acknowledged, {committed} are committed")
        self._done = committed
        return wrong

    async def end(self) -> list[str]:
        """Return what is wrong when everything is over."""
        state = await self._state()
        return [] if state is None else [f"the agent was deleted and is {state}"]

    async def _state(self) -> State | None:
        async with connection(self._pool) as conn:
            row = await conn.fetchrow(_STATE, self.agent_id)
        return None if row is None else State(*row)


_STATE = """
select a.version, a.name, a.tags, a.settings ->> 'description',
       array(select b.label || ' = ' || b.value || ' (' || b.version || ')'
               from agents_blocks h join blocks b on b.id = h.block_id
              where h.agent_id = a.id order by h.label),
       array(select t.name from agents_tools h join tools t on t.id = h.tool_id
              where h.agent_id = a.id order by t.name),
       (select count(*) from conversations c where c.agent_id = a.id and c.deleted_at is null),
       array(select word from unnest(array['likes tea', 'more to know']) word, messages m
              where m.conversation_id = a.id and m.position = 0 and m.content::text like '%' || word || '%')
  from agents a
 where a.id = $1
"""


async def learn_states(pool: Pool, provider: Provider, host: HostProcess) -> None:
    """Apply every edit undisturbed, and note what each of them makes of an agent."""
    edits = Edits(pool, provider)
    await edits.prepare()
    Edits.STATES = [await edits._state()]
    async with host.line() as line:
        for edit in edits._edits:
            await line.ask(Change.of(edits.agent_id, edit))
            Edits.STATES.append(await edits._state())


Scenario = Talk | Edits


def scenario_for(point: str) -> type[Scenario]:
    """Return the scenario that comes by a point."""
    name = point.partition(":")[0]
    if name.startswith("edits.") or name in ("activation.blocks_of", "activation.tools_of", "pending.clear"):
        return Edits
    if name in ("activation.take_back", "ownership.release"):
        return Drain
    if name == "activation.count_crash":
        return Crash
    if name == "passages.search":
        return Remember
    if name == "runs.find_by_key":
        return Reject
    if name in ("inbox.get", "ownership.renew"):
        return LostWakeups
    if name in ("runs.end_of", "messages.whole_run"):
        return UnheardEnd
    return LostAnswer if name == "checkpoints.landed" else Talk
