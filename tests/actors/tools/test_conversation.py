from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors import clock
from actors.tools import conversation
from actors.tools.results import ToolError
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, TextPart
from tests.storage import seeds

NOW = datetime(2026, 4, 2, 12, tzinfo=UTC)


async def say(conn: Conn, agent_id: str, *said: tuple[datetime, str], role: str = "user") -> None:
    for at, text in said:
        await conn.execute(
            "insert into messages (id, conversation_id, position, agent_id, organization_id, role, content,"
            " created_at)"
            " select $1, $2, max(position) + 1, $2, $3, $4::text, $5, $6 from messages"
            " where conversation_id = $2",
            clock.new_id("message"),
            agent_id,
            DEFAULT_ORGANIZATION,
            role,
            msgspec.json.encode((TextPart(text),)),
            at,
        )
    await conn.execute(
        "update conversations set end_position = end_position + $2 where id = $1", agent_id, len(said)
    )


async def searched(conn: Conn, agent_id: str, timezone: str = "UTC", **arguments: Any) -> dict[str, Any]:
    text = await conversation.search(conn, arguments, agent_id=agent_id, timezone=timezone, now=NOW)
    return msgspec.json.decode(text)


async def contents(conn: Conn, agent_id: str, timezone: str = "UTC", **arguments: Any) -> list[str]:
    return [r["content"] for r in (await searched(conn, agent_id, timezone, **arguments))["results"]]


async def test_a_hit_says_when_by_whom_and_how_well_it_matched(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, (NOW - timedelta(hours=3, minutes=10), "My cat is called Milo."))
        assert await searched(conn, agent, "Europe/Vienna", query="cat") == {
            "message": "Showing 1 results:",
            "results": [
                {
                    "timestamp": "2026-04-02T10:50:00+02:00",
                    "time_ago": "3 hours ago",
                    "role": "user",
                    "relevance": {"fts_rank": 1, "search_mode": "fts"},
                    "content": "My cat is called Milo.",
                }
            ],
        }


async def test_what_was_not_ranked_claims_no_relevance(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, (NOW, "hello"))
        (result,) = (await searched(conn, agent))["results"]
        assert "relevance" not in result
        assert result["time_ago"] == "just now"


async def test_nothing_found_is_said_in_letta_s_words(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        text = await conversation.search(conn, {"query": "x"}, agent_id=agent, timezone="UTC", now=NOW)
        assert text == '{"message":"No results found.","results":[]}'


@pytest.mark.parametrize(("asked", "got"), [(None, 5), (2, 2), (0, 1), (-3, 1), (50, 50), (10**30, 50)])
async def test_the_limit_is_five_unless_said_and_never_above_fifty(
    pool: Pool, asked: int | None, got: int
) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, *((NOW, f"tea {i}") for i in range(52)))
        limit = {} if asked is None else {"limit": asked}
        assert len(await contents(conn, agent, query="tea", **limit)) == got


async def test_dates_are_days_of_the_agent_s_timezone_and_include_their_end(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        vienna = [  # summer time: two hours ahead of UTC
            (datetime(2026, 3, 31, 21, 59, 59, 999999, tzinfo=UTC), "last of March"),
            (datetime(2026, 3, 31, 22, 0, tzinfo=UTC), "first of April"),
        ]
        await say(conn, agent, *vienna)
        here = "Europe/Vienna"
        assert await contents(conn, agent, here, end_date="2026-03-31") == ["last of March"]
        assert await contents(conn, agent, here, start_date="2026-04-01") == ["first of April"]
        assert await contents(conn, agent, here, start_date="2026-03-31", end_date="2026-03-31") == [
            "last of March"
        ]
        assert await contents(conn, agent, "UTC", end_date="2026-03-31", limit=9) == [
            "first of April",
            "last of March",
        ]
        assert await contents(conn, agent, here, start_date="2026-04-01T00:00:00") == ["first of April"]
        assert await contents(conn, agent, here, start_date="2026-03-31T22:00Z") == ["first of April"]
        assert await contents(conn, agent, here, start_date="2026-04-01T01:00+03:00") == ["first of April"]
        assert await contents(conn, agent, here, start_date=" ", end_date="", query="march") == [
            "last of March"
        ]


@pytest.mark.parametrize(
    "date",
    ["yesterday", "2026-13-01", "31.03.2026", "2026-03-31T25:00", "x" * 1_000, "0001-01-01T00:00+14:00"],
)
async def test_a_date_that_cannot_be_read_is_an_error_that_shows_how(pool: Pool, date: str) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        for field in ("start_date", "end_date"):
            with pytest.raises(ToolError, match=rf"{field} '.*' is not a date; send ISO 8601") as refused:
                await searched(conn, agent, "UTC", **{field: date})
            assert len(str(refused.value)) < 150


@pytest.mark.parametrize("date", ["0001-01-01", "9999-12-31", "9999-12-31T23:59:59"])
@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_dates_at_the_edges_of_time_are_answered(pool: Pool, date: str, timezone: str) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        for field in ("start_date", "end_date"):
            try:
                said = (await searched(conn, agent, timezone, **{field: date}))["message"]
            except ToolError as error:
                said = str(error)
            assert said == "No results found." or "is not a date" in said


async def test_a_span_that_ends_before_it_starts_is_an_error(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        with pytest.raises(ToolError, match="start_date is after end_date"):
            await searched(conn, agent, start_date="2026-04-02", end_date="2026-04-01")


async def test_roles_narrow_the_search(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, (NOW, "tea?"))
        await say(conn, agent, (NOW, "tea!"), role="assistant")
        assert await contents(conn, agent, query="tea", roles=["assistant"]) == ["tea!"]
        assert len(await contents(conn, agent, query="tea", roles=[])) == 2


async def test_the_run_that_asks_does_not_find_its_own_question(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, (NOW, "what was my cat's name?"))
        await conn.execute("update messages set run_id = 'run-1' where position > 0")
        given = {"query": "cat name"}
        text = await conversation.search(conn, given, agent_id=agent, timezone="UTC", now=NOW, run_id="run-1")
        assert "No results found." in text
        assert "cat" in await conversation.search(conn, given, agent_id=agent, timezone="UTC", now=NOW)


async def test_long_messages_share_a_bounded_result(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, *((NOW, "tea " * 50_000) for _ in range(4)))
        shown = await contents(conn, agent, query="tea", limit=4)
        assert sum(map(len, shown)) < conversation.RESULT_CHARS + 4 * 50
        assert all(text.endswith("... [200000 characters]") for text in shown)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(hours=23, minutes=59), "23 hours ago"),
        (timedelta(days=29), "29 days ago"),
        (timedelta(days=31), "1 month ago"),
        (timedelta(days=800), "2 years ago"),
    ],
)
def test_a_span_is_told_in_its_largest_unit(span: timedelta, words: str) -> None:
    assert conversation.ago(span) == words
