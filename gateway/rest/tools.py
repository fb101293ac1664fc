"""Routes of tools: those that an agent holds, and the tools of the organisation."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict
from starlette.responses import Response

from actors.commands import AttachTool, DetachTool, Edit
from gateway.app import Context, Route, json
from gateway.decode import Limit, Order
from gateway.errors import NotSupportedError
from gateway.letta import agents as letta_agents
from gateway.letta.agents import AgentState, LettaTool
from gateway.paging import page_of
from gateway.rest import agents as agent_routes
from storage import tools
from storage.keyset import Page
from storage.pool import connection
from storage.records import JsonObject, Tool
from storage.tools import ToolFilter

EVERY = 1000  # tools of the server's own: there are some ten


class HeldQuery(Struct, frozen=True, kw_only=True):
    """Which page of an agent's tools."""

    limit: Limit | None = 10
    after: str | None = None
    before: str | None = None
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


class CountQuery(Struct, frozen=True, kw_only=True):
    """Which tools."""

    name: str | None = None
    names: tuple[str, ...] | None = None
    tool_ids: tuple[str, ...] | None = None
    search: str | None = None
    tool_types: tuple[str, ...] | None = None
    exclude_tool_types: tuple[str, ...] | None = None
    return_only_letta_tools: bool = False


class ListQuery(CountQuery, frozen=True, kw_only=True):
    """Which tools, and which page of them. Cursors are tool ids and follow the order."""

    limit: Limit | None = 50
    after: str | None = None
    before: str | None = None
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


class UpdateTool(Struct, frozen=True, kw_only=True):
    """What may be changed of a built-in tool: its definition is the server's own, and refused (501).

    `default_requires_approval`: agents that are given the tool from now on ask before they call it, unless
    a rule of theirs is removed again.
    """

    default_requires_approval: bool | UnsetType | None = UNSET
    description: str | None = None
    tags: tuple[str, ...] | None = None
    source_code: str | None = None
    source_type: str | None = None
    json_schema: JsonObject | None = None
    args_json_schema: JsonObject | None = None
    return_char_limit: int | None = None
    pip_requirements: tuple[JsonObject, ...] | None = None
    npm_requirements: tuple[JsonObject, ...] | None = None
    enable_parallel_execution: bool | None = None
    metadata: JsonObject | None = None
    metadata_: JsonObject | None = None


async def list_held(ctx: Context) -> Response:
    """Return a page of the tools that an agent holds."""
    query = ctx.query(HeldQuery)
    agent_id = await agent_routes.own(ctx)
    page = page_of(query, usual=10)
    where = ToolFilter(organization_id=ctx.caller.organization_id, agent_id=agent_id)
    async with connection(ctx.host.pool) as conn:
        return _tools(await tools.list_page(conn, page, where=where))


async def attach(ctx: Context) -> Response:
    """Give an agent a tool. Giving it again changes nothing."""
    return await _edit(ctx, AttachTool(ctx.params["tool_id"]))


async def detach(ctx: Context) -> Response:
    """Take a tool from an agent. Taking what it has not changes nothing."""
    return await _edit(ctx, DetachTool(ctx.params["tool_id"]))


async def _edit(ctx: Context, edit: Edit) -> Response:
    """Apply the edit. SDKs of generation 1.x expect no body, older clients the agent."""
    agent_id = await agent_routes.own(ctx)
    await ctx.host.ref(agent_id).edit(edit)
    return json(None if ctx.modern else await agent_routes.state(ctx, agent_id))


async def retrieve(ctx: Context) -> Response:
    """Return one tool."""
    async with connection(ctx.host.pool) as conn:
        found = await tools.get(conn, ctx.params["tool_id"], organization_id=ctx.caller.organization_id)
    return json(letta_agents.tool(found))


async def modify(ctx: Context) -> Response:
    """Change a tool's default. Agents that hold it already keep what they have."""
    change = await ctx.body(UpdateTool)
    for name, value in asdict(change).items():
        if name != "default_requires_approval" and value is not None:
            raise NotSupportedError(f"{name} of a tool of the server's own is not changed", param=f"/{name}")
    organization_id, tool_id = ctx.caller.organization_id, ctx.params["tool_id"]
    async with connection(ctx.host.pool) as conn:
        if change.default_requires_approval is UNSET:
            found = await tools.get(conn, tool_id, organization_id=organization_id)
        else:
            found = await tools.set_default_approval(
                conn, tool_id, change.default_requires_approval, organization_id=organization_id
            )
    return json(letta_agents.tool(found))


async def list_(ctx: Context) -> Response:
    """Return a page of tools."""
    query = ctx.query(ListQuery)
    page = page_of(query, usual=50)
    async with connection(ctx.host.pool) as conn:
        return _tools(await tools.list_page(conn, page, where=_filter(ctx, query)))


async def add_base(ctx: Context) -> Response:
    """Return the server's own tools: they are there from the start, whoever asks for them to be added."""
    where = ToolFilter(organization_id=ctx.caller.organization_id, built_in_only=True)
    async with connection(ctx.host.pool) as conn:
        return _tools(await tools.list_page(conn, Page(limit=EVERY, descending=False), where=where))


async def count(ctx: Context) -> Response:
    """Return how many tools match."""
    where = _filter(ctx, ctx.query(CountQuery))
    async with connection(ctx.host.pool) as conn:
        return json(await tools.count(conn, where=where))


def _filter(ctx: Context, query: CountQuery) -> ToolFilter:
    return ToolFilter(
        organization_id=ctx.caller.organization_id,
        name=query.name,
        names=query.names,
        tool_ids=query.tool_ids,
        search=query.search,
        tool_types=query.tool_types,
        exclude_tool_types=query.exclude_tool_types,
        built_in_only=query.return_only_letta_tools,
    )


def _tools(found: list[Tool]) -> Response:
    return json([letta_agents.tool(tool) for tool in found])


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/tools",
        endpoint=list_held,
        operation_id="list_tools_for_agent",
        summary="List an agent's tools",
        query=HeldQuery,
        returns=list[LettaTool],
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/tools/attach/{tool_id}",
        endpoint=attach,
        operation_id="attach_tool_to_agent",
        summary="Attach a tool to an agent",
        returns=AgentState | None,
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/tools/detach/{tool_id}",
        endpoint=detach,
        operation_id="detach_tool_from_agent",
        summary="Detach a tool from an agent",
        returns=AgentState | None,
        tags=("agents",),
    ),
    Route(
        method="GET",
        path="/v1/tools/",
        endpoint=list_,
        operation_id="list_tools",
        summary="List tools",
        query=ListQuery,
        returns=list[LettaTool],
        tags=("tools",),
    ),
    Route(
        method="POST",
        path="/v1/tools/add-base-tools",
        endpoint=add_base,
        operation_id="add_base_tools",
        summary="Add the base tools: they are there, and listed",
        returns=list[LettaTool],
        tags=("tools",),
    ),
    Route(
        method="GET",
        path="/v1/tools/count",
        endpoint=count,
        operation_id="count_tools",
        summary="Count tools",
        query=CountQuery,
        returns=int,
        tags=("tools",),
    ),
    Route(
        method="GET",
        path="/v1/tools/{tool_id}",
        endpoint=retrieve,
        operation_id="retrieve_tool",
        summary="Retrieve a tool",
        returns=LettaTool,
        tags=("tools",),
    ),
    Route(
        method="PATCH",
        path="/v1/tools/{tool_id}",
        endpoint=modify,
        operation_id="modify_tool",
        summary="Modify a tool",
        body=UpdateTool,
        returns=LettaTool,
        tags=("tools",),
    ),
)
