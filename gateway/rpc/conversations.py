"""Methods of conversations: open one, read what was said in it."""

from msgspec import Struct

from gateway.auth import READ, THOUGHTS, WRITE
from gateway.decode import Limit, Order
from gateway.letta import messages as letta_messages
from gateway.letta.conversations import LettaConversation
from gateway.letta.shapes import LettaMessage
from gateway.requests import new_conversations
from gateway.rpc.method import Call, Method, agent_id, conversation, encode
from storage import forks, messages
from storage.pool import connection
from storage.records import JsonObject, Message

PAGE_BYTES = 256 * 1024
REASONING = ("reasoning_message", "hidden_reasoning_message")


class CreateData(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A conversation to open. Its model and settings win over the agent's."""

    agent: str
    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: JsonObject | None = None


class HistoryData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of what was said: at most `limit` stored messages, each of which may become several.

    It is shorter where the messages are large. `after` and `before` are ids of messages, later and earlier
    in time; `order` chooses the end that the page is taken from.
    """

    agent: str | None = None
    conversation: str | None = None
    after: str | None = None
    before: str | None = None
    limit: Limit = 50
    order: Order = "desc"


class HistoryPage(Struct, frozen=True):
    """Messages, oldest first whatever the order. `more`: there are others beyond the page's far end."""

    messages: list[LettaMessage]
    more: bool


async def create(call: Call, data: CreateData) -> LettaConversation:
    """Open a conversation of an agent."""
    return await new_conversations.create(
        call.host,
        call.caller,
        agent_id(call, data.agent),
        summary=data.summary,
        description=data.description,
        model=data.model,
        model_settings=data.model_settings,
    )


async def history(call: Call, data: HistoryData) -> HistoryPage:
    """Read a page of a conversation's messages. Thoughts are left out for who may not see them."""
    where = await conversation(call, data.agent, data.conversation)
    newest = data.order == "desc"
    read = messages.list_newest if newest else messages.list_oldest
    async with connection(call.host.pool) as conn:
        found = await read(
            conn,
            where.id,
            limit=data.limit + 1,
            after=data.after,
            before=data.before,
            ancestors=await forks.ancestors(conn, where),
        )
    page, more = found[: data.limit], len(found) > data.limit
    shown = _shown(call, page, newest=newest)
    while len(page) > 1 and len(encode(shown)) > PAGE_BYTES:
        page, more = page[: len(page) // 2], True
        shown = _shown(call, page, newest=newest)
    return HistoryPage(shown, more=more)


def _shown(call: Call, page: list[Message], *, newest: bool) -> list[LettaMessage]:
    stored = page[::-1] if newest else page
    if THOUGHTS in call.caller.scopes:
        return letta_messages.show_all(stored, None)
    # Memory is left out as well: the system prompt, at position 0, holds it.
    shown = letta_messages.show_all([message for message in stored if message.position], None)
    return [one for one in shown if letta_messages.type_of(one) not in REASONING]


METHODS: tuple[Method, ...] = (
    Method(
        name="conversation.create",
        data=CreateData,
        answer=LettaConversation,
        scope=WRITE,
        run=create,
        summary="Open a conversation",
        errors=("404: no such agent or model",),
    ),
    Method(
        name="history",
        data=HistoryData,
        answer=HistoryPage,
        scope=READ,
        run=history,
        summary="Read a page of a conversation's messages",
        errors=("404: no such agent or conversation, or a cursor names none of its messages",),
    ),
)
