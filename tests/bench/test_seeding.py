"""Rows that are written straight into a database."""

import asyncpg
import pytest

from bench import seeding, wire
from storage import passages, recall
from storage.pool import connect
from storage.records import DEFAULT_ORGANIZATION

AGENT = """
insert into agents (id, organization_id, name, settings, shard)
select 'agent-1', id, 'a', '{}', 0 from organizations;
insert into conversations (id, organization_id, agent_id, end_position)
select agents.id, organization_id, agents.id, 3 from agents;
"""


async def test_a_seeded_history_continues_the_conversation(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(AGENT)
        await seeding.histories(dsn, ["agent-1"], 4)
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


async def test_a_seeded_conversation_is_found_by_its_words(dsn: str) -> None:
    conn = await connect(dsn)
    try:
        await conn.execute(AGENT)
        await seeding.conversations(dsn, {"agent-1": 30})
        assert await conn.fetchval("select count(*) from message_words") == 30
        assert await conn.fetchval("select end_position from conversations") == 33
        rarest = max((word for text in seeding.texts(30) for word in text.split()), key=len)
        hits = await recall.search(conn, agent_id="agent-1", query=rarest)
        assert hits
        assert all(rarest in hit.text for hit in hits)
    finally:
        await conn.close()


async def test_seeded_passages_are_found_by_meaning_through_the_index(dsn: str) -> None:
    conn = await connect(dsn)
    try:
        await conn.execute(AGENT)
        await seeding.libraries(dsn, {"agent-1": 40})
        (wanted,) = list(seeding.texts(20))[-1:]
        hits = await passages.search(
            conn,
            organization_id=DEFAULT_ORGANIZATION,
            agent_id="agent-1",
            query="",
            vector=wire.embed(wanted, seeding.DIMENSIONS),
            embedding_model=seeding.MODEL,
            limit=3,
        )
        assert hits[0].passage.text == wanted
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        assert await conn.fetchval("select to_regclass($1) is not null", seeding.INDEX)
    finally:
        await conn.close()


async def test_seeding_says_how_far_it_is(dsn: str) -> None:
    told: list[float] = []
    conn = await connect(dsn)
    try:
        await conn.execute(AGENT)
        await seeding.libraries(dsn, {"agent-1": seeding.ROWS_AT_ONCE + 10}, told.append)
        assert told[:2] == [seeding.ROWS_AT_ONCE, 10]
        assert sum(told[2:]) <= seeding.ROWS_AT_ONCE + 10, "the index has no more than there are"
        del told[:]
        await seeding.conversations(dsn, {"agent-1": 30}, told.append)
        assert told == [30]
    finally:
        await conn.close()


def test_the_same_count_gives_the_same_texts_and_questions_find_them() -> None:
    texts = list(seeding.texts(500))
    assert texts == list(seeding.texts(500))
    assert len(set(texts)) == 500
    said = {word for text in texts for word in text.split()} - set(seeding.SMALL_WORDS)
    questions = seeding.questions(50)
    assert all(len(question.split()) == seeding.WORDS_A_QUESTION for question in questions)
    assert sum(bool(said & set(question.split())) for question in questions) >= 45
