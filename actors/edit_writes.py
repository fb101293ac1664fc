"""Writes edits: what each one changes in the database, and what hot state is to take after its commit."""

from collections.abc import Collection
from typing import TYPE_CHECKING, assert_never

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
    OwnMessages,
    PartForks,
    Recompile,
    RequireApproval,
    ResetMessages,
    UpdateAgent,
    UpdateBlock,
    UpdateConversation,
)
from actors.errors import InvalidEditError
from actors.thread import Thread, compile_for, text_parts
from storage import activation, archives, conversations, forks, messages, passages, pending
from storage import edits as rows
from storage.archives import Holdings
from storage.errors import NotFoundError
from storage.pool import Conn
from storage.records import Agent, AgentChanges, AgentSettings, Block, Conversation, JsonObject, Message, Tool

if TYPE_CHECKING:
    from actors.agent import Actor

BLOCK_RETRIES = 20  # lost compare-and-sets before a shared block counts as contended


class Outcome:
    """What an edit did, read back inside its transaction; hot state takes it after the commit."""

    def __init__(self, actor: "Actor") -> None:
        self.agent: Agent = actor.agent
        self.blocks: tuple[Block, ...] | None = None
        self.tools: tuple[Tool, ...] | None = None
        self.conversation: Conversation | None = None
        self.holdings: Holdings | None = None
        self.initial: tuple[Message, ...] = ()
        self.system: dict[str, tuple[str, int]] = {}


async def write(tx: Conn, actor: "Actor", edit: Edit, outcome: Outcome) -> None:
    """Write the edit in an open transaction, and the prompt that shows it; `outcome` says what became of it.

    Raises:
        NotFoundError, ConflictError, InvalidEditError, UnavailableError, FencedError
    """
    match edit:
        case UpdateAgent() | AttachTool() | DetachTool() | RequireApproval() | DeleteAgent():
            await _write_agent(tx, actor, edit, outcome)
        case AttachBlock() | DetachBlock() | UpdateBlock():
            await _write_blocks(tx, actor, edit, outcome)
        case InsertPassages() | DeletePassage() | AttachArchive() | DetachArchive():
            await _write_archival(tx, actor, edit, outcome)
        case CreateConversation() | ForkConversation() | PartForks() | OwnMessages() | UpdateConversation():
            await _write_conversation(tx, actor, edit, outcome)
        case DeleteConversation() | ResetMessages() | Recompile():
            await _write_window(tx, actor, edit, outcome)
        case _:
            assert_never(edit)
    if outcome.blocks is not None or outcome.agent is not actor.agent or outcome.holdings is not None:
        await _recompile(tx, actor, outcome)


async def _write_agent(
    tx: Conn,
    actor: "Actor",
    edit: UpdateAgent | AttachTool | DetachTool | RequireApproval | DeleteAgent,
    outcome: Outcome,
) -> None:
    agent_id = actor.agent.id
    match edit:
        case UpdateAgent():
            await _update_agent(tx, actor, edit, outcome)
        case RequireApproval():
            await _update_agent(tx, actor, _with_approval(actor, edit), outcome)
        case AttachTool(tool_id):
            new = [tool_id] if await rows.attach_tool(tx, agent_id, tool_id) else []
            outcome.tools = await activation.tools_of(tx, agent_id)
            await _ask_first(tx, new, outcome)
        case DetachTool(tool_id):
            await rows.detach_tool(tx, agent_id, tool_id)
            outcome.tools = await activation.tools_of(tx, agent_id)
        case DeleteAgent():
            await rows.delete_agent(tx, agent_id)


async def _write_blocks(
    tx: Conn, actor: "Actor", edit: AttachBlock | DetachBlock | UpdateBlock, outcome: Outcome
) -> None:
    agent_id = actor.agent.id
    match edit:
        case AttachBlock(block_id):
            await rows.attach_block(tx, agent_id, block_id)
        case DetachBlock(block_id):
            await rows.detach_block(tx, agent_id, block_id)
        case UpdateBlock():
            await _update_block(tx, agent_id, edit)
    outcome.blocks = await activation.blocks_of(tx, agent_id)


async def _write_archival(
    tx: Conn,
    actor: "Actor",
    edit: InsertPassages | DeletePassage | AttachArchive | DetachArchive,
    outcome: Outcome,
) -> None:
    agent_id = actor.agent.id
    match edit:
        case InsertPassages(written):
            await passages.insert_for_agent(tx, agent_id, written)
        case DeletePassage(passage_id):
            await passages.delete_of_agent(tx, agent_id, passage_id)
        case AttachArchive(archive_id):
            await archives.attach(tx, agent_id, archive_id)
        case DetachArchive(archive_id):
            await archives.detach(tx, agent_id, archive_id)
    outcome.holdings = await archives.holdings(tx, agent_id)


async def _write_conversation(
    tx: Conn,
    actor: "Actor",
    edit: CreateConversation | ForkConversation | PartForks | OwnMessages | UpdateConversation,
    outcome: Outcome,
) -> None:
    match edit:
        case CreateConversation():
            await _create_conversation(tx, actor, edit, outcome)
        case ForkConversation():
            await _fork(tx, actor, edit, outcome)
        case PartForks(conversation_id, position):
            await forks.part(tx, conversation_id, position)
        case OwnMessages(conversation_id, position):
            fork = actor.thread(conversation_id).conversation
            if (fork.parent_position or 0) > position:
                await forks.own(tx, fork, position)
                outcome.conversation = replace(fork, parent_position=position)
        case UpdateConversation(conversation_id, changes):
            given = {name: value for name, value in asdict(changes).items() if value is not msgspec.UNSET}
            outcome.conversation = replace(actor.thread(conversation_id).conversation, **given)
            await rows.update_conversation(tx, outcome.conversation, changes)


async def _write_window(
    tx: Conn, actor: "Actor", edit: DeleteConversation | ResetMessages | Recompile, outcome: Outcome
) -> None:
    agent_id = actor.agent.id
    match edit:
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


async def _update_agent(tx: Conn, actor: "Actor", edit: UpdateAgent, outcome: Outcome) -> None:
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


async def _ask_first(tx: Conn, new: Collection[str], outcome: Outcome) -> None:
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


async def _create_conversation(tx: Conn, actor: "Actor", edit: CreateConversation, outcome: Outcome) -> None:
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


async def _fork(tx: Conn, actor: "Actor", edit: ForkConversation, outcome: Outcome) -> None:
    organization_id = actor.agent.organization_id
    parent = await conversations.get(tx, edit.parent_id, organization_id=organization_id)
    if parent.agent_id != actor.agent.id:
        raise NotFoundError("conversation", parent.id)
    if await _is_prompt(tx, parent, edit.message_id):
        await _create_conversation(tx, actor, _emptied(parent, edit.conversation_id), outcome)
        return
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


async def _is_prompt(tx: Conn, parent: Conversation, message_id: str | None) -> bool:
    if message_id is None:
        return False
    message = (await messages.by_ids(tx, [message_id])).get(message_id)
    return message is not None and (message.conversation_id, message.position) == (parent.id, 0)


def _emptied(parent: Conversation, conversation_id: str) -> CreateConversation:
    """Return what opens a fork that shares nothing: one that leaves its parent at the system prompt."""
    return CreateConversation(
        conversation_id=conversation_id,
        summary=parent.summary,
        description=parent.description,
        model=parent.model,
        model_settings=parent.model_settings,
    )


async def _recompile(tx: Conn, actor: "Actor", outcome: Outcome) -> None:
    """Rebuild the default conversation's stored prompt; the others follow at their next turn."""
    await _rebuild(tx, actor, actor.threads[actor.agent.id], outcome)


def _initial(actor: "Actor", conversation_id: str) -> tuple[Message, ...]:
    """Return the messages that an agent begins with, as they follow on what a conversation holds."""
    begin = actor.thread(conversation_id).end_position
    return tuple(
        replace(m, conversation_id=conversation_id, position=begin + i)
        for i, m in enumerate(boot.sequence(actor.agent, None, at=clock.now()))
    )


async def _rebuild(tx: Conn, actor: "Actor", thread: Thread, outcome: Outcome) -> None:
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
