from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import toolrun
from actors.toolrun import Reader, prepare
from actors.tools import conversation
from actors.tools.results import ToolError
from storage.pool import Pool
from storage.records import ToolCallPart, ToolReturnPart
from tests.actors.pieces import built_in_tools
from tests.actors.worlds import new_block

TOOLS = built_in_tools()
SEARCH = ToolCallPart("c", "conversation_search", '{"query": "x"}')


def reader(pool: Pool) -> Reader:
    return Reader(pool=pool, agent_id="agent-1", run_id="run-1", timezone="UTC", now=datetime.now(UTC))


@given(st.text(max_size=30), st.text(max_size=60))
def test_whatever_a_model_asks_for_every_call_gets_its_one_result(name: str, arguments: str) -> None:
    calls = [ToolCallPart("1", name, arguments), ToolCallPart("2", "memory_insert", arguments)]
    for call, prepared in zip(calls, prepare(calls, TOOLS), strict=True):
        assert prepared.call is call
        if prepared.invalid:
            assert prepared.result is not None
            assert prepared.result.status == "error"
        assert not prepared.reads
        block, result = prepared.settle({"human": new_block("human")})
        assert (result.tool_call_id, result.name) == (call.id, call.name)
        assert result.text
        assert block is None or result.status == "success"


def test_a_tool_that_the_agent_does_not_hold_is_unknown_to_it() -> None:
    (prepared,) = prepare([SEARCH], {"memory_insert": TOOLS["memory_insert"]})
    assert prepared.invalid
    assert prepared.result is not None
    assert "memory_insert" in prepared.result.text


def test_a_stopped_call_says_so_and_a_finished_one_keeps_its_result() -> None:
    (prepared,) = prepare([SEARCH], TOOLS)
    assert prepared.reads
    stopped = prepared.stopped("stopped here")
    assert stopped.result == ToolReturnPart("c", "conversation_search", "error", "stopped here")
    assert not stopped.reads
    assert stopped.stopped("again") is stopped


async def test_a_search_that_fails_is_an_error_result(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> str:
        raise ToolError("the search is not possible")

    monkeypatch.setattr(conversation, "search", broken)
    (prepared,) = prepare([SEARCH], TOOLS)
    result = (await toolrun.read(prepared, reader(pool))).result
    assert result is not None
    assert result.status == "error"
    assert "not possible" in result.text


async def test_a_search_that_finds_nothing_succeeds(pool: Pool) -> None:
    (prepared,) = prepare([SEARCH], TOOLS)
    read = await toolrun.read(prepared, reader(pool))
    assert read.result is not None
    assert read.result.status == "success"
    assert read.settle({}) == (None, read.result)
