from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import toolrun
from actors.memory_edits import Birth
from actors.toolrun import prepare
from actors.tools import conversation
from actors.tools.reading import Reader
from actors.tools.results import ToolError
from storage.pool import Pool, connection
from storage.records import DEFAULT_ORGANIZATION, ToolCallPart, ToolReturnPart
from tests.actors.pieces import built_in_tools
from tests.actors.worlds import new_block

TOOLS = built_in_tools()
BIRTH = Birth(new_block)
SEARCH = ToolCallPart("c", "conversation_search", '{"query": "x"}')


def reader(pool: Pool) -> Reader:
    return Reader(
        pool=pool,
        agent_id="agent-1",
        organization_id=DEFAULT_ORGANIZATION,
        run_id="run-1",
        timezone="UTC",
        now=datetime.now(UTC),
        count=len,
    )


@given(st.text(max_size=30), st.text(max_size=60))
def test_whatever_a_model_asks_for_every_call_gets_its_one_result(name: str, arguments: str) -> None:
    calls = [ToolCallPart("1", name, arguments), ToolCallPart("2", "memory_insert", arguments)]
    for call, prepared in zip(calls, prepare(calls, TOOLS), strict=True):
        assert prepared.call is call
        if prepared.invalid:
            assert prepared.result is not None
            assert prepared.result.status == "error"
        assert not prepared.reads
        applied, result = prepared.settle({"human": new_block("human")}, BIRTH)
        assert (result.tool_call_id, result.name) == (call.id, call.name)
        assert result.text
        assert applied is None or result.status == "success"


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
    assert read.settle({}, BIRTH) == (None, read.result)


def test_a_tool_that_is_only_called_has_its_result_at_once() -> None:
    calls = [
        ToolCallPart("1", "send_message", '{"message": "hi"}'),
        ToolCallPart("2", "memory_finish_edits", "{}"),
    ]
    said = [prepared.settle({}, BIRTH) for prepared in prepare(calls, TOOLS)]
    assert [(applied, result.status, result.text) for applied, result in said] == [
        (None, "success", "Sent message successfully."),
        (None, "success", "None"),
    ]


async def test_what_is_archived_is_prepared_and_left_to_the_step(pool: Pool) -> None:
    (prepared,) = prepare([ToolCallPart("c", "archival_memory_insert", '{"content": "x"}')], TOOLS)
    assert prepared.reads
    read = await toolrun.read(prepared, reader(pool))
    assert read.passage is not None
    assert read.settle({}, BIRTH) == (
        None,
        ToolReturnPart("c", prepared.call.name, "success", read.passage.id),
    )
    async with connection(pool) as conn:
        assert await conn.fetchval("select count(*) from passages") == 0
    stopped = prepared.stopped("stopped here")
    assert stopped.passage is None


async def test_a_passage_that_is_refused_is_an_error_and_nothing_to_store(pool: Pool) -> None:
    (prepared,) = prepare([ToolCallPart("c", "archival_memory_insert", '{"content": " "}')], TOOLS)
    read = await toolrun.read(prepared, reader(pool))
    assert read.passage is None
    assert read.result is not None
    assert read.result.text.endswith("ValueError: content is empty; send the text to keep")
