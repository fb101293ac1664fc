"""Applies edits to a live agent: one fenced transaction each, under the actor's commit turn."""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, assert_never

import anyio
import msgspec
from msgspec.structs import asdict, replace

from actors import approvals, boot, clock
from actors.commands import (
    AttachArchive,
    AttachBlock,
    AttachTool,
    CreateConversation,
    DeleteAgent,
    DeleteConversation,
    DeletePassage,
    DetachArchive,
    DetachBlock,
    DetachTool,
    Edit,
    ForkConversation,
    InsertPassages,
    PartForks,
    Recompile,
    RequireApproval,
    ResetMessages,
    UpdateAgent,
    UpdateBlock,
    UpdateConversation,
)
from actors.committer import OUTAGE_DEADLINE, RETRY_DELAYS
from actors.errors import InvalidEditError
from actors.thread import Thread, compile_for, text_parts
from storage import activation, archives, checkpoints, conversations, forks, passages, pending
from storage import edits as rows
from storage.archives import Holdings
from storage.checkpoints import Checkpoint
from storage.errors import NotFoundError, UnavailableError
from storage.pool import Conn, connection
from storage.records import Agent, AgentChanges, AgentSettings, Block, Conversation, JsonObject, Message, Tool

if TYPE_CHECKING:
    from actors.agent import Actor

BLOCK_RETRIES = 20  # lost compare-and-sets before a shared block counts as contended


class _Outcome:
    """What an edit did, read back inside its transaction; hot state takes it after the commit."""

    def __init__(self, actor: "Actor") -> None:
        self.agent: Agent = actor.agent
        self.blocks: tuple[Block, ...] | None = None
        self.tools: tuple[Tool, ...] | None = None
        self.conversation: Conversation | None = None
        self.holdings: Holdings | None = None
        self.initial: tuple[Message, ...] = ()
        self.system: dict[str, tuple[str, int]] = {}


async def apply(actor: "Actor", edit: Edit) -> None:
    """Apply an edit and return once it is durable. Shielded: it is never half told.

    A commit whose answer was lost is looked up before anything else; until then the actor is silent.
    What fails before COMMIT is sent fails at once.

    Raises:
        NotFoundError, ConflictError, InvalidEditError, UnavailableError, FencedError
    """
    checkpoint_id = clock.new_id("ckpt")
    outcome = _Outcome(actor)
    committing = False
    actor.commons.check_lease()
    with actor.commons.hearing() as heard:
        try:
            async with connection(actor.commons.pool) as conn:
                gate = rows.commit(
                    conn,
                    agent_id=actor.agent.id,
                    fence=actor.agent.fence,
                    version=actor.version,
                    checkpoint_id=checkpoint_id,
                )
                async with gate as tx:
                    await _write(tx, actor, edit, outcome)
                    committing = True
        except UnavailableError:
            if not committing or not await _landed(actor, checkpoint_id):
                raise
        actor.version += 1
        _take(actor, edit, outcome)
        for block in heard:
            actor.block_is(block)


async def _landed(actor: "Actor", checkpoint_id: str) -> bool:
    """Find out whether the edit is in the database; hold the commit turn until that is known."""
    probe = Checkpoint(
        id=checkpoint_id, agent_id=actor.agent.id, fence=actor.agent.fence, version=actor.version
    )
    deadline = clock.monotonic() + OUTAGE_DEADLINE
    for delay in (*RETRY_DELAYS, *[RETRY_DELAYS[-1]] * int(OUTAGE_DEADLINE)):
        await anyio.sleep(delay)
        try:
            async with connection(actor.commons.pool) as conn:
                return (await checkpoints.landed(conn, [probe]))[0]
        except UnavailableError:
            if clock.monotonic() > deadline:
                break
    # Nobody knows what it holds: the next activation reads the truth.
    actor.population.end(actor, but=asyncio.current_task())
    return False


async def _write(tx: Conn, actor: "Actor", edit: Edit, outcome: _Outcome) -> None:
    agent_id = actor.agent.id
    match edit:
        case UpdateAgent():
            await _update_agent(tx, actor, edit, outcome)
        case AttachBlock(block_id):
            await rows.attach_block(tx, agent_id, block_id)
            outcome.blocks = await activation.blocks_of(tx, agent_id)
        case DetachBlock(block_id):
            await rows.detach_block(tx, agent_id, block_id)
            outcome.blocks = await activation.blocks_of(tx, agent_id)
        case UpdateBlock():
            await _update_block(tx, agent_id, edit)
            outcome.blocks = await activation.blocks_of(tx, agent_id)
        case AttachTool(tool_id):
            new = [tool_id] if await rows.attach_tool(tx, agent_id, tool_id) else []
            outcome.tools = await activation.tools_of(tx, agent_id)
            await _ask_first(tx, new, outcome)
        case DetachTool(tool_id):
            await rows.detach_tool(tx, agent_id, tool_id)
            outcome.tools = await activation.tools_of(tx, agent_id)
        case InsertPassages(written):
            await passages.insert_for_agent(tx, agent_id, written)
            outcome.holdings = await archives.holdings(tx, agent_id)
        case DeletePassage(passage_id):
            await passages.delete_of_agent(tx, agent_id, passage_id)
            outcome.holdings = await archives.holdings(tx, agent_id)
        case AttachArchive(archive_id):
            await archives.attach(tx, agent_id, archive_id)
            outcome.holdings = await archives.holdings(tx, agent_id)
        case DetachArchive(archive_id):
            await archives.detach(tx, agent_id, archive_id)
            outcome.holdings = await archives.holdings(tx, agent_id)
        case RequireApproval():
            await _update_agent(tx, actor, _with_approval(actor, edit), outcome)
        case CreateConversation():
            await _create_conversation(tx, actor, edit, outcome)
        case ForkConversation():
            await _fork(tx, actor, edit, outcome)
        case PartForks(conversation_id, position):
            await forks.part(tx, conversation_id, position)
        case UpdateConversation(conversation_id, changes):
            given = {name: value for name, value in asdict(changes).items() if value is not msgspec.UNSET}
            outcome.conversation = replace(actor.thread(conversation_id).conversation, **given)
            await rows.update_conversation(tx, outcome.conversation, changes)
        case DeleteConversation(conversation_id):
            await rows.delete_conversation(tx, agent_id, conversation_id)
            await pending.clear(tx, conversation_id)
        case ResetMessages(conversation_id, add_initial):
            outcome.initial = _initial(actor, conversation_id) if add_initial else ()
            await rows.reset_messages(tx, agent_id, conversation_id, outcome.initial)
            await pending.clear(tx, conversation_id)
            await _rebuild(tx, actor, actor.thread(conversation_id), outcome)
        case Recompile(conversation_id):
            await _rebuild(tx, actor, actor.thread(conversation_id), outcome)
        case DeleteAgent():
            await rows.delete_agent(tx, agent_id)
        case _:
            assert_never(edit)
    if outcome.blocks is not None or outcome.agent is not actor.agent or outcome.holdings is not None:
        await _recompile(tx, actor, outcome)


async def _update_agent(tx: Conn, actor: "Actor", edit: UpdateAgent, outcome: _Outcome) -> None:
    agent, changes = actor.agent, edit.changes
    settings = agent.settings
    if changes.settings is not msgspec.UNSET:
        merged = {**msgspec.to_builtins(settings), **changes.settings}
        try:
            settings = msgspec.convert(merged, AgentSettings)
        except msgspec.ValidationError as error:
            raise InvalidEditError(f"the settings do not fit together: {error}", field="settings") from error
    outcome.agent = agent = replace(
        agent,
        name=agent.name if changes.name is msgspec.UNSET else changes.name,
        tags=agent.tags if changes.tags is msgspec.UNSET else changes.tags,
        hidden=agent.hidden if changes.hidden is msgspec.UNSET else changes.hidden,
        settings=settings,
        last_updated_by_id=changes.last_updated_by_id or agent.last_updated_by_id,
        updated_at=clock.now(),
    )
    await rows.update_agent(
        tx,
        agent.id,
        name=agent.name,
        tags=agent.tags,
        hidden=agent.hidden,
        settings=settings,
        user_id=changes.last_updated_by_id,
    )
    if edit.block_ids is not msgspec.UNSET:
        await rows.replace_blocks(tx, agent.id, edit.block_ids)
        outcome.blocks = await activation.blocks_of(tx, agent.id)
    if edit.tool_ids is not msgspec.UNSET:
        new = await rows.replace_tools(tx, agent.id, edit.tool_ids)
        outcome.tools = await activation.tools_of(tx, agent.id)
        await _ask_first(tx, new, outcome)


async def _ask_first(tx: Conn, new: Collection[str], outcome: _Outcome) -> None:
    """Let calls of tools that the agent was just given need an approval, where that is their default."""
    agent = outcome.agent
    rules = approvals.with_defaults(
        agent.settings.tool_rules, [tool for tool in outcome.tools or () if tool.id in new]
    )
    if len(rules) == len(agent.settings.tool_rules):
        return
    settings = replace(agent.settings, tool_rules=rules)
    outcome.agent = replace(agent, settings=settings, updated_at=clock.now())
    await rows.update_agent(
        tx, agent.id, name=agent.name, tags=agent.tags, hidden=agent.hidden, settings=settings, user_id=None
    )


def _with_approval(actor: "Actor", edit: RequireApproval) -> UpdateAgent:
    """Return the update that adds or takes away the one rule; the others stay as they are."""
    if edit.tool_name not in actor.toolbox.tools:
        raise NotFoundError("tool", edit.tool_name)
    mine: JsonObject = {"type": "requires_approval", "tool_name": edit.tool_name}
    others = [
        rule
        for rule in actor.agent.settings.tool_rules
        if rule.get("type") != mine["type"] or rule.get("tool_name") != edit.tool_name
    ]
    rules = [*others, mine] if edit.required else others
    return UpdateAgent(changes=AgentChanges(settings={"tool_rules": rules}))


async def _update_block(tx: Conn, agent_id: str, edit: UpdateBlock) -> None:
    """Write the block by compare-and-set; without `if_version` a lost race is repeated."""
    for _ in range(BLOCK_RETRIES):
        held = {b.label: b for b in await activation.blocks_of(tx, agent_id)}
        block = held.get(edit.label)
        if block is None:
            raise NotFoundError("block", edit.label)
        if edit.if_version is not None and edit.if_version != block.version:
            raise InvalidEditError(
                f"block {edit.label!r} has version {block.version}, not {edit.if_version}; read it again",
                field="if_version",
                conflict=True,
            )
        if await rows.update_block(tx, block.id, version=block.version, changes=edit.changes):
            return
    raise InvalidEditError(
        f"block {edit.label!r} is being written too often; try again", field="value", conflict=True
    )


async def _create_conversation(tx: Conn, actor: "Actor", edit: CreateConversation, outcome: _Outcome) -> None:
    now = clock.now()
    conversation = Conversation(
        id=edit.conversation_id,
        organization_id=actor.agent.organization_id,
        agent_id=actor.agent.id,
        created_at=now,
        updated_at=now,
        summary=edit.summary,
        description=edit.description,
        model=edit.model,
        model_settings=edit.model_settings,
    )
    text = _compile(actor, actor.agent, actor.block_list(), Thread(conversation), actor.holdings)
    await rows.create_conversation(
        tx,
        actor.agent.id,
        conversation_id=conversation.id,
        summary=edit.summary,
        description=edit.description,
        model=edit.model,
        model_settings=edit.model_settings,
        system_id=clock.new_id("message"),
        system=text_parts(text),
        system_tokens=actor.commons.counter.count(text),
    )
    outcome.conversation = conversation


async def _fork(tx: Conn, actor: "Actor", edit: ForkConversation, outcome: _Outcome) -> None:
    organization_id = actor.agent.organization_id
    parent = await conversations.get(tx, edit.parent_id, organization_id=organization_id)
    if parent.agent_id != actor.agent.id:
        raise NotFoundError("conversation", parent.id)
    point = await forks.point_of(tx, parent, edit.message_id)
    thread = Thread(replace(parent, id=edit.conversation_id, end_position=point.position + 1))
    text = _compile(actor, actor.agent, actor.block_list(), thread, actor.holdings)
    await forks.create(
        tx,
        parent,
        point,
        conversation_id=edit.conversation_id,
        system_id=clock.new_id("message"),
        system=text_parts(text),
        system_tokens=actor.commons.counter.count(text),
        summary_id=clock.new_id("message"),
    )
    outcome.conversation = await conversations.get(tx, edit.conversation_id, organization_id=organization_id)


async def _recompile(tx: Conn, actor: "Actor", outcome: _Outcome) -> None:
    """Rebuild the default conversation's stored prompt; the others follow at their next turn."""
    await _rebuild(tx, actor, actor.threads[actor.agent.id], outcome)


def _initial(actor: "Actor", conversation_id: str) -> tuple[Message, ...]:
    """Return the messages that an agent begins with, as they follow on what a conversation holds."""
    begin = actor.thread(conversation_id).end_position
    return tuple(
        replace(m, conversation_id=conversation_id, position=begin + i)
        for i, m in enumerate(boot.sequence(actor.agent, None, at=clock.now()))
    )


async def _rebuild(tx: Conn, actor: "Actor", thread: Thread, outcome: _Outcome) -> None:
    """Store the conversation's prompt as it would be compiled now."""
    blocks = list(outcome.blocks) if outcome.blocks is not None else actor.block_list()
    text = _compile(actor, outcome.agent, blocks, thread, outcome.holdings or actor.holdings)
    tokens = actor.commons.counter.count(text)
    await rows.rewrite_system(tx, thread.id, text_parts(text), tokens)
    outcome.system[thread.id] = (text, tokens)


def _compile(actor: "Actor", agent: Agent, blocks: list[Block], thread: Thread, holdings: Holdings) -> str:
    return compile_for(
        agent,
        blocks,
        thread,
        at=clock.now(),
        line_numbers=actor.line_numbers(),
        archival=holdings.passages,
    )


def _take(actor: "Actor", edit: Edit, outcome: _Outcome) -> None:
    """Take the committed edit into hot state. No await: nobody sees half of it."""
    if outcome.agent is not actor.agent:
        actor.bind(outcome.agent, tuple(actor.toolbox.tools.values()))
        actor.memory_version += 1
    if outcome.tools is not None:
        actor.set_tools(outcome.tools)
    if outcome.blocks is not None:
        _take_blocks(actor, outcome.blocks)
    if outcome.conversation is not None:
        _take_conversation(actor, outcome.conversation)
    if outcome.holdings is not None:
        actor.holds(outcome.holdings)
    if isinstance(edit, PartForks):
        for thread in actor.threads.values():
            thread.part(edit.conversation_id, edit.position)
    if isinstance(edit, InsertPassages):
        actor.stored(edit.passages)
    if isinstance(edit, ResetMessages):
        actor.reset(actor.threads[edit.conversation_id], outcome.initial)
    if isinstance(edit, DeleteConversation):
        actor.commons.logs.drop(edit.conversation_id, actor.agent.id)
        actor.drop_conversation(edit.conversation_id)
    for conversation_id, (text, tokens) in outcome.system.items():
        thread = actor.threads[conversation_id]
        # A running turn keeps the prompt it began with; it is on the wire already.
        if thread.loaded and thread.turn is None:
            thread.set_system(thread.system_id, text, tokens)
            thread.compiled_for = actor.memory_version


def _take_blocks(actor: "Actor", blocks: tuple[Block, ...]) -> None:
    """Hold these blocks from now on, and tell those that hold them, too, which of them changed."""
    before = {b.id: b.version for b in actor.blocks.values()}
    for block in blocks:
        if before.get(block.id, block.version) < block.version:
            actor.block_is(block)
            actor.commons.spread(block, but=actor)
    actor.hold_blocks(blocks)


def _take_conversation(actor: "Actor", conversation: Conversation) -> None:
    thread = actor.threads.get(conversation.id)
    if thread is None:
        actor.add_conversation(conversation)
    else:
        thread.conversation = conversation
