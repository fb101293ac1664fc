"""What the bench starts, speaks to and accounts."""

import os
import time
from pathlib import Path

import asyncpg
import pytest

from bench import targets
from bench.load import Outcome, Timing
from bench.provider import Provider

AGENT = """
insert into agents (id, organization_id, name, settings, shard)
select 'agent-1', id, 'a', '{}', 0 from organizations;
insert into conversations (id, organization_id, agent_id, end_position)
select agents.id, organization_id, agents.id, 3 from agents;
"""


def outcome(status: int, tokens: int) -> Outcome:
    return Outcome(0, 1, [Timing(0, 1, status, 0, 1, 2, tokens)], {}, [])


def test_failures_are_no_measurements() -> None:
    targets.check(outcome(200, 1))
    targets.check(outcome(200, 0), of_text=False)
    for failed in (outcome(200, 0), outcome(0, 1), outcome(503, 0)):
        with pytest.raises(RuntimeError, match="1 of 1 requests failed"):
            targets.check(failed)


def test_the_environment_configures_nothing(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    for name in ("DATABASE_URL", "WAKEFUL_PORT", "ANTHROPIC_API_KEY", "http_proxy", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "x")
    env = targets.environment(provider)
    assert env["PATH"] == os.environ["PATH"]
    assert env["OPENAI_BASE_URL"] == provider.base_url
    assert not {"DATABASE_URL", "WAKEFUL_PORT", "ANTHROPIC_API_KEY", "http_proxy"} & env.keys()


async def test_a_seeded_history_continues_the_conversation(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(AGENT)
        await targets.seed(dsn, ["agent-1"], 4)
        found = await conn.fetch("select position, role, tokens from messages order by position")
        end = await conn.fetchval("select end_position from conversations")
    finally:
        await conn.close()
    assert [(row[0], row[1]) for row in found] == [
        (3, "user"),
        (4, "assistant"),
        (5, "user"),
        (6, "assistant"),
    ]
    assert end == 7


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = targets.Process(["/bin/sh", "-c", "echo the reason >&2; exit 3"], {}, log)
    with pytest.raises(RuntimeError, match="the reason"):
        process.wait_ready(targets.free_port(), "/")


def test_spending_accounts_the_block_to_the_processes(provider: Provider) -> None:
    class Here:
        pid = provider.pid
        postgres_pid = os.getpid()

    with targets.spending(Here()) as spent:  # type: ignore[arg-type]
        before = time.process_time()
        while time.process_time() - before < 0.05:
            pass
    assert spent.postgres >= 0.04
    assert spent.server < 0.04
