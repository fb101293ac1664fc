"""Routes of memory blocks: those of one agent, which go through it, and blocks as such."""

from typing import Annotated, Literal

import anyio
from msgspec import Meta, Struct
from starlette.responses import Response

from actors.clock import new_id, now
from actors.commands import AttachBlock, DetachBlock
from actors.commands import UpdateBlock as UpdateEdit
from gateway.app import Context, Route, json
from gateway.decode import Int64, Limit, Order
from gateway.letta import agents as letta_agents
from gateway.letta.agents import AgentState, LettaBlock, LettaMemory
from gateway.paging import page_of
from gateway.requests import blocks as requests
from gateway.requests.blocks import CreateBlock, UpdateBlock
from gateway.rest import agents as agent_routes
from storage import blocks
from storage.blocks import BlockFilter
from storage.pool import connection, transaction
from storage.records import Block

# A direct write is finished and announced to the agents that hold the block even when the caller has
# left. The bound is above the database's own statement timeout.
WRITE_SECONDS = 15.0

SearchText = Annotated[str, Meta(min_length=1, max_length=200)]


class HeldQuery(Struct, frozen=True, kw_only=True):
    """Which page of an agent's blocks."""

    limit: Limit | None = 100
    after: str | None = None
    before: str | None = None
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


class CountQuery(Struct, frozen=True, kw_only=True):
    """Which blocks. Hidden ones are never listed or counted."""

    label: str | None = None
    name: Annotated[str | None, Meta(description="The name of a template.")] = None
    templates_only: bool = False
    tags: tuple[str, ...] | None = None
    match_all_tags: bool = False
    project_id: str | None = None


class ListQuery(CountQuery, frozen=True, kw_only=True):
    """Which blocks, and which page of them. Cursors are block ids and follow the order."""

    limit: Limit | None = 50
    after: str | None = None
    before: str | None = None
    order: Order = "asc"
    order_by: Literal["created_at"] = "created_at"
    label_search: SearchText | None = None
    description_search: SearchText | None = None
    value_search: SearchText | None = None
    connected_to_agents_count_gt: Int64 | None = None
    connected_to_agents_count_lt: Int64 | None = None
    connected_to_agents_count_eq: tuple[Int64, ...] | None = None
    identity_id: str | None = None
    identifier_keys: tuple[str, ...] | None = None


# --- blocks of an agent -----------------------------------------------------------------------


async def list_held(ctx: Context) -> Response:
    """Return a page of the blocks that an agent holds."""
    query = ctx.query(HeldQuery)
    agent_id = await agent_routes.own(ctx)
    page = page_of(query, usual=100)
    where = BlockFilter(organization_id=ctx.caller.organization_id, agent_id=agent_id)
    async with connection(ctx.host.pool) as conn:
        return _blocks(await blocks.list_page(conn, page, where=where))


async def memory(ctx: Context) -> Response:
    """Return an agent's memory as its state has it: every block."""
    state = await agent_routes.state(ctx, ctx.params["agent_id"])
    return json(state.memory)


async def retrieve_held(ctx: Context) -> Response:
    """Return an agent's block by its label."""
    agent_id = await agent_routes.own(ctx)
    return await _held(ctx, agent_id, ctx.params["block_label"])


async def update_held(ctx: Context) -> Response:
    """Change an agent's block between two of its steps; its prompt follows."""
    request = await ctx.body(UpdateBlock)
    changes = requests.changes(request, caller=ctx.caller)
    agent_id = await agent_routes.own(ctx)
    label = ctx.params["block_label"]
    if_version = requests.if_version(ctx.headers.get(b"if-match"))
    await ctx.host.ref(agent_id).edit(UpdateEdit(label=label, changes=changes, if_version=if_version))
    return await _held(ctx, agent_id, request.label or label)


async def attach(ctx: Context) -> Response:
    """Attach a block to an agent. Attaching it again changes nothing."""
    agent_id = await agent_routes.own(ctx)
    await ctx.host.ref(agent_id).edit(AttachBlock(ctx.params["block_id"]))
    return json(await agent_routes.state(ctx, agent_id))


async def detach(ctx: Context) -> Response:
    """Detach a block from an agent; the block stays."""
    agent_id = await agent_routes.own(ctx)
    await ctx.host.ref(agent_id).edit(DetachBlock(ctx.params["block_id"]))
    return json(await agent_routes.state(ctx, agent_id))


async def _held(ctx: Context, agent_id: str, label: str) -> Response:
    """Answer with a block; its version is the `ETag`, and `If-Match` makes a change a compare-and-set."""
    async with connection(ctx.host.pool) as conn:
        found = await blocks.get_by_label(conn, agent_id, label, organization_id=ctx.caller.organization_id)
    response = json(letta_agents.block(found))
    response.headers["etag"] = f'"{found.version}"'
    return response


# --- blocks as such ---------------------------------------------------------------------------


async def create(ctx: Context) -> Response:
    """Create a block that no agent holds yet."""
    request = await ctx.body(CreateBlock)
    block = requests.new_block(request, block_id=new_id("block"), caller=ctx.caller, at=now())
    async with connection(ctx.host.pool) as conn:
        return json(letta_agents.block(await blocks.create(conn, block)))


async def retrieve(ctx: Context) -> Response:
    """Return one block."""
    async with connection(ctx.host.pool) as conn:
        found = await blocks.get(conn, ctx.params["block_id"], organization_id=ctx.caller.organization_id)
    return json(letta_agents.block(found))


async def update(ctx: Context) -> Response:
    """Change a block; every agent that holds it uses the new value from its next step."""
    changes = requests.changes(await ctx.body(UpdateBlock), caller=ctx.caller)
    organization_id = ctx.caller.organization_id
    with anyio.fail_after(WRITE_SECONDS, shield=True):
        async with connection(ctx.host.pool) as conn, transaction(conn):
            block = await blocks.update(
                conn, ctx.params["block_id"], changes, organization_id=organization_id
            )
        await ctx.host.block_written(block)
    return json(letta_agents.block(block))


async def delete(ctx: Context) -> Response:
    """Detach a block everywhere and delete it."""
    block_id = ctx.params["block_id"]
    with anyio.fail_after(WRITE_SECONDS, shield=True):
        async with connection(ctx.host.pool) as conn:
            await blocks.delete(conn, block_id, organization_id=ctx.caller.organization_id)
        await ctx.host.block_deleted(block_id)
    return json(None)


async def list_(ctx: Context) -> Response:
    """Return a page of blocks."""
    query = ctx.query(ListQuery)
    if query.identity_id is not None or query.identifier_keys:
        return json(())  # this release has no identities, so no block belongs to one
    page = page_of(query, usual=50)
    where = BlockFilter(
        organization_id=ctx.caller.organization_id,
        label=query.label,
        tags=query.tags,
        match_all_tags=query.match_all_tags,
        project_id=query.project_id,
        templates_only=query.templates_only,
        template_name=query.name,
        label_search=query.label_search,
        description_search=query.description_search,
        value_search=query.value_search,
        more_agents_than=query.connected_to_agents_count_gt,
        fewer_agents_than=query.connected_to_agents_count_lt,
        agent_counts=query.connected_to_agents_count_eq,
    )
    async with connection(ctx.host.pool) as conn:
        return _blocks(await blocks.list_page(conn, page, where=where))


async def count(ctx: Context) -> Response:
    """Return how many blocks match."""
    query = ctx.query(CountQuery)
    where = BlockFilter(
        organization_id=ctx.caller.organization_id,
        label=query.label,
        tags=query.tags,
        match_all_tags=query.match_all_tags,
        project_id=query.project_id,
        templates_only=query.templates_only,
        template_name=query.name,
    )
    async with connection(ctx.host.pool) as conn:
        return json(await blocks.count(conn, where=where))


def _blocks(found: list[Block]) -> Response:
    return json([letta_agents.block(block) for block in found])


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/core-memory/blocks",
        endpoint=list_held,
        operation_id="list_core_memory_blocks",
        summary="List an agent's blocks",
        query=HeldQuery,
        returns=list[LettaBlock],
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/core-memory",
        endpoint=memory,
        operation_id="retrieve_agent_memory",
        summary="An agent's memory as a whole",
        returns=LettaMemory,
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/core-memory/blocks/{block_label}",
        endpoint=retrieve_held,
        operation_id="retrieve_core_memory_block",
        summary="Retrieve an agent's block by label",
        returns=LettaBlock,
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/core-memory/blocks/{block_label}",
        endpoint=update_held,
        operation_id="modify_core_memory_block",
        summary="Change an agent's block by label",
        body=UpdateBlock,
        returns=LettaBlock,
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/core-memory/blocks/attach/{block_id}",
        endpoint=attach,
        operation_id="attach_core_memory_block",
        summary="Attach a block to an agent",
        returns=AgentState,
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/core-memory/blocks/detach/{block_id}",
        endpoint=detach,
        operation_id="detach_core_memory_block",
        summary="Detach a block from an agent",
        returns=AgentState,
        tags=("agents",),
    ),
    Route(
        method="POST",
        path="/v1/blocks/",
        endpoint=create,
        operation_id="create_block",
        summary="Create a block",
        body=CreateBlock,
        returns=LettaBlock,
        tags=("blocks",),
    ),
    Route(
        method="GET",
        path="/v1/blocks/",
        endpoint=list_,
        operation_id="list_blocks",
        summary="List blocks",
        query=ListQuery,
        returns=list[LettaBlock],
        tags=("blocks",),
    ),
    Route(
        method="GET",
        path="/v1/blocks/count",
        endpoint=count,
        operation_id="count_blocks",
        summary="Count blocks",
        query=CountQuery,
        returns=int,
        tags=("blocks",),
    ),
    Route(
        method="GET",
        path="/v1/blocks/{block_id}",
        endpoint=retrieve,
        operation_id="retrieve_block",
        summary="Retrieve a block",
        returns=LettaBlock,
        tags=("blocks",),
    ),
    Route(
        method="PATCH",
        path="/v1/blocks/{block_id}",
        endpoint=update,
        operation_id="modify_block",
        summary="Change a block",
        body=UpdateBlock,
        returns=LettaBlock,
        tags=("blocks",),
    ),
    Route(
        method="DELETE",
        path="/v1/blocks/{block_id}",
        endpoint=delete,
        operation_id="delete_block",
        summary="Delete a block",
        tags=("blocks",),
    ),
)
