"""What clients may ask of agents as such: create and update, checked and turned into records. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET

from actors import agent_types
from actors.agent_types import AGENT_TYPES, type_of
from actors.clock import new_id
from actors.commands import InputMessage
from actors.commands import UpdateAgent as UpdateEdit
from actors.llm.model import ModelRef
from actors.rules import Rule
from actors.summary import CompactionSettings
from actors.tools.registry import BASE_TOOLS
from gateway import absent, decode, inputs, names
from gateway.auth import Caller
from gateway.decode import Count
from gateway.errors import InvalidRequestError, NotSupportedError, WrongStateError
from gateway.inputs import MessageIn
from gateway.letta.models import EmbeddingConfig
from gateway.requests import blocks as block_requests
from gateway.requests import compaction, models
from gateway.requests import rules as rule_requests
from gateway.requests.blocks import CreateBlock
from gateway.requests.models import ModelRequest
from storage.agents import Profile
from storage.records import Agent, AgentChanges, AgentSettings, Block, JsonObject

AGENT_TYPE = "letta_v1_agent"
OTHER_AGENT_TYPES = frozenset(
    {
        "react_agent",
        "workflow_agent",
        "split_thread_agent",
        "voice_convo_agent",
        "voice_sleeptime_agent",
    }
)
SUBAGENT_TAG = "role:subagent"
MAX_BLOCKS = 100
MAX_TOOLS = 200

# Fields that later releases give a meaning. Ignoring one would change what the caller asked for.
LATER = (
    "secrets",
    "tool_exec_environment_variables",
    "folder_ids",
    "source_ids",
    "identity_ids",
    "from_template",
    "template",
    "memory_variables",
    "enable_sleeptime",
    "include_multi_agent_tools",
    "include_default_source",
)


class AgentRequest(ModelRequest, frozen=True, kw_only=True):
    """What create and update have in common. Absent and null mean the same."""

    name: str | None = None
    tool_ids: tuple[str, ...] | None = None
    block_ids: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    system: str | None = None
    description: str | None = None
    metadata: JsonObject | None = None
    compaction_settings: CompactionSettings | None = None
    embedding: str | None = None
    embedding_config: EmbeddingConfig | None = None
    timezone: str | None = None
    message_buffer_autoclear: bool | None = None
    max_files_open: Count | None = None
    per_file_view_window_char_limit: Count | None = None
    hidden: bool | None = None
    project_id: str | None = None
    template_id: str | None = None
    base_template_id: str | None = None
    tool_rules: tuple[Rule, ...] | None = None
    # Accepted when empty; see `LATER`.
    secrets: dict[str, Any] | None = None
    tool_exec_environment_variables: dict[str, Any] | None = None
    folder_ids: tuple[str, ...] | None = None
    source_ids: tuple[str, ...] | None = None
    identity_ids: tuple[str, ...] | None = None
    enable_sleeptime: bool | None = None


class CreateAgent(AgentRequest, frozen=True, kw_only=True):
    """A new agent. Every field has a default, except the model where the server has none."""

    agent_type: str = AGENT_TYPE
    memory_blocks: tuple[CreateBlock, ...] | None = None
    tools: tuple[str, ...] | None = None
    include_base_tools: bool = True
    include_base_tool_rules: bool | None = None
    initial_message_sequence: tuple[MessageIn, ...] | None = None
    include_multi_agent_tools: bool = False
    include_default_source: bool = False
    from_template: str | None = None
    template: bool = False
    memory_variables: dict[str, Any] | None = None


class UpdateAgent(AgentRequest, frozen=True, kw_only=True):
    """Changes to an agent: absent and null leave a field as it is; lists replace the whole set.

    `message_ids` follows from the conversation and is accepted only as it is.
    """

    message_ids: tuple[str, ...] | None = None


# --- create ---------------------------------------------------------------------------------


def new_agent(
    request: CreateAgent,
    *,
    agent_id: str,
    model: ModelRef,
    project_id: str | None,
    caller: Caller,
    at: datetime,
    tool_names: Sequence[str] = (),
) -> Agent:
    """Return the agent that a request asks for; `model` is what its handle means.

    `tool_names` are the names of the tools that it names by id; base rules are about them as well.

    Raises:
        InvalidRequestError: A field has a value that is not allowed.
        NotSupportedError: A field asks for what a later release brings.
    """
    refuse_later(request)
    _check_type(request.agent_type)
    tags = block_requests.tags(request.tags or (), param="/tags")
    return Agent(
        id=agent_id,
        organization_id=caller.organization_id,
        name=names.random_name() if request.name is None else names.check(request.name),
        settings=AgentSettings(
            model=model.handle,
            agent_type=request.agent_type,
            system=type_of(request.agent_type).system if request.system is None else request.system,
            tool_rules=_new_rules(request, model, tool_names),
            model_settings=models.new_settings(request),
            context_window_tokens=models.window_tokens(request),
            embedding=_embedding(request),
            embedding_config=_embedding_config(request),
            description=request.description,
            metadata=request.metadata or {},
            compaction_settings=compaction.stored(request.compaction_settings),
            timezone=_timezone(request.timezone or "UTC"),
            message_buffer_autoclear=bool(request.message_buffer_autoclear),
            max_files_open=request.max_files_open,
            per_file_view_window_char_limit=request.per_file_view_window_char_limit,
            project_id=request.project_id or project_id,
            template_id=request.template_id,
            base_template_id=request.base_template_id,
        ),
        created_at=at,
        updated_at=at,
        tags=tags,
        hidden=bool(request.hidden) or SUBAGENT_TAG in tags,
        created_by_id=caller.user_id,
        last_updated_by_id=caller.user_id,
    )


def new_blocks(
    request: CreateAgent, held: Sequence[Block], *, caller: Caller, at: datetime
) -> tuple[Block, ...]:
    """Return the blocks to create with an agent that also gets `held`.

    Raises:
        InvalidRequestError: A block is not allowed.
        WrongStateError: Two of all have the same label.
    """
    given = request.memory_blocks or ()
    if len(given) + len(held) > MAX_BLOCKS:
        raise InvalidRequestError(f"an agent has at most {MAX_BLOCKS} blocks", param="/memory_blocks")
    made = tuple(
        block_requests.new_block(
            block, block_id=new_id("block"), caller=caller, at=at, param=f"/memory_blocks/{place}"
        )
        for place, block in enumerate(given)
    )
    seen: set[str] = set()
    for block in (*held, *made):
        if block.label in seen:
            raise WrongStateError(
                f"two blocks have the label {block.label!r}; labels are unique for an agent"
            )
        seen.add(block.label)
    return made


def tool_keys(request: CreateAgent) -> tuple[str, ...]:
    """Return the names and ids of the tools that a new agent gets, base tools first.

    Raises:
        InvalidRequestError: There are too many, or an id is malformed.
    """
    base = BASE_TOOLS.get(request.agent_type, ()) if request.include_base_tools else ()
    ids = _ids("tool", request.tool_ids or (), limit=MAX_TOOLS)
    keys = tuple(dict.fromkeys((*base, *(request.tools or ()), *ids)))
    if len(keys) > MAX_TOOLS:
        raise InvalidRequestError(f"an agent has at most {MAX_TOOLS} tools", param="/tools")
    return keys


def block_ids(request: AgentRequest) -> tuple[str, ...]:
    """Return the ids of the existing blocks that an agent should hold, without repeats.

    Raises:
        InvalidRequestError: There are too many, or an id is malformed.
    """
    return tuple(dict.fromkeys(_ids("block", request.block_ids or (), limit=MAX_BLOCKS)))


# --- update ---------------------------------------------------------------------------------


def update_edit(request: UpdateAgent, current: Profile, *, caller: Caller) -> UpdateEdit:
    """Return the edit that a request asks for; `current` is the agent as it is.

    Raises:
        InvalidRequestError: A field has a value that is not allowed.
        NotSupportedError: A field asks for what a later release brings.
    """
    refuse_later(request)
    if request.message_ids is not None and request.message_ids != current.message_ids:
        raise InvalidRequestError(
            "message_ids follows from the conversation and cannot be set; send messages, or reset it",
            param="/message_ids",
        )
    settings = _changed_settings(request, current.agent.settings)
    tags = None if request.tags is None else block_requests.tags(request.tags, param="/tags")
    tools = None if request.tool_ids is None else _ids("tool", request.tool_ids, limit=MAX_TOOLS)
    return UpdateEdit(
        changes=AgentChanges(
            name=UNSET if request.name is None else names.check(request.name),
            tags=UNSET if tags is None else tags,
            hidden=UNSET if request.hidden is None else request.hidden,
            settings=settings or UNSET,
            last_updated_by_id=caller.user_id,
        ),
        tool_ids=UNSET if tools is None else tuple(dict.fromkeys(tools)),
        block_ids=UNSET if request.block_ids is None else block_ids(request),
    )


def _changed_settings(request: UpdateAgent, current: AgentSettings) -> JsonObject:
    chosen = models.changed_settings(request, current.model_settings)
    changed: JsonObject = {
        "model": models.handle_of(request),
        "system": request.system,
        "model_settings": None if chosen == current.model_settings else msgspec.to_builtins(chosen),
        "context_window_tokens": models.window_tokens(request),
        "embedding": _embedding(request),
        "embedding_config": _embedding_config(request),
        "description": request.description,
        "metadata": request.metadata,
        "compaction_settings": compaction.stored(request.compaction_settings),
        "tool_rules": None if request.tool_rules is None else rule_requests.stored(request.tool_rules),
        "timezone": None if request.timezone is None else _timezone(request.timezone),
        "message_buffer_autoclear": request.message_buffer_autoclear,
        "max_files_open": request.max_files_open,
        "per_file_view_window_char_limit": request.per_file_view_window_char_limit,
        "project_id": request.project_id,
        "template_id": request.template_id,
        "base_template_id": request.base_template_id,
    }
    return {name: value for name, value in changed.items() if value is not None}


# --- parts ----------------------------------------------------------------------------------


def refuse_later(request: AgentRequest) -> None:
    """Refuse what this release would have to ignore.

    Raises:
        NotSupportedError: Names the first such field.
    """
    for name in LATER:
        if getattr(request, name, None):
            raise absent.field(name)


def first_messages(request: CreateAgent) -> tuple[InputMessage, ...] | None:
    """Return the messages that an agent begins with, None where its type decides.

    Raises:
        InvalidRequestError: One has no role, no content, or content that its role cannot have.
    """
    if request.initial_message_sequence is None:
        return None
    return inputs.sequence_of(request.initial_message_sequence, "/initial_message_sequence")


def begins_with_rules(request: CreateAgent, model: ModelRef) -> bool:
    """Say whether a new agent gets the base rules: if its request says so, else as is good for its model."""
    asked = request.include_base_tool_rules
    wanted = agent_types.wants_base_rules(type_of(request.agent_type), model.handle)
    return wanted if asked is None else asked


def _new_rules(request: CreateAgent, model: ModelRef, names: Sequence[str]) -> tuple[JsonObject, ...]:
    """Return the rules of a new agent: those it asks for, then those that its type begins with."""
    rules = request.tool_rules or ()
    if begins_with_rules(request, model):
        rules += agent_types.base_rules((*tool_keys(request), *names))
    return rule_requests.stored(rules)


def _check_type(agent_type: str) -> None:
    if agent_type in OTHER_AGENT_TYPES:
        raise NotSupportedError(
            f"agents of type {agent_type} are not supported by this release; use {' or '.join(AGENT_TYPES)}",
            param="/agent_type",
        )
    if agent_type not in AGENT_TYPES:
        known = " or ".join(AGENT_TYPES)
        raise InvalidRequestError(f"there is no such agent type; use {known}", param="/agent_type")


def _embedding(request: AgentRequest) -> str | None:
    """Return the embedding handle; a configuration without one is named by its parts."""
    config = request.embedding_config
    if request.embedding is not None or config is None:
        return request.embedding
    return config.handle or f"{config.embedding_endpoint_type}/{config.embedding_model}"


def _embedding_config(request: AgentRequest) -> JsonObject | None:
    config = request.embedding_config
    return None if config is None else msgspec.to_builtins(config)


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidRequestError(
            "the timezone is not known; use an IANA name like Europe/Berlin", param="/timezone"
        ) from None
    return name


def _ids(prefix: str, given: Sequence[str], *, limit: int) -> Sequence[str]:
    field = f"{prefix}_ids"
    if len(given) > limit:
        raise InvalidRequestError(f"at most {limit} {field} are allowed", param=f"/{field}")
    pattern = decode.PATH_PARAMETERS[f"{prefix}_id"]
    for place, value in enumerate(given):
        if pattern.fullmatch(value) is None:
            raise InvalidRequestError(f"expected {prefix}-<uuid4>", param=f"/{field}/{place}")
    return given
