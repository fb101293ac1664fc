"""What Letta's server has and this one does not: each is refused by its name, with what to do instead."""

from collections.abc import Iterator

from msgspec import Struct

from gateway.errors import NotSupportedError, UnknownRouteError, WrongMethodError
from gateway.router import Router


class Absent(Struct, frozen=True, kw_only=True):
    """A route that is not served. `call` is what its user wrote; `instead` completes "not served here: "."""

    method: str
    path: str
    call: str
    instead: str


_TOOLS = (
    "this server runs no code of its clients. Give agents its own tools (client.tools.list), or send "
    "client_tools with a message, run their calls yourself and answer with an approval message"
)
_BUILT_IN = "every tool is the server's own. Take it from an agent with client.agents.tools.detach"
_FOLDERS = (
    "there are no folders or files. Keep texts in an archive (client.archives.create, then "
    "client.archives.passages.create_many) and attach it to agents with client.agents.archives.attach"
)
_IDENTITIES = (
    "there are no identities. Keep whom an agent talks to in its tags and metadata, and find it with "
    "client.agents.list(tags=[...], match_all_tags=True)"
)
_GROUPS = (
    "there are no groups. Let agents share blocks (client.agents.blocks.attach) and send their messages "
    "from your program"
)
_MCP = (
    "this server calls no MCP servers. Call them from your program: send their tools as client_tools with "
    "a message and answer the calls with an approval message"
)
_PROVIDERS = (
    "providers of models come from the server's settings, such as OPENAI_API_KEY and OPENAI_BASE_URL. See "
    "/docs/settings, and client.models.list for what they offer"
)
_JOBS = "work in the background is a run. Use client.runs"
_BATCHES = "there are no batches. Start a run for each agent with client.agents.messages.create_async"
_TRACES = "no traces are kept. client.steps.retrieve has a step's model, tokens and error"
_SCHEDULE = (
    "it is a part of Letta's cloud. Call client.agents.messages.create_async from a scheduler of your own"
)
_TEMPLATES = "it is a part of Letta's cloud. Make agents alike with client.agents.export_file and import_file"
_ENVIRONMENTS = "it is a part of Letta's cloud"
_TOKENS = (
    "it is a part of Letta's cloud. Sign JWTs under the setting WAKEFUL_JWT_SECRET, or ask for a ticket "
    "(POST /v1/tickets)"
)
_RUN_ROWS = "runs are kept with their agent. Stop one with client.agents.messages.cancel"
_COMPLETIONS = "send messages with client.agents.messages.create, or stream them"

# Below which path, why it is refused, then method, rest of the path, and the name in the SDK if it has one.
_BY_NOUN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "/v1/tools",
        _TOOLS,
        (
            "POST / client.tools.create",
            "PUT / client.tools.upsert",
            "POST /run",
            "POST /generate-schema",
            "POST /generate-tool",
        ),
    ),
    ("/v1/tools", _BUILT_IN, ("DELETE /{id} client.tools.delete",)),
    (
        "/v1/sandbox-config",
        _TOOLS,
        (
            "POST /",
            "PATCH /{id}",
            "DELETE /{id}",
            "POST /local",
            "POST /local/default",
            "POST /local/recreate-venv",
            "POST /e2b/default",
            "GET /{id}/environment-variable",
            "POST /{id}/environment-variable",
            "PATCH /environment-variable/{id}",
            "DELETE /environment-variable/{id}",
        ),
    ),
    (
        "/v1/folders",
        _FOLDERS,
        (
            "POST / client.folders.create",
            "GET /{id} client.folders.retrieve",
            "PATCH /{id} client.folders.update",
            "DELETE /{id} client.folders.delete",
            "GET /{id}/files client.folders.files.list",
            "GET /{id}/files/{id} client.folders.files.retrieve",
            "DELETE /{id}/{id} client.folders.files.delete",
            "POST /{id}/upload client.folders.files.upload",
            "GET /{id}/agents client.folders.agents.list",
            "GET /{id}/passages",
            "GET /name/{id}",
        ),
    ),
    (
        "/v1/sources",
        _FOLDERS,
        (
            "POST /",
            "GET /{id}",
            "PATCH /{id}",
            "DELETE /{id}",
            "GET /{id}/files",
            "GET /{id}/files/{id}",
            "DELETE /{id}/{id}",
            "POST /{id}/upload",
            "GET /{id}/agents",
            "GET /{id}/passages",
            "GET /name/{id}",
        ),
    ),
    (
        "/v1/agents/{id}",
        _FOLDERS,
        (
            "PATCH /folders/attach/{id} client.agents.folders.attach",
            "PATCH /folders/detach/{id} client.agents.folders.detach",
            "PATCH /sources/attach/{id}",
            "PATCH /sources/detach/{id}",
            "PATCH /files/{id}/open client.agents.files.open",
            "PATCH /files/{id}/close client.agents.files.close",
            "PATCH /files/close-all client.agents.files.close_all",
        ),
    ),
    (
        "/v1/agents/{id}/identities",
        _IDENTITIES,
        (
            "PATCH /attach/{id} client.agents.identities.attach",
            "PATCH /detach/{id} client.agents.identities.detach",
        ),
    ),
    ("/v1/blocks/{id}/identities", _IDENTITIES, ("PATCH /attach/{id}", "PATCH /detach/{id}")),
    (
        "/v1/identities",
        _IDENTITIES,
        (
            "POST /",
            "PUT /",
            "GET /{id}",
            "PATCH /{id}",
            "DELETE /{id}",
            "GET /{id}/agents",
            "GET /{id}/blocks",
            "PUT /{id}/properties",
        ),
    ),
    (
        "/v1/groups",
        _GROUPS,
        (
            "POST /",
            "GET /{id}",
            "PATCH /{id}",
            "DELETE /{id}",
            "GET /{id}/messages",
            "PATCH /{id}/messages/{id}",
            "PATCH /{id}/reset-messages",
            "PATCH /{id}/blocks/attach/{id}",
            "PATCH /{id}/blocks/detach/{id}",
        ),
    ),
    (
        "/v1/mcp-servers",
        _MCP,
        (
            "POST / client.mcp_servers.create",
            "GET /{id} client.mcp_servers.retrieve",
            "PATCH /{id} client.mcp_servers.update",
            "DELETE /{id} client.mcp_servers.delete",
            "PATCH /{id}/refresh client.mcp_servers.refresh",
            "GET /{id}/tools client.mcp_servers.tools.list",
            "GET /{id}/tools/{id} client.mcp_servers.tools.retrieve",
            "POST /{id}/tools/{id}/run client.mcp_servers.tools.run",
            "GET /connect/{id}",
        ),
    ),
    (
        "/v1/tools/mcp/servers",
        _MCP,
        (
            "PUT /",
            "POST /connect",
            "POST /test",
            "PATCH /{id}",
            "DELETE /{id}",
            "POST /{id}/resync",
            "GET /{id}/tools",
            "POST /{id}/tools/{id}/execute",
            "POST /{id}/{id}",
        ),
    ),
    (
        "/v1/providers",
        _PROVIDERS,
        (
            "POST /",
            "POST /check",
            "GET /{id}",
            "PATCH /{id}",
            "DELETE /{id}",
            "POST /{id}/check",
            "PATCH /{id}/refresh",
        ),
    ),
    ("/v1/jobs", _JOBS, ("GET /{id}", "DELETE /{id}", "PATCH /{id}/cancel")),
    (
        "/v1/messages/batches",
        _BATCHES,
        ("POST /", "GET /{id}", "PATCH /{id}/cancel", "GET /{id}/messages"),
    ),
    ("/v1/runs", _TRACES, ("GET /{id}/trace client.runs.trace.retrieve",)),
    (
        "/v1/agents/{id}/schedule",
        _SCHEDULE,
        (
            "POST / client.agents.schedule.create",
            "GET / client.agents.schedule.list",
            "GET /{id} client.agents.schedule.retrieve",
            "DELETE /{id} client.agents.schedule.delete",
        ),
    ),
    (
        "/v1/templates",
        _TEMPLATES,
        (
            "POST / client.templates.create",
            "PATCH /{id} client.templates.update",
            "DELETE /{id} client.templates.delete",
            "POST /{id}/rollback client.templates.rollback",
            "POST /{id}/save client.templates.save",
            "POST /{id}/agents client.templates.agents.create",
        ),
    ),
    (
        "/v1/environments",
        _ENVIRONMENTS,
        (
            "GET / client.environments.list",
            "GET /{id} client.environments.retrieve",
            "POST /{id}/messages client.environments.send_message",
        ),
    ),
    (
        "/v1/client-side-access-tokens",
        _TOKENS,
        (
            "POST / client.access_tokens.create",
            "GET / client.access_tokens.list",
            "DELETE /{id} client.access_tokens.delete",
        ),
    ),
    ("/v1/runs", _RUN_ROWS, ("DELETE /{id}",)),
    ("/v1/steps", _TRACES, ("PATCH /{id}/transaction/{id}",)),
    ("/v1/voice-beta", _COMPLETIONS, ("POST /{id}/chat/completions",)),
    ("/v1/agents/{id}/generate", _COMPLETIONS, ("POST /",)),
)


def _table() -> Iterator[Absent]:
    for noun, instead, lines in _BY_NOUN:
        for line in lines:
            method, below, *call = line.split(" ")
            path = (noun + below).rstrip("/")
            yield Absent(
                method=method, path=path, call=call[0] if call else f"{method} {path}", instead=instead
            )


ABSENT: tuple[Absent, ...] = tuple(_table())

_KEYS = "keys of tools come from the server's environment, see /docs/settings"
_TEXTS = "keep texts in an archive (client.archives.create) and attach it with client.agents.archives.attach"
_LOGPROBS = "answers come as text alone. Ask the model's own server for them"

# Fields of Letta's requests that would mean something here if they were heeded, and what to do instead.
FIELDS: dict[str, str] = {
    "secrets": _KEYS,
    "tool_exec_environment_variables": _KEYS,
    "folder_ids": _TEXTS,
    "source_ids": _TEXTS,
    "include_default_source": _TEXTS,
    "identity_ids": "say whom an agent talks to in its tags and metadata",
    "from_template": _TEMPLATES,
    "template": _TEMPLATES,
    "memory_variables": "write the values into memory_blocks",
    "enable_sleeptime": (
        "no agent is run behind another. Create one of the type sleeptime_agent with the same block_ids, and "
        "send it what it is to think about"
    ),
    "include_multi_agent_tools": "send messages between agents from your program, and let them share blocks",
    "return_logprobs": _LOGPROBS,
    "top_logprobs": _LOGPROBS,
    "return_token_ids": _LOGPROBS,
    "hidden": "every conversation is listed. Archive one with client.conversations.update(archived=True)",
    "isolated_block_labels": "conversations of an agent share its blocks. Keep what differs in another agent",
    "context_window_limit": "a conversation has its agent's. Set it there, with client.agents.update",
}


def field(name: str, *, param: str | None = None) -> NotSupportedError:
    """Return the refusal of a field that is not heeded here. `param` points at it, by default at the top."""
    return NotSupportedError(f"{name} is not served here: {FIELDS[name]}", param=param or f"/{name}")


_router: Router[Absent] = Router(ABSENT)


def check(method: str, raw_path: bytes) -> None:
    """Refuse a call of what only Letta's server has; others pass.

    Raises:
        NotSupportedError: It is one of them.
        InvalidRequestError: The path is not UTF-8, or too long.
    """
    try:
        found, _ = _router.find(method, raw_path)
    except (UnknownRouteError, WrongMethodError):
        return
    raise NotSupportedError(f"{found.call} is not served here: {found.instead}")
