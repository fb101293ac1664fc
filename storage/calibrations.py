"""What processes learned of each model's tokens: how many it reports for each one that we count."""

from collections.abc import Sequence

from msgspec import Struct

from storage.pool import Conn


class Learned(Struct, frozen=True, kw_only=True):
    """The ratio of a model, by its handle, after so many calls."""

    model: str
    ratio: float
    samples: int


# What has not been heard of for longest is forgotten: handles come from clients.
_LOAD = """
with oldest as (
  delete from calibrations where model in (
    select model from calibrations order by updated_at desc, model offset $1)
  returning model
)
select model, ratio, samples from calibrations c
 where not exists (select from oldest o where o.model = c.model)
 order by model
"""


async def load(conn: Conn, *, most: int) -> list[Learned]:
    """Return what is known, and forget all but the `most` models that were called last."""
    return [
        Learned(model=row["model"], ratio=row["ratio"], samples=row["samples"])
        for row in await conn.fetch(_LOAD, most)
    ]


# In order of the key, so that two processes that store the same models wait for each other and no more.
_SAVE = """
insert into calibrations (model, ratio, samples)
select * from unnest($1::text[], $2::real[], $3::int[]) as l (model, ratio, samples) order by 1
on conflict (model) do update
   set ratio = excluded.ratio, samples = excluded.samples, updated_at = now()
"""


async def save(conn: Conn, learned: Sequence[Learned]) -> None:
    """Store what was learned, each model once; the last process to say so is believed."""
    await conn.execute(
        _SAVE, [x.model for x in learned], [x.ratio for x in learned], [x.samples for x in learned]
    )
