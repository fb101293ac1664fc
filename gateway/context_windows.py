"""Measures what fills the window of a conversation's model, whoever asks and however."""

import msgspec

from actors.errors import UnknownModelError
from actors.host import Host
from actors.tools import registry
from gateway.letta import context as letta_context
from gateway.letta.context import ContextWindowOverview
from storage import activation, agents, passages
from storage.agents import Profile
from storage.pool import connection
from storage.records import Conversation, JsonObject


async def measure(host: Host, where: Conversation) -> ContextWindowOverview:
    """Return what fills the window of a conversation, part by part.

    Raises:
        NotFoundError: The agent is no longer there.
    """
    async with connection(host.pool) as conn:
        profile = await agents.get(
            conn,
            where.agent_id,
            organization_id=where.organization_id,
            relations=frozenset({"tools"}),
        )
        window = await activation.window(conn, where)
        archival = await passages.count(conn, where.agent_id)
    wire = registry.definitions(profile.tools, strict=profile.agent.settings.model_settings.strict)
    return letta_context.overview(
        window,
        conversation=where,
        window_tokens=_window_tokens(host, profile, where),
        functions=() if wire is None else msgspec.json.decode(wire, type=tuple[JsonObject, ...]),
        functions_tokens=0 if wire is None else host.counter.count(wire.decode()),
        archival=archival,
        count=host.counter.count,
    )


def _window_tokens(host: Host, profile: Profile, where: Conversation) -> int:
    settings = profile.agent.settings
    if settings.context_window_tokens is not None:
        return settings.context_window_tokens
    try:
        return host.catalog.resolve(where.model or settings.model).ref.context_window_tokens
    except UnknownModelError:  # a provider that was taken away must not hide what its agents hold
        return 0
