"""Methods of agents: send them messages, list them."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from actors.commands import SendMessages, WhenBusy
from actors.status import AgentFigures, Status
from gateway import decisions
from gateway.auth import READ, SEND
from gateway.decode import Limit, Order
from gateway.inputs import MAX_STEPS
from gateway.rpc import messages as rpc_messages
from gateway.rpc.messages import ClientMessageId, MessageData
from gateway.rpc.method import Accepted, Call, Method, conversation, names
from storage import agents
from storage.agents import AgentFilter
from storage.keyset import Page
from storage.pool import connection
from storage.records import Agent, JsonObject


class SendData(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Messages for an agent. Without `conversation`, or with `default`, it is the agent's own.

    `agent` may be left out where a conversation is named. `clientMessageId` makes the call repeatable for
    24 hours. `whenBusy`: wait behind what runs (`queue`), join it at its next step (`steer`), end it
    (`interrupt`), or be refused (`reject`). `clientTools` are run by the client: see `tool.result`.
    """

    messages: tuple[MessageData, ...]
    agent: str | None = None
    conversation: str | None = None
    client_message_id: ClientMessageId | None = None
    when_busy: WhenBusy = "queue"
    max_steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)] = 50
    model: str | None = None
    client_tools: tuple[JsonObject, ...] | None = None


class ListData(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which agents: at most `limit`, from the one after `after` on. `query` is looked for in their names."""

    limit: Limit = 50
    after: str | None = None
    order: Order = "desc"
    name: str | None = None
    query: str | None = None
    tags: tuple[str, ...] | None = None


class AgentRow(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An agent, and how it is doing. Latencies are of its last step, in milliseconds.

    What only an agent in memory has (rates, latencies, tokens of its window) is left out where it rests.
    """

    id: str
    name: str
    model: str
    created_at: datetime
    status: Status
    description: str | None = None
    tags: tuple[str, ...] = ()
    queued: int = 0
    active: int = 0
    tokens_per_second: float = 0.0
    first_token_ms: float | None = None
    step_ms: float | None = None
    checkpoint_ms: float | None = None
    context_tokens: int | None = None
    context_limit: int | None = None


class AgentPage(Struct, frozen=True):
    """Agents in the order asked for, by the time they were created. `more`: there are others after them."""

    agents: list[AgentRow]
    more: bool


async def send(call: Call, data: SendData) -> Accepted:
    """Send messages to an agent; answered when they are durable."""
    agent_id, conversation_id = names(call, data.agent, data.conversation)
    messages = rpc_messages.read(data.messages)
    if data.model is not None:
        call.host.catalog.resolve(data.model)
    if agent_id is None:
        agent_id = (await conversation(call, None, conversation_id)).agent_id
    command = SendMessages(
        conversation_id=conversation_id,
        messages=messages,
        max_steps=data.max_steps,
        when_busy=data.when_busy,
        background=True,
        model=data.model,
        client_tools=decisions.client_tools(data.client_tools, param="/clientTools"),
        request_config={"run_type": "agent_send"},
    )
    return await rpc_messages.tell(call, command, agent_id=agent_id, client_message_id=data.client_message_id)


async def list_(call: Call, data: ListData) -> AgentPage:
    """List the agents that the caller may address."""
    where = AgentFilter(
        organization_id=call.caller.organization_id,
        name=data.name,
        query_text=data.query,
        tags=data.tags,
        ids=None if call.caller.agents is None else sorted(call.caller.agents),
    )
    page = Page(limit=data.limit + 1, after=data.after, descending=data.order == "desc")
    async with connection(call.host.pool) as conn:
        found = await agents.list_page(conn, page, where=where, relations=frozenset())
    rows = [_row(call, profile.agent) for profile in found[: data.limit]]
    return AgentPage(rows, more=len(found) > data.limit)


def _row(call: Call, agent: Agent) -> AgentRow:
    figures = call.host.figures(agent.id)
    if figures is None:
        status = "waiting_for_approval" if call.host.is_asking(agent.id) else "idle"
        figures = AgentFigures(agent_id=agent.id, name=agent.name, status=status)
    return AgentRow(
        id=agent.id,
        name=agent.name,
        model=agent.settings.model,
        created_at=agent.created_at,
        status=figures.status,
        description=agent.settings.description,
        tags=agent.tags,
        queued=figures.queued,
        active=figures.active,
        tokens_per_second=figures.tokens_per_second,
        first_token_ms=figures.first_token_ms,
        step_ms=figures.step_ms,
        checkpoint_ms=figures.checkpoint_ms,
        context_tokens=figures.context_tokens,
        context_limit=figures.context_limit,
    )


METHODS: tuple[Method, ...] = (
    Method(
        name="agent.send",
        data=SendData,
        answer=Accepted,
        scope=SEND,
        run=send,
        summary="Send messages to an agent",
        errors=(
            "404: no such agent, conversation or model",
            "409: the same `clientMessageId` came with other messages",
            "409: the conversation is busy and `whenBusy` is `reject`, or it waits for an approval",
            "429: too many messages wait",
        ),
    ),
    Method(
        name="agent.list",
        data=ListData,
        answer=AgentPage,
        scope=READ,
        run=list_,
        summary="List agents, and how they are doing",
        errors=("404: `after` names no agent",),
    ),
)
