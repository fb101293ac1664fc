"""What may be asked of an agent: commands that are accepted durably, and edits on the control lane."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from storage.records import (
    AgentChanges,
    BlockChanges,
    ImagePart,
    JsonObject,
    TextPart,
)

WhenBusy = Literal["queue", "steer", "interrupt", "reject"]
Lane = Literal["control", "user", "background"]
InputRole = Literal["user", "system", "assistant"]


class InputMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message as a client sent it, already checked at the edge."""

    role: InputRole
    content: tuple[TextPart | ImagePart, ...]
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None


class SendMessages(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="send"):
    """Add messages to a conversation and let the agent answer. The one durable command of this release.

    `model` and `system` override the agent's for this run only. `lane` orders it against other work.
    """

    conversation_id: str
    messages: tuple[InputMessage, ...]
    max_steps: int = 50
    when_busy: WhenBusy = "queue"
    lane: Lane = "user"
    background: bool = False
    model: str | None = None
    system: str | None = None
    callback_url: str | None = None
    request_config: JsonObject = {}


Command = SendMessages


class Envelope(Struct, frozen=True, kw_only=True):
    """A command with what its acceptance needs.

    `key` makes it idempotent for 24 h; `request_hash` tells a repeat from a reuse of the key;
    `caller` is who asked (an API key's name or the loopback user).
    """

    command: Command
    key: str
    request_hash: bytes
    caller: str
    organization_id: str


class Receipt(Struct, frozen=True, kw_only=True):
    """A command is durable. `replayed` says that the key was known and nothing new was started.

    `disposition`: `started` (nothing ran before it), `queued` (at `queue_position`, 1 = next), or
    `steered` (joins the running turn at its next step).
    """

    run_id: str
    conversation_id: str
    seq: int
    replayed: bool = False
    disposition: Literal["started", "queued", "steered"] = "started"
    queue_position: int = 0


# --- edits: applied by the actor between steps, acknowledged after their fenced commit ---------


class UpdateAgent(Struct, frozen=True, kw_only=True):
    """Change the agent's settings, and replace its tools or blocks where given."""

    changes: AgentChanges = AgentChanges()
    tool_ids: tuple[str, ...] | UnsetType = UNSET
    block_ids: tuple[str, ...] | UnsetType = UNSET


class AttachBlock(Struct, frozen=True):
    """Attach an existing block; its label must be free on this agent. Attaching twice is no error."""

    block_id: str


class DetachBlock(Struct, frozen=True):
    """Detach a block; the block itself survives. Detaching what is not attached is no error."""

    block_id: str


class UpdateBlock(Struct, frozen=True, kw_only=True):
    """Change the block with this label. `if_version` makes it a compare-and-set for the client."""

    label: str
    changes: BlockChanges
    if_version: int | None = None


class AttachTool(Struct, frozen=True):
    """Attach a tool of the organisation by id. Attaching twice is no error."""

    tool_id: str


class DetachTool(Struct, frozen=True):
    """Detach a tool. Detaching what is not attached is no error."""

    tool_id: str


class CreateConversation(Struct, frozen=True, kw_only=True):
    """Open a further conversation of the agent under the id the caller made."""

    conversation_id: str
    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: JsonObject | None = None


class DeleteConversation(Struct, frozen=True):
    """Close a conversation: its runs are cancelled and it is no longer found."""

    conversation_id: str


class DeleteAgent(Struct, frozen=True):
    """Cancel every run, delete the agent with its messages, and end the actor. Blocks survive."""


Edit = (
    UpdateAgent
    | AttachBlock
    | DetachBlock
    | UpdateBlock
    | AttachTool
    | DetachTool
    | CreateConversation
    | DeleteConversation
    | DeleteAgent
)
