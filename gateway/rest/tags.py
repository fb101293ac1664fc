"""Routes of tags: the words that agents and blocks are marked with."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.app import Context, Route, json
from gateway.decode import Limit, Order
from storage import tags
from storage.pool import connection


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which tags: those with `name` in them; and which page. A cursor is a tag and follows the order."""

    limit: Limit | None = 50
    after: str | None = None
    before: str | None = None
    order: Order = "asc"
    order_by: Literal["name"] = "name"
    name: str | None = None
    query_text: Annotated[str | None, Meta(description="Deprecated: use `name`.")] = None


async def list_(ctx: Context) -> Response:
    """Return a page of the tags of all agents and blocks. With `before` alone it is the page next to it."""
    query = ctx.query(ListQuery)
    falling = query.order == "desc"
    backwards = query.before is not None and query.after is None
    above, below = (query.before, query.after) if falling else (query.after, query.before)
    async with connection(ctx.host.pool) as conn:
        found = await tags.list_page(
            conn,
            organization_id=ctx.caller.organization_id,
            above=above,
            below=below,
            text=query.name or query.query_text,
            limit=query.limit or 50,
            falling=falling != backwards,
        )
    return json(found[::-1] if backwards else found)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/tags/",
        endpoint=list_,
        operation_id="list_tags",
        summary="List the tags of agents and blocks",
        query=ListQuery,
        returns=list[str],
        tags=("tags",),
    ),
)
