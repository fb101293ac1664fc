"""A host on a real database with a scripted provider, for tests of whole agents."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import msgspec

from actors import clock, prompt
from actors.commands import Envelope, InputMessage, Receipt, SendMessages
from actors.events import Event, MessageCommitted, RunFinished
from actors.host import Host, HostSettings
from actors.llm.catalog import Catalog
from actors.llm.providers import provider_for
from actors.tokens import estimate
from actors.tools.registry import BASE_TOOLS, BUILTIN
from bench.provider import Provider
from storage import agents, tools
from storage.agents import NewAgent
from storage.pool import Pool, connection
from storage.records import (
    DEFAULT_ORGANIZATION,
    Agent,
    AgentSettings,
    Block,
    Message,
    TextPart,
    ToolReturnPart,
)
from tests.actors.balanced import imbalance


class World:
    """A running host and short ways to use it."""

    def __init__(self, host: Host, provider: Provider) -> None:
        self.host = host
        self.pool = host.pool
        self.provider = provider

    async def agent(
        self,
        *,
        model: str = "openai/echo",
        blocks: tuple[Block, ...] = (),
        more_tools: tuple[str, ...] = (),
        **settings: object,
    ) -> str:
        """Create an agent with the base tools, more, and an empty block `human`; return its id."""
        return await create_agent(self.pool, model=model, blocks=blocks, more_tools=more_tools, **settings)

    async def tell(self, agent_id: str, text: str = "hi", **changes: object) -> Receipt:
        """Send a message and return its receipt."""
        key = changes.pop("key", None) or clock.new_id("key")
        command = SendMessages(
            **{  # type: ignore[arg-type]
                "conversation_id": agent_id,
                "messages": (InputMessage(role="user", content=(TextPart(text),)),),
                **changes,
            }
        )
        envelope = Envelope(
            command=command,
            key=str(key),
            request_hash=text.encode("utf-8", "replace")[:32],
            caller="test",
            organization_id=DEFAULT_ORGANIZATION,
        )
        return await self.host.ref(agent_id).tell(envelope)

    async def events(self, receipt: Receipt, agent_id: str) -> list[Event]:
        """Return a run's events, waiting for its end."""
        with anyio.fail_after(15):
            ref = self.host.ref(agent_id)
            return [
                e.event async for batch in ref.follow(receipt.run_id, receipt.conversation_id) for e in batch
            ]

    async def ask(self, agent_id: str, text: str = "hi", **changes: object) -> list[Event]:
        """Send a message and return its run's events."""
        return await self.events(await self.tell(agent_id, text, **changes), agent_id)

    async def history(self, agent_id: str, *, excluded: bool = True) -> list[tuple[str, str]]:
        """Return (role, text) of every stored message but the system one."""
        return [
            (m.role, text_of(m))
            for m in await self.messages(agent_id)
            if m.position > 0 and (excluded or not m.excluded)
        ]

    async def messages(self, agent_id: str) -> list[Message]:
        """Return every stored message of the default conversation."""
        async with connection(self.pool) as conn:
            rows = await conn.fetch(
                "select to_jsonb(m) as m from messages m where conversation_id = $1 order by position",
                agent_id,
            )
        return [msgspec.json.decode(row["m"], type=Message) for row in rows]

    async def value(self, agent_id: str, label: str = "human") -> str:
        """Return the committed value of a block."""
        async with connection(self.pool) as conn:
            return await conn.fetchval(
                "select value from blocks b join agents_blocks ab on ab.block_id = b.id"
                " where ab.agent_id = $1 and ab.label = $2",
                agent_id,
                label,
            )


def text_of(message: Message) -> str:
    """Return the texts and tool results of a message."""
    return "".join(p.text for p in message.content if isinstance(p, TextPart | ToolReturnPart))


def committed(events: list[Event]) -> list[tuple[str, str]]:
    """Return (role, text) of the messages that events committed."""
    return [(e.message.role, text_of(e.message)) for e in events if isinstance(e, MessageCommitted)]


def finish(events: list[Event]) -> RunFinished:
    """Return the one terminal event, which must be last."""
    (terminal,) = [e for e in events if isinstance(e, RunFinished)]
    assert events[-1] is terminal
    return terminal


def new_block(label: str, value: str = "") -> Block:
    """Return a block that does not exist yet."""
    now = datetime.now(UTC)
    return Block(
        id=clock.new_id("block"),
        organization_id=DEFAULT_ORGANIZATION,
        label=label,
        value=value,
        created_at=now,
        updated_at=now,
    )


async def create_agent(
    pool: Pool,
    *,
    model: str,
    blocks: tuple[Block, ...] = (),
    more_tools: tuple[str, ...] = (),
    **settings: object,
) -> str:
    """Create an agent with the base tools and more; without `blocks` it has an empty one, `human`."""
    blocks = blocks or (new_block("human"),)
    now = datetime.now(UTC)
    agent_id = clock.new_id("agent")
    agent = Agent(
        id=agent_id,
        organization_id=DEFAULT_ORGANIZATION,
        name="test",
        settings=AgentSettings(**{"model": model, "system": "You are a test.", **settings}),  # type: ignore[arg-type]
        created_at=now,
        updated_at=now,
    )
    text = prompt.compile_system(
        agent, blocks, conversation_id=agent_id, recompiled_at=now, previous_messages=0, line_numbers=False
    )
    system = Message(
        id=clock.new_id("message"),
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent_id,
        conversation_id=agent_id,
        position=0,
        role="system",
        content=(TextPart(text),),
        created_at=now,
        tokens=estimate(text),
    )
    names = (*BASE_TOOLS[agent.settings.agent_type], *more_tools)
    async with connection(pool) as conn:
        await tools.seed(conn, BUILTIN.values())
        await agents.create(conn, NewAgent(agent=agent, system=system, blocks=blocks, tools=names))
    return agent_id


def catalog_for(provider: Provider) -> Catalog:
    """Return a catalog whose provider `openai` is the scripted one."""
    return Catalog([provider_for("openai", provider.base_url, "sk-test")])


@asynccontextmanager
async def world(
    pool: Pool,
    provider: Provider,
    *,
    name: str = "test-host",
    settings: HostSettings | None = None,
    catalog: Catalog | None = None,
) -> AsyncGenerator[World]:
    """Run a host until the block ends. Its models are those of `catalog`, else the provider's as `openai`.

    However the block used it, its logs must be balanced in the end.
    """
    catalog = catalog or catalog_for(provider)
    host = Host(pool, catalog, name=name, settings=settings or HostSettings(drain_seconds=2))
    try:
        async with host.running():
            yield World(host, provider)
        found = imbalance(host.logs)
        assert not found, found
    finally:
        await catalog.aclose()
