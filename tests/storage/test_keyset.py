"""Pages by key: in both directions, from both ends, without gaps or repeats."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import NotFoundError
from storage.keyset import Order, Page, Select
from storage.pool import Conn, Pool, connection

ORDER = Order(
    columns=("rank", "id"), cursor="select rank, id from things where id = $1 and box = $2", noun="thing"
)


async def things(conn: Conn, ranks: list[int]) -> list[str]:
    """Insert things of one box and one of another; return the ids in ascending order."""
    await conn.execute("create temp table things (id text primary key, box text, rank int)")
    rows = [(f"t{i:03}", rank) for i, rank in enumerate(ranks)]
    await conn.executemany("insert into things values ($1, 'a', $2)", rows)
    await conn.execute("insert into things values ('other', 'b', 1)")
    return [thing for _, thing in sorted((rank, thing) for thing, rank in rows)]


async def page(conn: Conn, page: Page) -> list[str]:
    select = Select("select id from things").where("box = {}", "a")
    return [row["id"] for row in await select.page(conn, page, order=ORDER, scope="a")]


@given(
    ranks=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    limit=st.integers(1, 5),
    descending=st.booleans(),
    forwards=st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_walking_a_list_by_cursor_visits_every_row_once_in_order(
    pool: Pool, ranks: list[int], limit: int, descending: bool, forwards: bool
) -> None:
    async with connection(pool) as conn:
        try:
            expected = await things(conn, ranks)
            if descending:
                expected.reverse()
            seen: list[str] = []
            while True:
                if forwards:
                    cursor = Page(limit=limit, after=seen[-1] if seen else None, descending=descending)
                    rows = await page(conn, cursor)
                    seen = seen + rows
                elif not seen:
                    # Backwards begins at the end of the list.
                    rows = (await page(conn, Page(limit=limit, descending=not descending)))[::-1]
                    seen = rows
                else:
                    rows = await page(conn, Page(limit=limit, before=seen[0], descending=descending))
                    seen = rows + seen
                assert len(rows) <= limit
                if not rows:
                    break
            assert seen == expected
        finally:
            await conn.execute("drop table things")


async def test_both_cursors_together_enclose_a_stretch(pool: Pool) -> None:
    async with connection(pool) as conn:
        ids = await things(conn, [1, 2, 3, 4, 5])
        found = await page(conn, Page(limit=10, after=ids[0], before=ids[4], descending=False))
        assert found == ids[1:4]
        await conn.execute("drop table things")


@pytest.mark.parametrize("cursor", ["missing", "other"])
async def test_a_cursor_outside_the_list_is_not_found(pool: Pool, cursor: str) -> None:
    async with connection(pool) as conn:
        await things(conn, [1])
        with pytest.raises(NotFoundError, match="thing"):
            await page(conn, Page(after=cursor))
        await conn.execute("drop table things")
