"""Rows that storage tests start from, written with plain SQL."""

from datetime import UTC, datetime

import msgspec

from actors import clock
from storage.inbox import Submission
from storage.pool import Conn
from storage.records import DEFAULT_ORGANIZATION, AgentSettings, Message, TextPart

SETTINGS = AgentSettings(model="openai/echo", system="You are a test.")


async def agent(conn: Conn, *, shard: int = 0) -> str:
    """Insert an agent with its default conversation and system message; return its id."""
    agent_id = clock.new_id("agent")
    await conn.execute(
        "insert into agents (id, organization_id, name, settings, shard) values ($1, $2, 'a', $3, $4)",
        agent_id,
        DEFAULT_ORGANIZATION,
        msgspec.json.encode(SETTINGS),
        shard,
    )
    await conn.execute(
        "insert into conversations (id, organization_id, agent_id) values ($1, $2, $1)",
        agent_id,
        DEFAULT_ORGANIZATION,
    )
    await conn.execute(
        "insert into messages (id, conversation_id, position, agent_id, organization_id, role, content)"
        " values ($1, $2, 0, $2, $3, 'system', $4)",
        clock.new_id("message"),
        agent_id,
        DEFAULT_ORGANIZATION,
        msgspec.json.encode((TextPart("You are a test."),)),
    )
    return agent_id


async def block(conn: Conn, *agent_ids: str, label: str = "human", value: str = "") -> str:
    """Insert a block and attach it to agents; return its id."""
    block_id = clock.new_id("block")
    await conn.execute(
        "insert into blocks (id, organization_id, label, value, limit_chars) values ($1, $2, $3, $4, 1000)",
        block_id,
        DEFAULT_ORGANIZATION,
        label,
        value,
    )
    for agent_id in agent_ids:
        await conn.execute("insert into agents_blocks values ($1, $2, $3, 0)", agent_id, block_id, label)
    return block_id


def submission(agent_id: str, *, key: str | None = None, digest: str = "00", text: str = "hi") -> Submission:
    """Return a command for the default conversation of an agent."""
    command = {"type": "send", "conversation_id": agent_id, "messages": [], "note": text}
    return Submission(
        agent_id=agent_id,
        organization_id=DEFAULT_ORGANIZATION,
        conversation_id=agent_id,
        run_id=clock.new_id("run"),
        key=key or clock.new_id("key"),
        request_hash=digest,
        caller="test",
        command=msgspec.Raw(msgspec.json.encode(command)),
    )


def message(
    agent_id: str, position: int, text: str, *, role: str = "user", run_id: str | None = None
) -> Message:
    """Return a message of the default conversation."""
    return Message(
        id=clock.new_id("message"),
        organization_id=DEFAULT_ORGANIZATION,
        agent_id=agent_id,
        conversation_id=agent_id,
        position=position,
        role=role,  # type: ignore[arg-type]
        content=(TextPart(text),),
        created_at=datetime.now(UTC),
        run_id=run_id,
    )
