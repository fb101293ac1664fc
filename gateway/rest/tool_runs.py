"""Runs one tool of an agent for a client, as `POST /v1/agents/{agent_id}/tools/{tool_name}/run`."""

from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from gateway.app import Context, Route, json
from gateway.rest import agents as agent_routes
from storage.records import JsonObject

RUN_SECONDS = 900.0  # a turn that runs ends first, and then the tool has its own deadline


class RunRequest(Struct, frozen=True, kw_only=True):
    """What to call the tool with; arguments that it does not take are an error in its result."""

    args: JsonObject = {}


class ToolExecutionResult(Struct, frozen=True, kw_only=True):
    """What a tool returned. Of one that failed `func_return` is null and `stderr` says why."""

    status: Literal["success", "error"]
    func_return: str | None = None
    agent_state: JsonObject | None = None
    stdout: tuple[str, ...] = ()
    stderr: tuple[str, ...] = ()
    sandbox_config_fingerprint: str | None = None


async def run(ctx: Context) -> Response:
    """Run a tool that the agent holds between two turns of its own conversation; no message tells of it."""
    request = await ctx.optional_body(RunRequest) or RunRequest()
    agent_id = await agent_routes.own(ctx)
    result = await ctx.host.ref(agent_id).call_tool(ctx.params["tool_name"], request.args)
    if result.status == "success":
        return json(ToolExecutionResult(status="success", func_return=result.text, stdout=result.stdout))
    return json(ToolExecutionResult(status="error", stderr=result.stderr or (result.text,)))


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/agents/{agent_id}/tools/{tool_name}/run",
        endpoint=run,
        operation_id="run_tool_for_agent",
        summary="Run a tool of an agent",
        body=RunRequest,
        body_optional=True,
        returns=ToolExecutionResult,
        deadline_seconds=RUN_SECONDS,
        tags=("agents",),
    ),
)
