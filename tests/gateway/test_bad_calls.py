"""Hostile and malformed calls over the websocket's methods: a plain refusal, and life goes on."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from actors.events import RunFinished
from bench.provider import Provider
from gateway import errors
from gateway.auth import KEYED
from gateway.config import Settings
from gateway.realtime.protocol import ProtocolError
from gateway.rpc.methods import Rpc
from storage.pool import Pool
from tests.gateway.calling import Calls, Logs, until
from tests.gateway.rest.talking import new_agent, talking
from tests.gateway.rpc.test_agents import HI, ended

DATA = Path(__file__).parents[1] / "data"
CASES: list[dict[str, Any]] = json.loads((DATA / "bad_calls.json").read_text(encoding="utf-8"))
VALUES = [
    case["payload"]
    for case in json.loads((DATA / "bad_inputs.json").read_text(encoding="utf-8"))
    if case["entry"] == "block_value"
]
INSIDE = re.compile(r"Traceback|asyncpg|/storage/|/gateway/|select .* from|insert into", re.IGNORECASE)


async def test_a_bad_call_is_refused_and_the_next_good_one_works(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a", "repeat": "forever"}])
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": "v"}])
        call, methods = Calls(served), Rpc(served.host, Settings(), Logs(served))
        run = (await call("agent.send", agent=agent, messages=HI))["run"]
        await ended(served, run, agent)
        for case in CASES:
            data = case["data"].replace("{agent}", agent).replace("{run}", run).encode()
            code, said = 200, ""
            try:
                await methods.call(KEYED, case["method"], data)
            except ProtocolError as error:
                code, said = error.code, error.message
            except Exception as error:  # noqa: BLE001 - whatever it is, the client is told of it
                code, said = errors.find(error).status, errors.find(error).message
            assert code in case["expect"], (case["id"], code, said)
            assert INSIDE.search(said) is None, (case["id"], said)
        assert await ended(served, (await call("agent.send", agent=agent, messages=HI))["run"], agent)


async def test_texts_are_stored_and_returned_as_they_are(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served, memory_blocks=[{"label": "human", "value": "v"}])
        for value in VALUES:
            changed = await Calls(served)("memory.update", agent=agent, label="human", value=value)
            assert changed["value"] == value


async def test_a_cancel_that_meets_the_end_leaves_one_end(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a", "repeat": "forever"}])
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        call = Calls(served)
        ends: list[str] = []
        log = served.host.logs.channel(agent, agent)
        log.listen(lambda _channel, _offset, event: _note(event, ends))
        for n in range(20):
            run = (await call("agent.send", agent=agent, messages=HI))["run"]
            if n % 2:
                await until(lambda run=run: served.host.running_step(agent, run) or run in ends)
            await asyncio.gather(call("run.cancel", run=run), return_exceptions=True)
            await until(lambda run=run: run in ends)
        await until(lambda: served.host.health().unfinished_runs == 0)
        assert len(ends) == len(set(ends)) == 20


def _note(event: object, ends: list[str]) -> None:
    if isinstance(event, RunFinished):
        ends.append(event.run_id)
