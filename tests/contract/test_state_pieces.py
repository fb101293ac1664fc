"""States too large for one frame, as our two clients put them together over a real socket."""

import hashlib
import json
from typing import Any

import anyio
import jsonpatch
import pytest

from bench.provider import Provider
from gateway.client import Publication, Subscription, connect
from gateway.client.events import StateDelta, StateSnapshot
from storage.pool import Pool
from tests.contract.node import Node, Running
from tests.contract.programs import lines, named
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import Served, listening

pytestmark = pytest.mark.timeout(120)

BLOCKS = 9  # of 100,000 characters each: 900 KB, where a piece has 384 KiB
CHARS = 100_000
LAST = "Short now."


async def _agent(served: Served) -> dict[str, Any]:
    blocks = [
        {"label": f"part/{number}", "value": str(number) * CHARS, "limit": CHARS} for number in range(BLOCKS)
    ]
    return await served.agent(model=MODEL, memory_blocks=blocks)


def _digest(values: dict[str, str]) -> str:
    return hashlib.sha256("".join(values[label] for label in sorted(values)).encode()).hexdigest()


async def _whole(items: Subscription, state: Any) -> tuple[Any, list[int]]:
    """Return the state once it is at a place to come back to, and the offsets of what brought it there."""
    offsets: list[int] = []
    with anyio.fail_after(30):
        async for item in items:
            assert isinstance(item, Publication)
            if isinstance(item.event, StateSnapshot):
                state = item.event.snapshot
            elif isinstance(item.event, StateDelta):
                state = jsonpatch.apply_patch(state, list(item.event.delta))
            else:
                continue
            offsets.append(item.offset)
            if item.offset:
                return state, offsets
    raise AssertionError("the subscription ended")


def _values(state: Any) -> dict[str, str]:
    return {label: block["value"] for label, block in state["memory"]["blocks"].items()}


async def test_the_python_client_is_shown_a_large_state_in_pieces_and_then_its_changes(
    pool: Pool, provider: Provider
) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url, connect(url) as client:
        agent = await _agent(served)
        async with client.subscribe(f"agent:{agent['id']}:state") as items:
            state, offsets = await _whole(items, None)
            assert offsets[:-1] == [0] * (len(offsets) - 1)
            assert len(offsets) > 2
            assert _values(state) == {block["label"]: block["value"] for block in agent["memory"]["blocks"]}
            await client.update_memory(agent["id"], "part/3", LAST)
            while _values(state)["part/3"] != LAST:
                state, _ = await _whole(items, state)
            stored = await served.json("GET", f"/v1/agents/{agent['id']}/core-memory/blocks?limit=50")
            assert _values(state) == {block["label"]: block["value"] for block in stored}


async def _first_whole(program: Running) -> str:
    places: list[int] = []
    while True:
        what, *rest = json.loads(await program.line())
        assert what in ("ready", "piece", "whole"), (what, rest)
        if what == "piece":
            places.append(rest[0])
        elif what == "whole":
            assert len(places) > 2
            assert places[:-1] == [0] * (len(places) - 1)
            return rest[0]


async def test_the_module_for_browsers_is_shown_a_large_state_in_pieces_and_then_its_changes(
    pool: Pool, provider: Provider, node: Node
) -> None:
    async with talking(pool, provider) as served, listening(served.app) as url, connect(url) as client:
        agent = await _agent(served)
        values = {block["label"]: block["value"] for block in agent["memory"]["blocks"]}
        async with node.start("wakeful_state.mjs", url, agent["id"], str(BLOCKS), LAST) as program:
            assert await _first_whole(program) == _digest(values)
            await client.update_memory(agent["id"], "part/3", LAST)
            said = lines(await program.ends())
        assert named(said, "whole")[-1] == [_digest({**values, "part/3": LAST})]
        assert not named(said, "gap")
        assert [code for code, _ in named(said, "error")] == [0]  # it closed the client itself
