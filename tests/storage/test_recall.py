from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors import clock
from storage import recall, words
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION, Part, TextPart, ToolCallPart, ToolReturnPart
from tests.storage import seeds

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


async def say(
    conn: Conn,
    agent_id: str,
    *texts: str | Sequence[Part],
    role: str = "user",
    conversation_id: str | None = None,
    at: datetime = NOON,
    run_id: str | None = None,
    excluded: bool = False,
) -> None:
    """Append messages one second apart."""
    conversation_id = conversation_id or agent_id
    after = await conn.fetchval(
        "select coalesce(max(position), 0) from messages where conversation_id = $1", conversation_id
    )
    await conn.executemany(
        "insert into messages (id, conversation_id, position, agent_id, organization_id, role, content,"
        " run_id, excluded, created_at)"
        " values ($1, $2, $3, $4, $5, $6::text, $7, $8, $9, $10)",
        [
            (
                clock.new_id("message"),
                conversation_id,
                after + i,
                agent_id,
                DEFAULT_ORGANIZATION,
                role,
                msgspec.json.encode((TextPart(text),) if isinstance(text, str) else text),
                run_id,
                excluded,
                at + timedelta(seconds=after + i),
            )
            for i, text in enumerate(texts, start=1)
        ],
    )
    await conn.execute(
        "update conversations set end_position = $2 where id = $1", conversation_id, after + len(texts) + 1
    )


async def talk(conn: Conn, agent_id: str) -> str:
    """Open one more conversation; return its id."""
    made = clock.new_id("conv")
    await conn.execute(
        "insert into conversations (id, organization_id, agent_id) values ($1, $2, $3)",
        made,
        DEFAULT_ORGANIZATION,
        agent_id,
    )
    return made


async def found(conn: Conn, agent_id: str, query: str | None = None, **filters: Any) -> list[str]:
    return [hit.text for hit in await recall.search(conn, agent_id=agent_id, query=query, **filters)]


async def test_a_message_is_found_by_its_words_in_other_forms(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "My cat is called Milo.", "The weather is nice.", "I was running late.")
        assert await found(conn, agent, "cats") == ["My cat is called Milo."]
        assert await found(conn, agent, "Did we ever run a marathon?") == ["I was running late."]
        (hit,) = await recall.search(conn, agent_id=agent, query="milo")
        assert (hit.role, hit.position, hit.conversation_id, hit.rank) == ("user", 1, agent, 1)
        assert hit.created_at == NOON + timedelta(seconds=1)


async def test_words_end_where_signs_outside_ascii_begin(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "I remember “I live in Lisbon”.", "To Lisbon…or Porto?", "東京。大阪")
        assert set(await found(conn, agent, "lisbon")) == {
            "I remember “I live in Lisbon”.",
            "To Lisbon…or Porto?",
        }
        assert await found(conn, agent, "“Porto”") == ["To Lisbon…or Porto?"]
        assert await found(conn, agent, "大阪") == ["東京。大阪"]


async def test_rare_words_count_more_than_repeated_frequent_ones(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "My dentist is Dr. Huber.")
        await say(conn, agent, *(f"name name name of thing {i}" for i in range(20)))
        hits = await found(conn, agent, "what is the name of my dentist", limit=3)
        assert hits[0] == "My dentist is Dr. Huber."
        assert len(hits) == 3


async def test_of_equal_hits_the_newest_comes_first(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "tea one", "tea two", "tea three")
        assert await found(conn, agent, "tea", limit=2) == ["tea three", "tea two"]


async def test_without_a_query_the_newest_come_from_every_conversation(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await conn.execute(
            "insert into conversations (id, organization_id, agent_id) values ('conv-1', $1, $2)",
            DEFAULT_ORGANIZATION,
            agent,
        )
        await say(conn, agent, "first", "second")
        await say(conn, agent, "third", conversation_id="conv-1", at=NOON + timedelta(minutes=1))
        for nothing in (None, "", "  \n", "\0"):
            assert await found(conn, agent, nothing, limit=2) == ["third", "second"]


async def test_stop_words_punctuation_and_parts_of_words_are_found_as_they_stand(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "To be or not to be", "100% sure", "a_b", "我的猫叫米洛。", "Aufzugsanlage")
        assert await found(conn, agent, "to BE") == ["To be or not to be"]
        assert await found(conn, agent, "%") == ["100% sure"]
        assert await found(conn, agent, "_") == ["a_b"]
        assert await found(conn, agent, "\\") == []
        assert await found(conn, agent, "米洛") == ["我的猫叫米洛。"]
        assert await found(conn, agent, "zugsanl") == ["Aufzugsanlage"]
        assert await found(conn, agent, "nothing of the sort") == []


@pytest.mark.parametrize(
    "query",
    ["'", "''", "\\", "\\'", "a:*", "!a", "!", "a & b | !c", "(a", "<->", "a <2> b", "a\0b", "\ud800",
     "'; drop table messages; --", "%s %d {0}", "$1", "milo\\' | 'x", "*", ":", "\u202e", "é", "@"],
)  # fmt: skip
async def test_hostile_queries_are_data(pool: Pool, query: str) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "My cat is called Milo.")
        assert await found(conn, agent, f"{query} milo") == ["My cat is called Milo."]
        await found(conn, agent, query)
        assert await found(conn, agent, "milo") == ["My cat is called Milo."], "nothing was changed"


@pytest.mark.parametrize("word", ["plain", "o'clock", "\\", "a\\", "\\'", "' | 'b", "a & !b:*", "''", "é 米"])
async def test_any_word_is_one_operand_of_a_match(pool: Pool, word: str) -> None:
    async with connection(pool) as conn:
        matches = "select array_to_tsvector(array[$1]) @@ $2::text::tsquery"
        assert await conn.fetchval(matches, word, recall._lexeme(word))
        assert not await conn.fetchval(matches, f"{word}x", recall._lexeme(word))
        parsed = await conn.fetchval("select numnode($1::text::tsquery)", recall._lexeme(word))
        assert parsed == 1


async def test_negation_and_prefix_operators_have_no_meaning(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "alpha", "beta")
        assert await found(conn, agent, "!alpha") == ["alpha"]
        assert await found(conn, agent, "be:*") == []


async def test_very_long_queries_are_cut(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "milo")
        words = " ".join(f"w{i}" for i in range(500_000))
        assert await found(conn, agent, f"milo {words}") == ["milo"]
        assert await found(conn, agent, f"{words} milo") == []
        assert await found(conn, agent, "x" * 1_000_000) == []


async def test_another_agent_s_messages_are_never_found(pool: Pool) -> None:
    async with connection(pool) as conn:
        mine, other = await seeds.agent(conn), await seeds.agent(conn)
        await say(conn, other, "milo is here", f"{mine} milo", f"'{mine}'", mine)
        for query in ("milo", mine, f"{mine} milo", "here", None, "is"):
            assert await found(conn, mine, query) == []
        for forged in ("agent-' | 'milo", "agent-\\", "agent-\\' | 'milo"):
            assert await found(conn, forged, "milo") == []


async def test_one_conversation_is_searched_alone(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        other = await talk(conn, agent)
        await say(conn, agent, "Tea at home.")
        await say(conn, agent, "Tea at work.", conversation_id=other)
        assert await found(conn, agent, "tea", conversation_id=other) == ["Tea at work."]
        assert await found(conn, agent, "ea at", conversation_id=agent) == ["Tea at home."]
        assert await found(conn, agent, conversation_id=other) == ["Tea at work."]


async def test_everywhere_is_every_agent_of_the_organisation(pool: Pool) -> None:
    async with connection(pool) as conn:
        one, two = await seeds.agent(conn), await seeds.agent(conn)
        gone = await talk(conn, one)
        await say(conn, one, "Green tea.", "Coffee.")
        await say(conn, two, "Black tea, if green is out.", at=NOON + timedelta(hours=1))
        await say(conn, one, "Tea that was deleted.", conversation_id=gone)
        await conn.execute("update conversations set deleted_at = now() where id = $1", gone)
        await words.fill(conn, [one, two, gone])

        async def everywhere(
            query: str, organization_id: str = DEFAULT_ORGANIZATION, **more: Any
        ) -> list[str]:
            hits = await recall.search_everywhere(conn, organization_id=organization_id, query=query, **more)
            assert {hit.agent_id for hit in hits} <= {one, two}
            return [hit.text for hit in hits]

        assert await everywhere("tea") == ["Black tea, if green is out.", "Green tea."]
        assert await everywhere("coffee tea", limit=1) == ["Coffee."]
        assert await everywhere("een te") == ["Green tea."]
        assert await everywhere("tea", end=NOON + timedelta(minutes=1)) == ["Green tea."]
        assert await everywhere("deleted") == []
        assert await everywhere("tea", organization_id="org-other") == []


async def test_only_what_people_and_the_model_said_is_searched(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        search = ToolCallPart("call-1", "conversation_search", '{"query": "milo"}')
        insert = ToolCallPart("call-2", "memory_insert", '{"new_string": "milo"}')
        await say(conn, agent, (TextPart("I look for milo"), search), role="assistant")
        await say(conn, agent, (ToolReturnPart("call-1", "x", "success", "milo"),), role="tool")
        await say(conn, agent, (TextPart("I note milo"), insert), role="assistant")
        await say(conn, agent, "system milo", role="system")
        await say(conn, agent, "milo refused", excluded=True)
        await say(conn, agent, "so far: milo", role="summary")
        expected = {"I note milo", "so far: milo"}
        assert set(await found(conn, agent, "milo")) == expected
        assert set(await found(conn, agent, "ilo")) == expected
        assert set(await found(conn, agent)) == expected


async def test_deleted_conversations_are_not_searched(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await conn.execute(
            "insert into conversations (id, organization_id, agent_id, deleted_at)"
            " values ('conv-1', $1, $2, now())",
            DEFAULT_ORGANIZATION,
            agent,
        )
        await say(conn, agent, "milo stays")
        await say(conn, agent, "milo goes", conversation_id="conv-1")
        for query in ("milo", "ilo", None):
            assert await found(conn, agent, query) == ["milo stays"]


async def test_roles_dates_and_the_asking_run_narrow_every_kind_of_search(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "milo one")
        await say(conn, agent, "milo two", role="assistant", at=NOON + timedelta(days=1))
        await say(conn, agent, "milo three", at=NOON + timedelta(days=2), run_id="run-now")
        for query in ("milo", "ilo", None):
            assert await found(conn, agent, query, roles=["assistant"]) == ["milo two"]
            assert await found(conn, agent, query, roles=["user"]) == ["milo three", "milo one"]
            assert await found(conn, agent, query, roles=["tool", "system"]) == []
            assert await found(conn, agent, query, start=NOON + timedelta(hours=1)) == [
                "milo three",
                "milo two",
            ]
            assert await found(conn, agent, query, end=NOON + timedelta(hours=1)) == ["milo one"]
            first = NOON + timedelta(seconds=1)
            assert await found(conn, agent, query, start=first, end=first) == ["milo one"], "both ends count"
            assert await found(conn, agent, query, but_run_id="run-now") == ["milo two", "milo one"]


async def test_messages_with_images_show_their_words(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        image = msgspec.convert(
            {"type": "image", "source": {"type": "url", "url": "https://x/cat.png"}}, Part
        )
        await say(conn, agent, (TextPart("look at"), image, TextPart("milo")))
        assert await found(conn, agent, "milo") == ["look at\nmilo"]
        await say(conn, agent, (image,))
        assert await found(conn, agent, limit=1) == [""]


# What `words_of` does for a message of one text has the value that it has for any other.
LONG_WAY = """
select words_of('user', $1, 'agent-1') = words_of('user', $1 || '[{"type": "image"}]', 'agent-1'),
       words_of('user', $1, 'agent-1') @@ $2::tsquery,
       words_of('tool', $1, 'agent-1') is null
"""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The dogs ran", "dog & ran"),
        ("", "'agent-1'"),
        ("Straße 42, 日本", "42"),
        ("x " * 60_000 + "end", "x"),
    ],
)
async def test_the_words_of_one_text_are_those_of_a_list(pool: Pool, text: str, word: str) -> None:
    async with connection(pool) as conn:
        content = msgspec.json.encode((TextPart(text),))
        assert tuple(await conn.fetchrow(LONG_WAY, content, word) or ()) == (True, True, True)


# --- the plan -------------------------------------------------------------------------------------

AGENTS, EACH = 10, 2_000
FILL = """
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content)
select gen_random_uuid()::text, a, n, a, $2, role, content
  from generate_series(1, $3) n, unnest($1::text[]) a,
       lateral (select case n % 2 when 0 then 'user' else 'assistant' end as role,
                       jsonb_build_array(jsonb_build_object('type', 'text', 'text',
                         'word' || n % 50 || ' thing' || n % 7 || ' rare' || n)) as content) said
"""


async def plans_of(conn: Conn, agent_id: str, query: str | None, *, analyze: bool = False) -> list[str]:
    """Return the plans of the statements that a search runs, by running it."""
    how = "(analyze, costs off, timing off)" if analyze else ""

    class Explained:
        def __init__(self) -> None:
            self.plans: list[str] = []

        async def fetch(self, statement: str, *args: object) -> list[Any]:
            plan = await conn.fetch(f"explain {how} {statement}", *args)
            self.plans.append("\n".join(row[0] for row in plan))
            return await conn.fetch(statement, *args)

    explained = Explained()
    await recall.search(explained, agent_id=agent_id, query=query)  # type: ignore[arg-type]
    return explained.plans


async def test_no_search_scans_the_messages_of_other_agents(pool: Pool) -> None:
    async with connection(pool) as conn:
        agents = [await seeds.agent(conn) for _ in range(AGENTS)]
        await conn.execute(FILL, agents, DEFAULT_ORGANIZATION, EACH)
        await conn.execute("update conversations set end_position = $1", EACH + 1)
        await words.fill(conn, agents)
        await conn.execute("analyze messages, message_words")
        for query in ("rare77", "word3 thing5 rare9", "word1", None, "ord", "%"):
            for _ in range(7):  # past the point where a prepared statement may get a generic plan
                plans = await plans_of(conn, agents[0], query)
            for plan in plans:
                assert "Seq Scan on message" not in plan, f"{query}:\n{plan}"
        by_words = (await plans_of(conn, agents[0], "rare77"))[1]
        assert "Bitmap Index Scan on message_words_by_words" in by_words
        newest = (await plans_of(conn, agents[0], None))[0]
        assert "Index Scan Backward using message_position_is_unique" in newest
        assert await found(conn, agents[0], "rare77") == ["word27 thing0 rare77"]


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every history count as a long one, of which little is read."""
    monkeypatch.setattr(recall, "FEW", 0)
    monkeypatch.setattr(recall, "READ", 20)
    monkeypatch.setattr(recall, "READ_OF_A_WORD", 10)


@pytest.mark.usefixtures("little")
async def test_much_that_was_said_is_ranked_as_little_is(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, "My dentist is Dr. Huber.", "tea one", "tea two")
        await say(conn, agent, *(f"name {i}" for i in range(8)))
        assert (await found(conn, agent, "what is the name of my dentist"))[0] == "My dentist is Dr. Huber."
        assert await found(conn, agent, "tea", limit=2) == ["tea two", "tea one"]
        assert await found(conn, agent, "two teas", limit=1) == ["tea two"]


@pytest.mark.usefixtures("little")
async def test_of_a_word_that_was_said_often_a_bounded_part_is_read_and_the_newest_come(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        await say(conn, agent, *(f"tea {i}" for i in range(50)), "saffron", "tea with saffron")
        assert await found(conn, agent, "tea", limit=2) == ["tea with saffron", "tea 49"]
        assert await found(conn, agent, "tea saffron", limit=2) == ["tea with saffron", "saffron"]
        plan = (await plans_of(conn, agent, "tea saffron", analyze=True))[1]
        _, _, hits = plan.partition("CTE hits\n")
        assert "rows=12.00" in hits.splitlines()[0], "10 of the one word, 2 of the other"


@pytest.mark.usefixtures("little")
async def test_words_that_were_said_often_find_the_messages_that_have_them_all(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)
        crowd = [word for i in range(30) for word in (f"tea {i}", f"milk {i}")]
        await say(conn, agent, *crowd, "tea with milk", *crowd)
        for _ in range(7):
            assert (await found(conn, agent, "milk in tea", limit=3))[0] == "tea with milk"


@pytest.mark.usefixtures("little")
async def test_filters_hold_for_much_that_was_said(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent, other = await seeds.agent(conn), await seeds.agent(conn)
        gone = await talk(conn, agent)
        await say(conn, other, *(f"tea of other {i}" for i in range(30)))
        await say(conn, agent, *(f"tea {i}" for i in range(15)), role="assistant")
        await say(conn, agent, *(f"tea gone {i}" for i in range(15)), conversation_id=gone)
        await say(conn, agent, "tea now", run_id="run-now", at=NOON + timedelta(days=1))
        await conn.execute("update conversations set deleted_at = now() where id = $1", gone)
        assert await found(conn, agent, "tea", limit=2) == ["tea now", "tea 14"]
        assert await found(conn, agent, "tea", limit=2, but_run_id="run-now") == ["tea 14", "tea 13"]
        assert await found(conn, agent, "tea", roles=["user"]) == ["tea now"]
        assert await found(conn, agent, "tea", start=NOON + timedelta(hours=1)) == ["tea now"]
        assert await found(conn, agent, "tea", conversation_id=gone) == []
        hits = await recall.search_everywhere(
            conn, organization_id=DEFAULT_ORGANIZATION, query="tea", limit=1
        )
        assert [hit.text for hit in hits] == ["tea now"]


async def test_what_an_agent_says_by_a_call_is_found_and_heartbeats_are_not(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent = await seeds.agent(conn)

        def spoken(arguments: str) -> tuple[Part, ...]:
            return (ToolCallPart("c", "send_message", arguments),)

        await say(
            conn,
            agent,
            spoken('{"message": "Your \\"dentist\\"\\nis in Graz", "request_heartbeat": false}'),
            spoken('{"message": "cut off by the lim'),
            spoken("no json at all"),
            (ToolCallPart("d", "memory_insert", '{"message": "Graz"}'),),
            role="assistant",
        )
        await say(conn, agent, '{"type":"heartbeat","reason":"dentist in Graz"}')
        await conn.execute(
            "update messages set step_id = 'step-1' where role = 'user' and agent_id = $1", agent
        )
        expected = ['Your "dentist"\nis in Graz']
        assert await found(conn, agent, "where is my dentist") == expected
        assert await found(conn, agent, "graz") == expected
        assert await found(conn, agent, "raz") == expected
        assert await found(conn, agent, "request") == []
        assert not any("heartbeat" in text for text in await found(conn, agent))
