"""What waits for somebody outside, as it is at rest: a request, its calls, and what clients offer to run."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from storage.parts import JsonObject


class PendingCall(Struct, frozen=True, kw_only=True):
    """A call that does not run before somebody answers: with a decision, or with a client's result."""

    id: str
    name: str
    arguments: str
    kind: Literal["approval", "client"]


class ClientTool(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool that the client of a request runs itself. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str | None = None
    parameters: JsonObject | None = None


class PendingRequest(Struct, frozen=True, kw_only=True):
    """What a conversation waits for; it has at most one. `message_id` shows the calls to clients.

    `position` is that of the first message of the step: no window begins after it. `parked` are the ids
    of calls of the same step that need nobody, but run only after the answer. `client_tools` are those
    that the request offered; they stay on offer when the answer does not name any.
    """

    conversation_id: str
    agent_id: str
    organization_id: str
    run_id: str
    step_id: str
    message_id: str
    position: int
    calls: tuple[PendingCall, ...]
    created_at: datetime
    expires_at: datetime
    parked: tuple[str, ...] = ()
    client_tools: tuple[ClientTool, ...] = ()
