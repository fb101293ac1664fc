"""What the conversations of an agent wait for: calls to approve, and calls that a client runs."""

from datetime import datetime
from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from actors.commands import RequireApproval
from gateway.app import Context, Route, json
from gateway.letta.agents import AgentState
from gateway.rest import agents as agent_routes
from storage import pending
from storage.pending_records import PendingRequest
from storage.pool import connection


class WaitingCall(Struct, frozen=True, kw_only=True):
    """A call that waits: `approval` for a decision, `client` for the result that a client gets."""

    tool_call_id: str
    name: str
    arguments: str
    kind: Literal["approval", "client"]


class PendingRequestOut(Struct, frozen=True, kw_only=True):
    """A request that waits for an answer; `id` is that of its message. Null is the agent's own conversation.

    Nobody answers until `expires_at`: then the server does, as its setting `approval_default` says.
    """

    id: str
    agent_id: str
    conversation_id: str | None
    run_id: str
    step_id: str
    calls: tuple[WaitingCall, ...]
    created_at: datetime
    expires_at: datetime


class ApprovalRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether calls of the tool need an approval from now on."""

    requires_approval: bool


async def list_(ctx: Context) -> Response:
    """Return every request that waits in a conversation of an agent, oldest first."""
    agent_id = await agent_routes.own(ctx)
    async with connection(ctx.host.pool) as conn:
        found = await pending.of_agent(conn, agent_id)
    return json([_show(request) for request in found])


async def modify_rule(ctx: Context) -> Response:
    """Say whether calls of a tool need an approval. What waits already goes on waiting."""
    rule = await ctx.body(ApprovalRule)
    agent_id = await agent_routes.own(ctx)
    edit = RequireApproval(ctx.params["tool_name"], rule.requires_approval)
    await ctx.host.ref(agent_id).edit(edit)
    return json(None if ctx.modern else await agent_routes.state(ctx, agent_id))


def _show(request: PendingRequest) -> PendingRequestOut:
    own = request.conversation_id == request.agent_id
    return PendingRequestOut(
        id=request.message_id,
        agent_id=request.agent_id,
        conversation_id=None if own else request.conversation_id,
        run_id=request.run_id,
        step_id=request.step_id,
        calls=tuple(
            WaitingCall(tool_call_id=c.id, name=c.name, arguments=c.arguments, kind=c.kind)
            for c in request.calls
        ),
        created_at=request.created_at,
        expires_at=request.expires_at,
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/pending-requests",
        endpoint=list_,
        operation_id="list_pending_requests",
        summary="List what an agent's conversations wait for",
        returns=list[PendingRequestOut],
        tags=("agents",),
    ),
    Route(
        method="PATCH",
        path="/v1/agents/{agent_id}/tools/approval/{tool_name}",
        endpoint=modify_rule,
        operation_id="modify_approval_for_tool",
        summary="Say whether calls of a tool need an approval",
        body=ApprovalRule,
        returns=AgentState | None,
        tags=("agents",),
    ),
)
