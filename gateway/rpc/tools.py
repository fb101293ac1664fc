"""Methods of tools: the results of calls that a client runs."""

from typing import Literal

from msgspec import Struct

from gateway import decisions, interrupts
from gateway.auth import SEND
from gateway.decisions import MAX_ID_CHARS
from gateway.errors import BadArgumentError, InvalidRequestError, WrongStateError
from gateway.inputs import Content
from gateway.rpc.method import Accepted, Call, Method, accepted, conversation
from storage import pending
from storage.pool import connection
from storage.records import ToolReturnPart

Status = Literal["success", "error"]


class FurtherResult(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The result of another call of the same step."""

    tool_call_id: str
    content: str | Content
    status: Status = "success"


class ResultData(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The result of a call that the client ran: text, or parts (text and images) as REST takes them.

    Where a step has several, `further` holds the others. `agent` or `conversation` says where the call
    waits, which makes the answer repeatable, and is needed where two calls that wait have the same id.
    """

    tool_call_id: str
    content: str | Content
    status: Status = "success"
    further: tuple[FurtherResult, ...] = ()
    agent: str | None = None
    conversation: str | None = None


async def result(call: Call, data: ResultData) -> Accepted:
    """Give an agent the results of the calls that it waits for."""
    first = FurtherResult(tool_call_id=data.tool_call_id, content=data.content, status=data.status)
    results = (first, *data.further)
    for one in results:
        if not 0 < len(one.tool_call_id) <= MAX_ID_CHARS:
            raise InvalidRequestError(f"an id has 1 to {MAX_ID_CHARS} characters", param="/toolCallId")
    if len({one.tool_call_id for one in results}) < len(results):
        raise InvalidRequestError("a call has one result", param="/further")
    agent_id, conversation_id = await _where(call, data)
    receipt = await interrupts.answer(
        call.host,
        call.caller,
        [_part(one, "/content" if one is first else "/further") for one in results],
        agent_id=agent_id,
        conversation_id=conversation_id,
    )
    return await accepted(call, receipt)


def _part(one: FurtherResult, at: str) -> ToolReturnPart:
    text, images = decisions.returned(one.content, at)
    return ToolReturnPart(one.tool_call_id, "", one.status, text, images=images)


async def _where(call: Call, data: ResultData) -> tuple[str, str]:
    """Return (agent, conversation) of the call."""
    if data.agent is not None or data.conversation is not None:
        where = await conversation(call, data.agent, data.conversation)
        return where.agent_id, where.id
    async with connection(call.host.pool) as conn:
        found = await pending.of_call(conn, data.tool_call_id, organization_id=call.caller.organization_id)
    found = [r for r in found if call.caller.agents is None or r.agent_id in call.caller.agents]
    if not found:
        raise WrongStateError(f"nothing waits for an answer to {data.tool_call_id}")
    if len(found) > 1:
        raise BadArgumentError(
            "several conversations wait for a call of this id: name one", param="/conversation"
        )
    return found[0].agent_id, found[0].conversation_id


METHODS: tuple[Method, ...] = (
    Method(
        name="tool.result",
        data=ResultData,
        answer=Accepted,
        scope=SEND,
        run=result,
        summary="Give an agent the result of a call that the client ran",
        errors=(
            "400: the call waits for a decision, several calls of this id wait, or its model sees no images",
            "404: no such agent or conversation",
            "409: nothing waits for the call, or other calls of its step lack a result; the text names them",
        ),
    ),
)
