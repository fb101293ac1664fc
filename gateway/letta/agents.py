"""Shows agents, blocks and tools as Letta's clients expect them. Pure."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from actors.llm.model import ModelRef
from gateway.letta import messages, models
from gateway.letta.models import EmbeddingConfig, LLMConfig
from gateway.letta.shapes import ApprovalRequestMessage, ToolCall
from gateway.requests import compaction as compaction_requests
from storage.agents import Profile
from storage.pending_records import PendingRequest
from storage.records import Block, JsonObject, Tool

# (window, files open at once, characters shown of each): the first row whose window is not exceeded.
_FILE_LIMITS = ((8_000, 3, 5_000), (32_000, 5, 15_000), (128_000, 10, 25_000), (200_000, 10, 40_000))
_LARGE_FILE_LIMITS = (15, 40_000)

# Fields of a block that only templates use; kept together in one column.
TEMPLATE_FIELDS = (
    "template_name",
    "is_template",
    "template_id",
    "base_template_id",
    "deployment_id",
    "entity_id",
    "preserve_on_migration",
)


class LettaBlock(Struct, frozen=True, kw_only=True):
    """A memory block. `limit` is shown to the model and not enforced."""

    id: str
    value: str
    label: str
    limit: int
    description: str | None
    read_only: bool
    metadata: JsonObject
    hidden: bool
    tags: tuple[str, ...]
    project_id: str | None
    created_by_id: str | None
    last_updated_by_id: str | None
    template_name: str | None = None
    is_template: bool = False
    template_id: str | None = None
    base_template_id: str | None = None
    deployment_id: str | None = None
    entity_id: str | None = None
    preserve_on_migration: bool | None = False


class LettaTool(Struct, frozen=True, kw_only=True):
    """A tool. Built-in ones have no source code."""

    id: str
    name: str
    tool_type: str
    description: str
    json_schema: JsonObject
    tags: tuple[str, ...]
    return_char_limit: int
    source_type: str | None = "python"
    source_code: str | None = None
    args_json_schema: JsonObject | None = None
    pip_requirements: tuple[JsonObject, ...] | None = None
    npm_requirements: tuple[JsonObject, ...] | None = None
    default_requires_approval: bool | None = None
    enable_parallel_execution: bool = False
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
    metadata_: JsonObject = {}
    project_id: str | None = None


class LettaMemory(Struct, frozen=True, kw_only=True):
    """An agent's blocks once more, where older clients look for them."""

    agent_type: str
    blocks: tuple[LettaBlock, ...]
    git_enabled: bool = False
    file_blocks: tuple[JsonObject, ...] = ()
    prompt_template: str = ""


class AgentState(Struct, frozen=True, kw_only=True):
    """An agent. Deprecated twins (`llm_config`, `memory`, …) are filled like the fields that replace them."""

    id: str
    name: str
    agent_type: str
    system: str
    message_ids: tuple[str, ...]
    model: str
    model_settings: JsonObject
    llm_config: LLMConfig
    embedding: str | None
    embedding_config: EmbeddingConfig | None
    compaction_settings: JsonObject | None
    response_format: JsonObject | None
    description: str | None
    metadata: JsonObject
    memory: LettaMemory
    blocks: tuple[LettaBlock, ...]
    tools: tuple[LettaTool, ...]
    tags: tuple[str, ...]
    tool_rules: tuple[JsonObject, ...]
    message_buffer_autoclear: bool
    enable_sleeptime: bool
    timezone: str
    max_files_open: int
    per_file_view_window_char_limit: int
    hidden: bool
    created_at: datetime
    updated_at: datetime
    created_by_id: str | None
    last_updated_by_id: str | None
    last_stop_reason: str | None
    last_run_completion: datetime | None
    last_run_duration_ms: int | None
    project_id: str | None = None
    template_id: str | None = None
    base_template_id: str | None = None
    deployment_id: str | None = None
    entity_id: str | None = None
    sources: tuple[JsonObject, ...] = ()
    secrets: tuple[JsonObject, ...] = ()
    tool_exec_environment_variables: tuple[JsonObject, ...] = ()
    identity_ids: tuple[str, ...] = ()
    identities: tuple[JsonObject, ...] = ()
    pending_approval: ApprovalRequestMessage | None = None
    multi_agent_group: JsonObject | None = None
    managed_group: JsonObject | None = None


def agent_state(
    profile: Profile,
    ref: ModelRef,
    *,
    tags: bool = True,
    pending: PendingRequest | None = None,
) -> AgentState:
    """Return an agent as clients see it: the relations that `profile` holds, and its tags if asked for."""
    agent, settings = profile.agent, profile.agent.settings
    blocks = tuple(block(b) for b in profile.blocks)
    config = models.llm_config(settings, ref)
    files_open, file_chars = _file_limits(config.context_window)
    return AgentState(
        id=agent.id,
        name=agent.name,
        agent_type=settings.agent_type,
        system=settings.system,
        message_ids=profile.message_ids,
        model=settings.model,
        model_settings=models.model_settings(settings.model_settings, ref),
        llm_config=config,
        embedding=settings.embedding,
        embedding_config=models.embedding_config(settings),
        compaction_settings=compaction_requests.shown(settings.compaction_settings, ref),
        response_format=settings.model_settings.response_format,
        description=settings.description,
        metadata=settings.metadata,
        memory=LettaMemory(agent_type=settings.agent_type, blocks=blocks),
        blocks=blocks,
        tools=tuple(tool(t) for t in profile.tools),
        tags=agent.tags if tags else (),
        tool_rules=settings.tool_rules,
        message_buffer_autoclear=settings.message_buffer_autoclear,
        enable_sleeptime=settings.enable_sleeptime,
        timezone=settings.timezone,
        max_files_open=settings.max_files_open or files_open,
        per_file_view_window_char_limit=settings.per_file_view_window_char_limit or file_chars,
        hidden=agent.hidden,
        created_at=agent.created_at,
        updated_at=agent.updated_at,
        created_by_id=agent.created_by_id,
        last_updated_by_id=agent.last_updated_by_id,
        last_stop_reason=agent.last_stop_reason,
        last_run_completion=agent.last_run_completed_at,
        last_run_duration_ms=agent.last_run_duration_ms,
        project_id=settings.project_id,
        template_id=settings.template_id,
        base_template_id=settings.base_template_id,
        deployment_id=settings.deployment_id,
        entity_id=settings.entity_id,
        pending_approval=None if pending is None else pending_approval(pending),
    )


def pending_approval(request: PendingRequest) -> ApprovalRequestMessage:
    """Return the message that asks for the calls of a request, as the history has it."""
    calls = tuple(ToolCall(call.name, call.arguments, call.id) for call in request.calls)
    return ApprovalRequestMessage(
        id=request.message_id,
        date=messages.date_of(request.created_at),
        otid=messages.otid_of(request.message_id, 0),
        step_id=request.step_id,
        run_id=request.run_id,
        tool_call=calls[0],
        tool_calls=calls,
    )


def _file_limits(window_tokens: int) -> tuple[int, int]:
    for window, files_open, chars in _FILE_LIMITS:
        if window_tokens <= window:
            return files_open, chars
    return _LARGE_FILE_LIMITS


def block(block: Block) -> LettaBlock:
    """Return a block as clients see it."""
    template: Any = {name: block.template[name] for name in TEMPLATE_FIELDS if name in block.template}
    return LettaBlock(
        id=block.id,
        value=block.value,
        label=block.label,
        limit=block.limit_chars,
        description=block.description,
        read_only=block.read_only,
        metadata=block.metadata,
        hidden=block.hidden,
        tags=block.tags,
        project_id=block.project_id,
        created_by_id=block.created_by_id,
        last_updated_by_id=block.last_updated_by_id,
        **template,
    )


def tool(tool: Tool) -> LettaTool:
    """Return a tool as clients see it."""
    return LettaTool(
        id=tool.id,
        name=tool.name,
        tool_type=tool.tool_type,
        description=tool.description,
        json_schema=tool.json_schema,
        tags=tool.tags,
        return_char_limit=tool.return_char_limit,
        default_requires_approval=tool.default_requires_approval,
    )
