"""Methods of the context window: measure it."""

from msgspec import Struct
from msgspec.structs import replace

from gateway import context_windows
from gateway.auth import THOUGHTS
from gateway.letta.context import ContextWindowOverview
from gateway.rpc.method import Call, Method, conversation


class ContextData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which conversation: an agent's own, or any by its id. The answer holds no messages: see `history`."""

    agent: str | None = None
    conversation: str | None = None


async def get(call: Call, data: ContextData) -> ContextWindowOverview:
    """Measure what fills the window of a conversation's model."""
    where = await conversation(call, data.agent, data.conversation)
    return replace(await context_windows.measure(call.host, where), messages=())


METHODS: tuple[Method, ...] = (
    Method(
        name="context.get",
        data=ContextData,
        answer=ContextWindowOverview,
        scope=THOUGHTS,
        run=get,
        summary="Measure what fills a model's window",
        errors=("404: no such agent or conversation",),
    ),
)
