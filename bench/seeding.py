"""Rows written straight into a server's database, where making them through its API would take hours.

Texts and vectors come from a seeded generator: the same count gives the same rows on every machine.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from uuid import UUID

import anyio
import msgspec

from bench import wire
from bench.doors import HISTORY_TEXT
from storage import archives, passage_indexes, words
from storage.pool import Conn, connect, transaction
from storage.records import DEFAULT_ORGANIZATION, TextPart

HISTORY_TOKENS = 40
DIMENSIONS = 384  # as many as the local embedding model has
MODEL = f"openai/words-{DIMENSIONS}"  # handle of the provider's embedding model that the vectors are of
INDEX = f"passages_by_meaning_{DIMENSIONS}"
WORDS_A_TEXT = 24
WORDS_A_QUESTION = 8
VOCABULARY = 50_000
# Of English prose nearly half are words like these, which say nothing and of which searches know it.
SMALL_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "a",
    "in",
    "is",
    "it",
    "you",
    "that",
    "he",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "i",
    "his",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
    "or",
    "had",
    "by",
    "not",
    "but",
    "what",
    "some",
    "we",
    "can",
    "out",
    "other",
    "were",
    "all",
    "your",
    "when",
    "up",
    "use",
    "how",
    "said",
    "an",
    "each",
    "she",
]
SMALL_SHARE = 0.45
ROWS_AT_ONCE = 1000
SECONDS = 600.0  # of one statement
LOOK_EVERY = 0.5  # seconds
SYLLABLES = [a + b for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "u")]


def _unheard(_: float) -> None:
    pass


async def histories(
    dsn: str, agent_ids: list[str], messages: int, done: Callable[[float], None] = _unheard
) -> None:
    """Give agents that no server holds a history of equal messages in their default conversation.

    `done` is called as each agent has its own.
    """
    content = msgspec.json.encode([TextPart(HISTORY_TEXT)])
    conn = await connect(dsn)
    try:
        for agent_id in agent_ids:
            async with conn.transaction():
                await conn.execute(_HISTORY, agent_id, messages, content, HISTORY_TOKENS)
                await conn.execute(_LONGER, agent_id, messages)
                await conn.execute(_WORDLESS, agent_id)
            done(1)
        await conn.execute("vacuum analyze messages")  # now, not in the middle of a measurement
    finally:
        await conn.close()


async def conversations(dsn: str, sizes: dict[str, int], done: Callable[[float], None] = _unheard) -> None:
    """Give each agent, which no server holds, so many messages of different words, found by search.

    `done` is told how many more are written.
    """
    conn = await connect(dsn)
    try:
        await conn.execute(_PATIENTLY)
        for agent_id, count in sizes.items():
            written = texts(count)
            while batch := list(islice(written, ROWS_AT_ONCE)):
                contents = [msgspec.json.encode([TextPart(text)]).decode() for text in batch]
                async with conn.transaction():
                    await conn.execute(_CONVERSATION, agent_id, contents, HISTORY_TOKENS, timeout=SECONDS)
                    await conn.execute(_LONGER, agent_id, len(batch))
                await words.fill(conn, [agent_id])
                done(len(batch))
        await conn.execute("vacuum analyze messages, message_words", timeout=SECONDS)
    finally:
        await conn.close()


async def libraries(dsn: str, sizes: dict[str, int], done: Callable[[float], None] = _unheard) -> None:
    """Give each agent an archive of so many passages with their vectors, while no server runs.

    The index of vectors is made anew after all of them: row by row it would take 3 ms each. `done` is told
    how many more are written, and then, of all that there are, how many more are in the index.
    """
    conn = await connect(dsn)
    try:
        await conn.execute(_PATIENTLY)
        await conn.execute(f"drop index if exists {INDEX}")
        for agent_id, count in sizes.items():
            async with transaction(conn):
                archive = await archives.ensure_for_agent(
                    conn, agent_id, embedding=MODEL, dimensions=DIMENSIONS
                )
            await _passages(conn, archive.id, count, done)
        await conn.execute("set maintenance_work_mem = '1GB'")
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, dsn, done)
            await passage_indexes.make_missing(conn)
            group.cancel_scope.cancel()
        await conn.execute("vacuum analyze passages", timeout=SECONDS)
        await conn.execute("checkpoint", timeout=SECONDS)
    finally:
        await conn.close()


async def _watch(dsn: str, done: Callable[[float], None]) -> None:
    """Tell how far the making of an index is, until cancelled."""
    conn = await connect(dsn)
    told = 0
    try:
        while True:
            await anyio.sleep(LOOK_EVERY)
            indexed: int = await conn.fetchval(_INDEXED)
            done(max(0, indexed - told))
            told = max(told, indexed)
    finally:
        conn.terminate()


async def _passages(conn: Conn, archive_id: str, count: int, done: Callable[[float], None]) -> None:
    written = texts(count)
    ids = random.Random(archive_id)
    while batch := list(islice(written, ROWS_AT_ONCE)):
        rows = [
            (
                f"passage-{UUID(int=ids.getrandbits(128), version=4)}",
                DEFAULT_ORGANIZATION,
                archive_id,
                text,
                MODEL,
                DIMENSIONS,
                wire.embed(text, DIMENSIONS),
            )
            for text in batch
        ]
        await conn.executemany(_PASSAGE, rows, timeout=SECONDS)
        done(len(batch))


def texts(count: int, seed: int = 1) -> Iterator[str]:
    """Yield sentences with words as often as in prose: small ones, few that come often, most of them rare.

    By Zipf's law a word's share falls with its rank. The most frequent that mean something are in a seventh
    of the sentences; every second one is said once in 10,000 sentences.
    """
    chance = random.Random(seed)
    vocabulary = [_word(number) for number in range(VOCABULARY)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(VOCABULARY)))
    small = list(accumulate(1 / (rank + 2.7) for rank in range(len(SMALL_WORDS))))
    for _ in range(count):
        few = sum(chance.random() < SMALL_SHARE for _ in range(WORDS_A_TEXT))
        said = chance.choices(vocabulary, cum_weights=weights, k=WORDS_A_TEXT - few)
        said += chance.choices(SMALL_WORDS, cum_weights=small, k=few)
        chance.shuffle(said)
        yield " ".join(said)


def questions(count: int) -> Sequence[str]:
    """Return queries that are the beginnings of sentences: about half of their words mean something."""
    return [" ".join(text.split()[:WORDS_A_QUESTION]) for text in texts(count, seed=2)]


def _word(number: int) -> str:
    """Spell a number in syllables."""
    number += len(SYLLABLES)  # so that each has two at least
    spelled = ""
    while number:
        number, place = divmod(number, len(SYLLABLES))
        spelled += SYLLABLES[place]
    return spelled


_PATIENTLY = "set statement_timeout = 0"
_INDEXED = """
select coalesce(max(tuples_done), 0) from pg_stat_progress_create_index
 where datname = current_database() and relid = 'passages'::regclass
"""
# The rows that turns would have left: see storage/schema.sql.
_HISTORY = """
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, tokens)
select 'message-' || gen_random_uuid(), c.id, c.end_position - 1 + i, c.agent_id, c.organization_id,
       case i % 2 when 1 then 'user' else 'assistant' end, $3, $4
  from conversations_now c, generate_series(1, $2) i
 where c.id = $1
"""
_CONVERSATION = """
insert into messages (id, conversation_id, position, agent_id, organization_id, role, content, tokens)
select 'message-' || gen_random_uuid(), c.id, c.end_position - 1 + t.i, c.agent_id, c.organization_id,
       case t.i % 2 when 1 then 'user' else 'assistant' end, t.content::jsonb, $3
  from conversations_now c, unnest($2::text[]) with ordinality as t (content, i)
 where c.id = $1
"""
_LONGER = "update conversations set end_position = end_position + $2 where id = $1"
# Nobody searches these: a server that starts has nothing to fill in.
_WORDLESS = """
insert into worded_conversations (conversation_id, position)
select id, end_position from conversations_now where id = $1
on conflict (conversation_id) do update set position = excluded.position
"""
_PASSAGE = """
insert into passages (id, organization_id, archive_id, text, embedding_model, dimensions, embedding)
values ($1, $2, $3, $4, $5, $6, $7)
"""
