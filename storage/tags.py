"""Tags of agents and blocks as one list of words; they have no rows of their own."""

from storage.pool import Conn

# A page is a range of words, so a cursor need not exist. Hidden agents and blocks are never listed.
_LIST = """
select tag
  from (select unnest(tags) as tag from agents where organization_id = $1 and not hidden
        union
        select unnest(tags) from blocks where organization_id = $1 and not hidden) as tags
 where ($2::text is null or tag > $2 collate "C")
   and ($3::text is null or tag < $3 collate "C")
   and ($4::text is null or position(lower($4) in lower(tag)) > 0)
 order by tag collate "C" {direction}
 limit $5
"""
_RISING, _FALLING = _LIST.format(direction="asc"), _LIST.format(direction="desc")


async def list_page(
    conn: Conn,
    *,
    organization_id: str,
    above: str | None = None,
    below: str | None = None,
    text: str | None = None,
    limit: int = 50,
    falling: bool = False,
) -> list[str]:
    """Return at most `limit` tags, each once, by their code points: the first, or with `falling` the last.

    `above` and `below` bound the words, both exclusive; `text` must be in the tag, in whatever case.
    """
    rows = await conn.fetch(_FALLING if falling else _RISING, organization_id, above, below, text, limit)
    return [row["tag"] for row in rows]
