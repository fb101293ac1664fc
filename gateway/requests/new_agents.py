"""An agent made ready to be stored, from what a request asks for and what its organisation has."""

from actors import boot, prompt
from actors.clock import new_id, now
from actors.llm.model import ModelRef
from actors.tokens import estimate
from gateway.app import Context
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.requests import agents as requests
from gateway.requests import models
from gateway.requests.agents import CreateAgent
from storage import blocks, tools
from storage.agents import NewAgent
from storage.pool import connection
from storage.records import Agent, Block, Message, TextPart

MAX_PROJECT_CHARS = 256


async def build(ctx: Context, request: CreateAgent) -> tuple[NewAgent, ModelRef]:
    """Return the agent that a request asks for, ready to be stored, and its model.

    Raises:
        UnknownModelError, NotFoundError, and what `agents.new_agent` and `new_blocks` raise.
    """
    requests.refuse_later(request)
    handle = models.handle_of(request) or ctx.settings.model or ctx.host.catalog.default
    if handle is None:
        raise BadArgumentError(
            "no model was named, and the server has no default: set model to a handle like "
            "openai/gpt-4o-mini, or start the server with --model",
            param="/model",
        )
    ref = ctx.host.catalog.resolve(handle).ref
    held = await _held(ctx, requests.block_ids(request))
    at = now()
    agent = requests.new_agent(
        request,
        agent_id=new_id("agent"),
        model=ref,
        project_id=_project(ctx),
        caller=ctx.caller,
        at=at,
        tool_names=await _names(ctx, request, ref),
    )
    made = requests.new_blocks(request, held, caller=ctx.caller, at=at)
    new = NewAgent(
        agent=agent,
        system=_system_message(agent, (*held, *made)),
        history=boot.sequence(agent, requests.first_messages(request), at=at),
        blocks=made,
        held=held,
        tools=requests.tool_keys(request),
    )
    return new, ref


async def _names(ctx: Context, request: CreateAgent, model: ModelRef) -> list[str]:
    """Return the names of the tools that a request names by id, where base rules need them."""
    if not request.tool_ids or not requests.begins_with_rules(request, model):
        return []
    async with connection(ctx.host.pool) as conn:
        return await tools.names(conn, request.tool_ids, organization_id=ctx.caller.organization_id)


async def _held(ctx: Context, block_ids: tuple[str, ...]) -> tuple[Block, ...]:
    if not block_ids:
        return ()
    async with connection(ctx.host.pool) as conn:
        return tuple(await blocks.get_many(conn, block_ids, organization_id=ctx.caller.organization_id))


def _project(ctx: Context) -> str | None:
    """Return the project that the SDKs name in a header; it is a tag, not a permission."""
    given = ctx.headers.get(b"x-project-id")
    if given is None:
        return None
    if len(given) > MAX_PROJECT_CHARS:
        raise InvalidRequestError(f"X-Project-Id is longer than {MAX_PROJECT_CHARS} bytes")
    return given.decode("latin-1")


def _system_message(agent: Agent, held: tuple[Block, ...]) -> Message:
    text = prompt.compile_system(
        agent,
        held,
        conversation_id=agent.id,
        recompiled_at=agent.created_at,
        previous_messages=0,
        line_numbers=prompt.numbers_lines(agent.settings),
    )
    return Message(
        id=new_id("message"),
        organization_id=agent.organization_id,
        agent_id=agent.id,
        conversation_id=agent.id,
        position=0,
        role="system",
        content=(TextPart(text),),
        created_at=agent.created_at,
        tokens=estimate(text),
    )
