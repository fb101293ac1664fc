"""Routes of what this server has none of, and whose lists are therefore empty: folders, MCP servers …"""

from msgspec import Struct
from starlette.responses import Response

from gateway.app import Context, Endpoint, Route, json
from gateway.rest import agents as agent_routes
from storage.records import JsonObject


class AgentFiles(Struct, frozen=True, kw_only=True):
    """A page of the files of an agent: there are none."""

    files: tuple[JsonObject, ...] = ()
    next_cursor: str | None = None
    has_more: bool = False


async def none_of_agent(ctx: Context) -> Response:
    """Return an empty list, of an agent that is there."""
    await agent_routes.own(ctx)
    return json(())


async def no_files(ctx: Context) -> Response:
    """Return an empty page, of an agent that is there."""
    await agent_routes.own(ctx)
    return json(AgentFiles())


async def none(ctx: Context) -> Response:
    """Return an empty list."""
    del ctx
    return json(())


async def zero(ctx: Context) -> Response:
    """Return that there are none."""
    del ctx
    return json(0)


async def nothing_by_name(ctx: Context) -> Response:
    """Return an object without members."""
    del ctx
    return json({})


def _list(path: str, operation_id: str, what: str, endpoint: Endpoint = none) -> Route:
    return Route(
        method="GET",
        path=path,
        endpoint=endpoint,
        operation_id=operation_id,
        summary=f"List {what}: there are none",
        returns=list[JsonObject],
        tags=("empty",),
    )


def _count(path: str, operation_id: str, what: str) -> Route:
    return Route(
        method="GET",
        path=path,
        endpoint=zero,
        operation_id=operation_id,
        summary=f"Count {what}: there are none",
        returns=int,
        tags=("empty",),
    )


ROUTES: tuple[Route, ...] = (
    _list("/v1/folders/", "list_folders", "folders"),
    _count("/v1/folders/count", "count_folders", "folders"),
    _list("/v1/sources/", "list_sources", "sources"),
    _count("/v1/sources/count", "count_sources", "sources"),
    _list("/v1/identities/", "list_identities", "identities"),
    _count("/v1/identities/count", "count_identities", "identities"),
    _list("/v1/groups/", "list_groups", "groups"),
    _count("/v1/groups/count", "count_groups", "groups"),
    _list("/v1/mcp-servers/", "mcp_list_mcp_servers", "MCP servers"),
    Route(
        method="GET",
        path="/v1/tools/mcp/servers",
        endpoint=nothing_by_name,
        operation_id="list_mcp_servers",
        summary="MCP servers by name: there are none",
        returns=JsonObject,
        tags=("empty",),
    ),
    _list("/v1/providers/", "list_providers", "providers that clients added"),
    _list("/v1/jobs/", "list_jobs", "jobs"),
    _list("/v1/jobs/active", "list_active_jobs", "active jobs"),
    _list("/v1/messages/batches", "list_batches", "batches"),
    _list("/v1/sandbox-config/", "list_sandbox_configs", "sandboxes"),
    _list("/v1/agents/{agent_id}/folders", "list_folders_for_agent", "an agent's folders", none_of_agent),
    _list("/v1/agents/{agent_id}/sources", "list_agent_sources", "an agent's sources", none_of_agent),
    _list("/v1/agents/{agent_id}/groups", "list_groups_for_agent", "an agent's groups", none_of_agent),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/files",
        endpoint=no_files,
        operation_id="list_files_for_agent",
        summary="List an agent's files: there are none",
        returns=AgentFiles,
        tags=("empty",),
    ),
)
