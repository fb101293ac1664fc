"""What was learned of models is stored once each, and only so many are kept."""

import pytest

from storage import calibrations
from storage.calibrations import Learned
from storage.errors import StorageError
from storage.pool import Pool, connection


def learned(model: str, ratio: float = 1.5, samples: int = 3) -> Learned:
    return Learned(model=model, ratio=ratio, samples=samples)


async def test_what_was_saved_last_is_loaded(pool: Pool) -> None:
    async with connection(pool) as conn:
        await calibrations.save(conn, [learned("b/two"), learned("a/one")])
        await calibrations.save(conn, [learned("a/one", 0.75, 9)])
        assert await calibrations.load(conn, most=10) == [learned("a/one", 0.75, 9), learned("b/two")]


async def test_those_not_heard_of_for_longest_are_forgotten(pool: Pool) -> None:
    async with connection(pool) as conn:
        for model in ("old", "older", "new"):
            await calibrations.save(conn, [learned(model)])
        await conn.execute(
            "update calibrations set updated_at = updated_at - interval '1 d' where model = 'older'"
        )
        assert [x.model for x in await calibrations.load(conn, most=2)] == ["new", "old"]
        assert [x.model for x in await calibrations.load(conn, most=9)] == ["new", "old"]


@pytest.mark.parametrize("bad", [learned("x", 0.4), learned("x", 3.5), learned("x", 1.0, 0)])
async def test_what_nobody_can_believe_is_refused(pool: Pool, bad: Learned) -> None:
    with pytest.raises(StorageError):
        async with connection(pool) as conn:
            await calibrations.save(conn, [bad])
