"""Histories that tests of reading start from, written with plain SQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from actors import clock
from storage.pool import Conn
from storage.records import DEFAULT_ORGANIZATION, Part, TextPart

BEGAN = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """Return a moment in the history."""
    return BEGAN + timedelta(seconds=seconds)


async def insert(conn: Conn, table: str, **values: object) -> None:
    """Insert one row."""
    marks = ", ".join(f"${i}" for i in range(1, len(values) + 1))
    await conn.execute(f"insert into {table} ({', '.join(values)}) values ({marks})", *values.values())


async def conversation(conn: Conn, agent_id: str, **values: Any) -> str:
    """Insert a further conversation of an agent; return its id."""
    row = {
        "id": clock.new_id("conv"),
        "organization_id": DEFAULT_ORGANIZATION,
        "agent_id": agent_id,
        **values,
    }
    await insert(conn, "conversations", **row)
    return row["id"]


async def message(conn: Conn, agent_id: str, position: int, *parts: Part, **values: Any) -> str:
    """Insert a message at a position of the agent's default conversation, or another; return its id."""
    row = {
        "id": clock.new_id("message"),
        "conversation_id": agent_id,
        "position": position,
        "agent_id": agent_id,
        "organization_id": DEFAULT_ORGANIZATION,
        "role": "user",
        "content": msgspec.json.encode(parts or (TextPart(f"message {position}"),)),
        "created_at": after(position),
        **values,
    }
    await insert(conn, "messages", **row)
    return row["id"]


async def run(conn: Conn, agent_id: str, **values: Any) -> str:
    """Insert a run; return its id. A finished one gets its time."""
    row = {
        "id": clock.new_id("run"),
        "organization_id": DEFAULT_ORGANIZATION,
        "agent_id": agent_id,
        "conversation_id": agent_id,
        **values,
    }
    if row.get("status") in ("completed", "failed", "cancelled"):
        row.setdefault("completed_at", clock.now())
    await insert(conn, "runs", **row)
    return row["id"]


async def command(conn: Conn, agent_id: str, run_id: str, **values: Any) -> None:
    """Insert the inbox row of a run."""
    row = {
        "agent_id": agent_id,
        "conversation_id": agent_id,
        "run_id": run_id,
        "key": clock.new_id("key"),
        "request_hash": b"",
        "caller": "tests",
        "command": b"{}",
        **values,
    }
    await insert(conn, "inbox", **row)


async def step(conn: Conn, agent_id: str, run_id: str, position: int, **values: Any) -> str:
    """Insert a step; return its id."""
    row = {
        "id": clock.new_id("step"),
        "organization_id": DEFAULT_ORGANIZATION,
        "agent_id": agent_id,
        "run_id": run_id,
        "position": position,
        "status": "success",
        "model": "openai/gpt-4o-mini",
        "provider": "openai",
        "created_at": after(position),
        **values,
    }
    await insert(conn, "steps", **row)
    return row["id"]
