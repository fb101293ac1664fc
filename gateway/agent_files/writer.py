"""The agent file (`.af`): an agent with its blocks, tools and visible messages, as Letta writes it. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.letta import internal
from gateway.letta.agents import AgentState, LettaBlock, LettaTool
from gateway.letta.models import EmbeddingConfig, LLMConfig
from storage.records import (
    ApprovalPart,
    JsonObject,
    Message,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

T = TypeVar("T", LettaBlock, LettaTool)


class FileMessage(Struct, frozen=True, kw_only=True):
    """A message of an agent file. `content` holds text, thoughts and images; calls stand apart."""

    id: str
    role: str
    content: tuple[JsonObject, ...]
    created_at: datetime
    type: str = "message"
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    group_id: str | None = None
    model: str | None = None
    agent_id: str | None = None
    tool_calls: tuple[JsonObject, ...] | None = None
    tool_call_id: str | None = None
    tool_returns: tuple[JsonObject, ...] | None = None
    approve: bool | None = None
    approval_request_id: str | None = None
    denial_reason: str | None = None
    approvals: tuple[JsonObject, ...] | None = None


class FileAgent(Struct, frozen=True, kw_only=True):
    """An agent of an agent file: what it was created with, what it holds, what its model sees."""

    id: str
    name: str
    agent_type: str
    system: str
    model: str
    model_settings: JsonObject
    llm_config: LLMConfig
    embedding: str | None
    embedding_config: EmbeddingConfig | None
    compaction_settings: JsonObject | None
    response_format: JsonObject | None
    description: str | None
    metadata: JsonObject
    tags: tuple[str, ...]
    tool_rules: tuple[JsonObject, ...]
    timezone: str
    message_buffer_autoclear: bool
    enable_sleeptime: bool
    hidden: bool
    max_files_open: int
    per_file_view_window_char_limit: int
    project_id: str | None
    tool_ids: tuple[str, ...]
    block_ids: tuple[str, ...]
    in_context_message_ids: tuple[str, ...]
    messages: tuple[FileMessage, ...]
    memory_blocks: tuple[JsonObject, ...] = ()
    tools: tuple[str, ...] = ()
    source_ids: tuple[str, ...] = ()
    identity_ids: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()
    files_agents: tuple[JsonObject, ...] = ()
    secrets: JsonObject = {}
    tool_exec_environment_variables: JsonObject = {}
    initial_message_sequence: tuple[JsonObject, ...] | None = None
    include_base_tools: bool = False
    include_multi_agent_tools: bool = False
    include_default_source: bool = False


class AgentFile(Struct, frozen=True, kw_only=True):
    """An agent file. Its ids count within the file: `agent-0`, `block-0`, `tool-0`, `message-0` …"""

    agents: tuple[FileAgent, ...]
    blocks: tuple[LettaBlock, ...]
    tools: tuple[LettaTool, ...]
    metadata: dict[str, str]
    created_at: datetime
    groups: tuple[JsonObject, ...] = ()
    files: tuple[JsonObject, ...] = ()
    sources: tuple[JsonObject, ...] = ()
    mcp_servers: tuple[JsonObject, ...] = ()
    skills: tuple[JsonObject, ...] = ()


def write(state: AgentState, messages: Sequence[Message], *, at: datetime, revision: str) -> AgentFile:
    """Return the file of one agent. `messages` are those that its model sees, the system prompt first.

    Secrets are left out: there are none to export. `revision` names the schema that the data came from.
    """
    blocks = tuple(_renamed(block, f"block-{n}") for n, block in enumerate(state.blocks))
    tools = tuple(_renamed(tool, f"tool-{n}") for n, tool in enumerate(state.tools))
    written = tuple(message(m, f"message-{n}") for n, m in enumerate(messages))
    agent = FileAgent(
        id="agent-0",
        name=state.name,
        agent_type=state.agent_type,
        system=state.system,
        model=state.model,
        model_settings=state.model_settings,
        llm_config=state.llm_config,
        embedding=state.embedding,
        embedding_config=state.embedding_config,
        compaction_settings=state.compaction_settings,
        response_format=state.response_format,
        description=state.description,
        metadata=state.metadata,
        tags=state.tags,
        tool_rules=state.tool_rules,
        timezone=state.timezone,
        message_buffer_autoclear=state.message_buffer_autoclear,
        enable_sleeptime=state.enable_sleeptime,
        hidden=state.hidden,
        max_files_open=state.max_files_open,
        per_file_view_window_char_limit=state.per_file_view_window_char_limit,
        project_id=state.project_id,
        tool_ids=tuple(tool.id for tool in tools),
        block_ids=tuple(block.id for block in blocks),
        in_context_message_ids=tuple(m.id for m in written),
        messages=written,
    )
    return AgentFile(
        agents=(agent,), blocks=blocks, tools=tools, metadata={"revision_id": revision}, created_at=at
    )


def message(stored: Message, file_id: str) -> FileMessage:
    """Return a stored message as agent files hold it."""
    calls = [part for part in stored.content if isinstance(part, ToolCallPart)]
    returns = [part for part in stored.content if isinstance(part, ToolReturnPart)]
    approvals = [part for part in stored.content if isinstance(part, ApprovalPart)]
    return FileMessage(
        id=file_id,
        role=stored.role,
        content=tuple(internal.content(stored.content)),
        created_at=stored.created_at,
        name=stored.name,
        sender_id=stored.sender_id,
        agent_id="agent-0",
        tool_calls=tuple(internal.call(call) for call in calls) or None,
        tool_call_id=returns[0].tool_call_id if returns else None,
        tool_returns=tuple(_return(part) for part in returns) or None,
        approvals=tuple(_approval(part) for part in approvals) or None,
    )


def _return(part: ToolReturnPart) -> JsonObject:
    return {
        "type": "tool",
        "tool_call_id": part.tool_call_id,
        "status": part.status,
        "func_response": (TextPart(part.text), *part.shown) if part.shown else part.text,
        "stdout": part.stdout,
        "stderr": part.stderr,
    }


def _approval(part: ApprovalPart) -> JsonObject:
    return {
        "type": "approval",
        "tool_call_id": part.tool_call_id,
        "approve": part.approve,
        "reason": part.reason,
    }


def _renamed(value: T, file_id: str) -> T:
    """Return a block or tool under its id in the file, without who made it."""
    return replace(value, id=file_id, created_by_id=None, last_updated_by_id=None)
