"""What the database refuses comes out as an error that says what it means."""

import asyncpg
import pytest

from storage.errors import ConflictError, NotFoundError, RefusedError, StorageError
from storage.failures import translate
from storage.pool import Pool, connection


async def test_a_repeated_key_is_a_conflict_that_names_its_constraint(pool: Pool) -> None:
    with pytest.raises(ConflictError) as caught:
        async with connection(pool) as conn:
            await conn.execute("insert into organizations (id, name) select id, name from organizations")
    assert caught.value.constraint == "organizations_pkey"


async def test_a_reference_to_a_missing_row_is_a_conflict_that_names_its_constraint(pool: Pool) -> None:
    with pytest.raises(ConflictError) as caught:
        async with connection(pool) as conn:
            await conn.execute("insert into agents_blocks values ('agent-x', 'block-x', 'human', 0)")
    assert caught.value.constraint == "attachment_has_an_agent"


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("select $1::text", "a\0b"),
        ("select $1::text", "a\ud800b"),
        ("select $1::jsonb", b'{"a": "\\u0000"}'),
        ("select $1::jsonb", b"{"),
        ("select $1::int", 2**40),
        ("select ($1::bigint)::int", 2**40),
        ("select $1::text::timestamptz", "yesterday-ish"),
        (
            "select to_tsvector('english', string_agg(md5(i::text), ' ')) from generate_series(1, $1::int) i",
            60000,
        ),
        ("update shards set shard = $1::int where shard = 0", 5000),
        ("update organizations set name = $1::text", None),
    ],
)
async def test_content_that_cannot_be_stored_is_refused(pool: Pool, statement: str, value: object) -> None:
    with pytest.raises(RefusedError):
        async with connection(pool) as conn:
            await conn.execute(statement, value)
    async with connection(pool) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_refusals_do_not_repeat_what_was_written(pool: Pool) -> None:
    with pytest.raises(RefusedError) as caught:
        async with connection(pool) as conn:
            await conn.execute("select ($1::text)::int", "my secret diary")
    assert "diary" not in str(caught.value)


async def test_faults_of_ours_stay_what_they_are(pool: Pool) -> None:
    with pytest.raises(asyncpg.exceptions.UndefinedTableError):
        async with connection(pool) as conn:
            await conn.execute("select * from no_such_table")
    with pytest.raises(asyncpg.exceptions.DataError):
        async with connection(pool) as conn:
            await conn.fetchval("select $1::int", "one")
    with pytest.raises(KeyError):
        async with connection(pool):
            raise KeyError("ours")


async def test_errors_of_storage_pass_through_unchanged(pool: Pool) -> None:
    missing = NotFoundError("agent", "agent-x")
    with pytest.raises(NotFoundError) as caught:
        async with connection(pool):
            raise missing
    assert caught.value is missing
    assert translate(missing) is missing
    assert translate(ValueError("x")) is None
    assert isinstance(translate(TimeoutError()), StorageError)
