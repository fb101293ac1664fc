"""Every kind of edit, with deaths between them, and what each of them must have made of its agent."""

from typing import ClassVar

from msgspec import Struct

from actors import clock
from actors.commands import (
    AttachArchive,
    AttachBlock,
    AttachTool,
    CreateConversation,
    DeleteAgent,
    DeleteConversation,
    DeletePassage,
    DetachArchive,
    DetachBlock,
    DetachTool,
    Edit,
    ForkConversation,
    InsertPassages,
    OwnMessages,
    PartForks,
    Recompile,
    ResetMessages,
    UpdateAgent,
    UpdateBlock,
    UpdateConversation,
)
from bench.provider import Provider
from storage import archives
from storage.archive_records import Archive, Passage
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, AgentChanges, BlockChanges, ConversationChanges
from tests.actors.worlds import create_agent, new_block
from tests.laws.host_process import Change
from tests.laws.nursery import HostProcess


class State(Struct, frozen=True):
    """What edits change of an agent.

    `forked` counts the messages that its forks do not share, `shown` are the values of blocks that its prompt
    contains.
    """

    version: int
    name: str
    tags: list[str]
    description: str | None
    blocks: list[str]
    tools: list[str]
    conversations: int
    forked: int
    summaries: list[str]
    archives: int
    passages: int
    shown: list[str]


class Edits:
    """Every kind of edit, one after the other. What an agent is follows from how many were committed."""

    planted: tuple[str, ...] = ()
    settings: ClassVar[dict[str, float]] = {}
    ENDS_AS = "completed"
    STATES: ClassVar[list[State | None]] = []  # by version; see `learn_states`

    def __init__(self, pool: Pool, _: Provider) -> None:
        self._pool = pool
        self._extra = new_block("extra", "more to know")
        self._conversation, self._fork, self._other = (clock.new_id("conv") for _ in range(3))
        self._edits: list[Edit] = []
        self._done = 0
        self.agent_id = ""

    async def prepare(self) -> None:
        """Create the agent, a block beside it, and the edits."""
        human = new_block("human")
        self.agent_id = await create_agent(self._pool, model="openai/none", blocks=(human,))
        await create_agent(self._pool, model="openai/none", blocks=(self._extra,))
        archive, passage, message_id = _archive(), _passage(), clock.new_id("message")
        async with connection(self._pool) as conn:
            await archives.create(conn, archive)
            await conn.execute(_SAID, message_id, self.agent_id)
            rows = await conn.fetch("select id from tools order by name")
        tools = [row["id"] for row in rows]
        changes = AgentChanges(name="renamed", tags=("a",), settings={"description": "changed"})
        self._edits = [
            CreateConversation(conversation_id=self._conversation),
            UpdateConversation(self._conversation, ConversationChanges(summary="about tea")),
            ResetMessages(self._conversation),
            Recompile(self.agent_id),
            ForkConversation(conversation_id=self._fork, parent_id=self.agent_id, message_id=message_id),
            ForkConversation(conversation_id=self._other, parent_id=self.agent_id, message_id=message_id),
            OwnMessages(self._other, 0),
            PartForks(self.agent_id, 0),
            UpdateBlock(label="human", changes=BlockChanges(value="likes tea")),
            AttachBlock(self._extra.id),
            DetachBlock(self._extra.id),
            UpdateAgent(changes=changes, block_ids=(human.id, self._extra.id), tool_ids=(tools[0],)),
            AttachTool(tools[1]),
            DetachTool(tools[0]),
            InsertPassages((passage,)),
            AttachArchive(archive.id),
            DeletePassage(passage.id),
            DetachArchive(archive.id),
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


def _archive() -> Archive:
    now = clock.now()
    return Archive(
        id=clock.new_id("archive"),
        organization_id=DEFAULT_ORGANIZATION,
        name="shared",
        created_at=now,
        updated_at=now,
    )


def _passage() -> Passage:
    now = clock.now()
    return Passage(
        id=clock.new_id("passage"),
        organization_id=DEFAULT_ORGANIZATION,
        archive_id="",
        text="the umbrella is green",
        created_at=now,
        updated_at=now,
    )


_SAID = """
with said as (
  insert into messages (id, conversation_id, position, agent_id, organization_id, role, content)
  select $1, id, 1, id, organization_id, 'user', '[{"type": "text", "text": "I like tea"}]'
    from agents where id = $2
)
update conversations set end_position = 2 where id = $2
"""

_STATE = """
select a.version, a.name, a.tags, a.settings ->> 'description',
       array(select b.label || ' = ' || b.value || ' (' || b.version || ')'
               from agents_blocks h join blocks b on b.id = h.block_id
              where h.agent_id = a.id order by h.label),
       array(select t.name from agents_tools h join tools t on t.id = h.tool_id
              where h.agent_id = a.id order by t.name),
       (select count(*) from conversations c where c.agent_id = a.id and c.deleted_at is null),
       (select count(*) from messages m join conversations c on c.id = m.conversation_id
         where c.agent_id = a.id and c.parent_id is not null),
       array(select c.summary from conversations c where c.agent_id = a.id and c.summary is not null),
       (select count(*) from archives_agents h where h.agent_id = a.id),
       (select count(*) from archives_agents h join passages p using (archive_id) where h.agent_id = a.id),
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
