"""Routes of agents: create, read, list, count, change, delete."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from actors.commands import DeleteAgent
from actors.errors import UnknownModelError
from actors.llm.catalog import Catalog
from actors.llm.model import ModelRef
from gateway.app import Context, Route, json
from gateway.decode import Limit, Order
from gateway.letta import agents as letta_agents
from gateway.letta import models as letta_models
from gateway.letta.agents import AgentState
from gateway.paging import page_of
from gateway.requests import agents as requests
from gateway.requests import models as model_requests
from gateway.requests import new_agents
from gateway.requests.agents import CreateAgent, UpdateAgent
from storage import agents, blocks, pending
from storage.agents import EVERYTHING, AgentFilter, Profile, Relation
from storage.keyset import Page
from storage.pending_records import PendingRequest
from storage.pool import connection
from storage.records import StopReason

Include = Literal[
    "agent.blocks",
    "agent.identities",
    "agent.managed_group",
    "agent.pending_approval",
    "agent.secrets",
    "agent.sources",
    "agent.tags",
    "agent.tools",
]
Sort = Literal["created_at", "updated_at", "last_run_completion"]

# What an older client calls a relation. Those not listed here are always empty.
_OLDER_NAMES: dict[str, str] = {"memory": "agent.blocks", "core_memory": "agent.blocks"}


class IncludeQuery(Struct, frozen=True, kw_only=True):
    """Which relations to fill. SDKs of generation 1.x get none that they do not ask for."""

    include: tuple[Include, ...] = ()
    include_relationships: Annotated[
        tuple[str, ...] | None, Meta(description="Deprecated: use `include`.")
    ] = None


class CountQuery(Struct, frozen=True, kw_only=True):
    """Which agents. Hidden ones are never listed or counted."""

    name: str | None = None
    tags: tuple[str, ...] | None = None
    match_all_tags: bool = False
    query_text: str | None = None
    project_id: str | None = None
    template_id: str | None = None
    base_template_id: str | None = None
    identity_id: str | None = None
    identifier_keys: tuple[str, ...] | None = None
    last_stop_reason: StopReason | None = None
    created_by_id: str | None = None


class ListQuery(CountQuery, frozen=True, kw_only=True):
    """Which agents, and which page of them. Cursors are agent ids and follow the order."""

    limit: Limit | None = 50
    after: str | None = None
    before: str | None = None
    order: Order = "desc"
    order_by: Sort = "created_at"
    ascending: Annotated[bool, Meta(description="Deprecated: use `order`.")] = False
    sort_by: Annotated[Sort | None, Meta(description="Deprecated: use `order_by`.")] = None
    include: tuple[Include, ...] = ()
    include_relationships: tuple[str, ...] | None = None


class HoldersQuery(IncludeQuery, frozen=True, kw_only=True):
    """Which page of the agents that hold a block."""

    limit: Limit | None = 50
    after: str | None = None
    before: str | None = None
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


class Wanted(Struct, frozen=True):
    """The relations that an answer fills."""

    relations: frozenset[Relation]
    tags: bool
    pending: bool


ALL = Wanted(EVERYTHING, tags=True, pending=True)


async def create(ctx: Context) -> Response:
    """Create an agent with its blocks, tools and system prompt."""
    new, ref = await new_agents.build(ctx, await ctx.body(CreateAgent))
    async with connection(ctx.host.pool) as conn:
        profile = await agents.create(conn, new)
    return json(letta_agents.agent_state(profile, ref))


async def retrieve(ctx: Context) -> Response:
    """Return one agent."""
    wanted = wanted_by(ctx, ctx.query(IncludeQuery))
    return json(await state(ctx, ctx.params["agent_id"], wanted))


async def list_(ctx: Context) -> Response:
    """Return a page of agents."""
    query = ctx.query(ListQuery)
    where = _filter(ctx, query)
    if where is None:
        return json(())
    wanted = wanted_by(ctx, query)
    page = Page(
        limit=query.limit or 50,
        after=query.after,
        before=query.before,
        descending=query.order == "desc" and not query.ascending,
    )
    async with connection(ctx.host.pool) as conn:
        found = await agents.list_page(
            conn, page, where=where, relations=wanted.relations, order_by=query.sort_by or query.order_by
        )
        asked = await pending.of_conversations(conn, [p.agent.id for p in found]) if wanted.pending else {}
    return json(states(ctx, found, wanted, asked))


async def count(ctx: Context) -> Response:
    """Return how many agents match."""
    where = _filter(ctx, ctx.query(CountQuery))
    if where is None:
        return json(0)
    async with connection(ctx.host.pool) as conn:
        return json(await agents.count(conn, where=where))


async def holders(ctx: Context) -> Response:
    """Return a page of the agents that hold a block."""
    query = ctx.query(HoldersQuery)
    organization_id = ctx.caller.organization_id
    wanted = wanted_by(ctx, query)
    page = page_of(query, usual=50)
    where = AgentFilter(organization_id=organization_id, block_id=ctx.params["block_id"])
    async with connection(ctx.host.pool) as conn:
        await blocks.get(conn, ctx.params["block_id"], organization_id=organization_id)
        found = await agents.list_page(conn, page, where=where, relations=wanted.relations)
    return json(states(ctx, found, wanted))


async def update(ctx: Context) -> Response:
    """Change an agent between two of its steps."""
    request = await ctx.body(UpdateAgent)
    agent_id = ctx.params["agent_id"]
    compared: frozenset[Relation] = frozenset() if request.message_ids is None else frozenset({"messages"})
    async with connection(ctx.host.pool) as conn:
        current = await agents.get(
            conn, agent_id, organization_id=ctx.caller.organization_id, relations=compared
        )
    if (handle := model_requests.handle_of(request)) is not None:
        ctx.host.catalog.resolve(handle)
    await ctx.host.ref(agent_id).edit(requests.update_edit(request, current, caller=ctx.caller))
    return json(await state(ctx, agent_id, ALL))


async def delete(ctx: Context) -> Response:
    """Delete an agent with its messages; its blocks stay."""
    await own(ctx)
    await ctx.host.ref(ctx.params["agent_id"]).edit(DeleteAgent())
    return json(None)


# --- shared with the routes of what belongs to an agent -----------------------------------------


async def own(ctx: Context) -> str:
    """Return the path's agent id, if the caller's organisation has that agent.

    Raises:
        NotFoundError: It has not.
    """
    async with connection(ctx.host.pool) as conn:
        await agents.check(conn, ctx.params["agent_id"], organization_id=ctx.caller.organization_id)
    return ctx.params["agent_id"]


async def state(ctx: Context, agent_id: str, wanted: Wanted = ALL) -> AgentState:
    """Return an agent as of its last commit.

    Raises:
        NotFoundError: The caller's organisation has no such agent.
    """
    async with connection(ctx.host.pool) as conn:
        profile = await agents.get(
            conn, agent_id, organization_id=ctx.caller.organization_id, relations=wanted.relations
        )
        asked = await pending.of_conversations(conn, [agent_id]) if wanted.pending else {}
    return states(ctx, [profile], wanted, asked)[0]


def states(
    ctx: Context, found: list[Profile], wanted: Wanted, asked: Mapping[str, PendingRequest] | None = None
) -> list[AgentState]:
    """Return agents as clients see them, with the relations that are wanted.

    `asked` is what their own conversations wait for, by agent.
    """
    refs = {profile.agent.settings.model: _ref(ctx.host.catalog, profile) for profile in found}
    return [
        letta_agents.agent_state(
            profile,
            refs[profile.agent.settings.model],
            tags=wanted.tags,
            pending=(asked or {}).get(profile.agent.id),
        )
        for profile in found
    ]


def _ref(catalog: Catalog, profile: Profile) -> ModelRef:
    handle = profile.agent.settings.model
    try:
        return catalog.resolve(handle).ref
    except UnknownModelError:  # a provider that was taken away must not hide the agents that use it
        return letta_models.unresolved(handle)


def wanted_by(ctx: Context, query: IncludeQuery | ListQuery) -> Wanted:
    """Return the relations that a request asks for."""
    if not ctx.modern and not query.include and query.include_relationships is None:
        return ALL
    older = (_OLDER_NAMES.get(name, f"agent.{name}") for name in query.include_relationships or ())
    names: set[str] = {*query.include, *older}
    relations: set[Relation] = {"messages"}
    if "agent.blocks" in names:
        relations.add("blocks")
    if "agent.tools" in names:
        relations.add("tools")
    return Wanted(frozenset(relations), "agent.tags" in names, "agent.pending_approval" in names)


def _filter(ctx: Context, query: CountQuery) -> AgentFilter | None:
    """Return the filter, or `None` where nothing can match: this release has no identities."""
    if query.identity_id is not None or query.identifier_keys:
        return None
    return AgentFilter(
        organization_id=ctx.caller.organization_id,
        name=query.name,
        tags=query.tags,
        match_all_tags=query.match_all_tags,
        query_text=query.query_text,
        project_id=query.project_id,
        template_id=query.template_id,
        base_template_id=query.base_template_id,
        last_stop_reason=query.last_stop_reason,
        created_by_id=query.created_by_id,
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/agents/",
        endpoint=create,
        operation_id="create_agent",
        summary="Create an agent",
        body=CreateAgent,
        returns=AgentState,
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/agents/",
        endpoint=list_,
        operation_id="list_agents",
        summary="List agents",
        query=ListQuery,
        returns=list[AgentState],
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/agents/count",
        endpoint=count,
        operation_id="count_agents",
        summary="Count agents",
        query=CountQuery,
        returns=int,
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}",
        endpoint=retrieve,
        operation_id="retrieve_agent",
        summary="Retrieve an agent",
        query=IncludeQuery,
        returns=AgentState,
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}",
        endpoint=update,
        operation_id="modify_agent",
        summary="Change an agent",
        body=UpdateAgent,
        returns=AgentState,
        tags=("agents",),
    ),
    Route(
        method="DELETE",
        path="/v1/agents/{agent_id}",
        endpoint=delete,
        operation_id="delete_agent",
        summary="Delete an agent",
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/blocks/{block_id}/agents",
        endpoint=holders,
        operation_id="list_agents_for_block",
        summary="List the agents that hold a block",
        query=HoldersQuery,
        returns=list[AgentState],
        tags=("blocks",),
    ),
)
