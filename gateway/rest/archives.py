"""Routes of archives: those that an agent searches, and the archives of the organisation."""

from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from actors.clock import now
from actors.commands import AttachArchive, DetachArchive, Edit
from gateway.app import Context, Route, json
from gateway.decode import Limit, Order
from gateway.letta import passages as letta_passages
from gateway.letta.agents import AgentState
from gateway.letta.passages import LettaArchive
from gateway.paging import page_of
from gateway.requests import passages as requests
from gateway.requests.passages import CreateArchive, UpdateArchive
from gateway.rest import agents as agent_routes
from gateway.rest.agents import HoldersQuery
from storage import agents, archives
from storage.agents import AgentFilter
from storage.archives import ArchiveFilter
from storage.pool import connection


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which archives, and which page of them. Cursors are archive ids and follow the order."""

    limit: Limit | None = 50
    after: str | None = None
    before: str | None = None
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    name: str | None = None
    agent_id: str | None = None


async def create(ctx: Context) -> Response:
    """Create an archive that no agent has yet."""
    request = await ctx.body(CreateArchive)
    archive = requests.new_archive(request, caller=ctx.caller, at=now())
    async with connection(ctx.host.pool) as conn:
        return json(letta_passages.archive(await archives.create(conn, archive)))


async def list_(ctx: Context) -> Response:
    """Return a page of archives."""
    query = ctx.query(ListQuery)
    page = page_of(query, usual=50)
    where = ArchiveFilter(
        organization_id=ctx.caller.organization_id, name=query.name, agent_id=query.agent_id
    )
    async with connection(ctx.host.pool) as conn:
        found = await archives.list_page(conn, page, where=where)
    return json([letta_passages.archive(archive) for archive in found])


async def retrieve(ctx: Context) -> Response:
    """Return one archive."""
    async with connection(ctx.host.pool) as conn:
        found = await archives.get(conn, ctx.params["archive_id"], organization_id=ctx.caller.organization_id)
    return json(letta_passages.archive(found))


async def update(ctx: Context) -> Response:
    """Change the name or the description of an archive."""
    changes = requests.archive_changes(await ctx.body(UpdateArchive), caller=ctx.caller)
    async with connection(ctx.host.pool) as conn:
        changed = await archives.update(
            conn, ctx.params["archive_id"], changes, organization_id=ctx.caller.organization_id
        )
    return json(letta_passages.archive(changed))


async def delete(ctx: Context) -> Response:
    """Delete an archive with its passages; the agents that had it lose it."""
    archive_id = ctx.params["archive_id"]
    async with connection(ctx.host.pool) as conn:
        holders = await archives.holders(conn, archive_id)
        await archives.delete(conn, archive_id, organization_id=ctx.caller.organization_id)
    await ctx.host.passages_written(holders)
    return Response(status_code=204)


async def holders(ctx: Context) -> Response:
    """Return a page of the agents that search an archive."""
    query = ctx.query(HoldersQuery)
    archive_id, organization_id = ctx.params["archive_id"], ctx.caller.organization_id
    page = page_of(query, usual=50)
    where = AgentFilter(organization_id=organization_id, archive_id=archive_id)
    wanted = agent_routes.wanted_by(ctx, query)
    async with connection(ctx.host.pool) as conn:
        await archives.get(conn, archive_id, organization_id=organization_id)
        found = await agents.list_page(conn, page, where=where, relations=wanted.relations)
    return json(agent_routes.states(ctx, found, wanted))


async def attach(ctx: Context) -> Response:
    """Let an agent search an archive. Attaching it again changes nothing."""
    return await _edit(ctx, AttachArchive(ctx.params["archive_id"]))


async def detach(ctx: Context) -> Response:
    """Take an archive from an agent; the archive stays."""
    return await _edit(ctx, DetachArchive(ctx.params["archive_id"]))


async def _edit(ctx: Context, edit: Edit) -> Response:
    agent_id = await agent_routes.own(ctx)
    await ctx.host.ref(agent_id).edit(edit)
    return json(None)


ROUTES: tuple[Route, ...] = (
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/archives/attach/{archive_id}",
        endpoint=attach,
        operation_id="attach_archive_to_agent",
        summary="Attach an archive to an agent",
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/archives/detach/{archive_id}",
        endpoint=detach,
        operation_id="detach_archive_from_agent",
        summary="Detach an archive from an agent",
        tags=("agents",),
    ),
    Route(
        method="POST",
        path="/v1/archives/",
        endpoint=create,
        operation_id="create_archive",
        summary="Create an archive",
        body=CreateArchive,
        returns=LettaArchive,
        tags=("archives",),
    ),
    Route(
        method="GET",
        path="/v1/archives/",
        endpoint=list_,
        operation_id="list_archives",
        summary="List archives",
        query=ListQuery,
        returns=list[LettaArchive],
        tags=("archives",),
    ),
    Route(
        method="GET",
        path="/v1/archives/{archive_id}",
        endpoint=retrieve,
        operation_id="retrieve_archive",
        summary="Retrieve an archive",
        returns=LettaArchive,
        tags=("archives",),
    ),
    Route(
        method="PATCH",
        path="/v1/archives/{archive_id}",
        endpoint=update,
        operation_id="modify_archive",
        summary="Change an archive",
        body=UpdateArchive,
        returns=LettaArchive,
        tags=("archives",),
    ),
    Route(
        method="DELETE",
        path="/v1/archives/{archive_id}",
        endpoint=delete,
        operation_id="delete_archive",
        summary="Delete an archive",
        status=204,
        tags=("archives",),
    ),
    Route(
        method="GET",
        path="/v1/archives/{archive_id}/agents",
        endpoint=holders,
        operation_id="list_agents_for_archive",
        summary="List the agents that search an archive",
        query=HoldersQuery,
        returns=list[AgentState],
        tags=("archives",),
    ),
)
