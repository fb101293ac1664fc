"""What may be asked of an agent: commands that are accepted durably, and edits on the control lane."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from storage.archive_records import Passage
from storage.pending_records import ClientTool
from storage.records import (
    AgentChanges,
    ApprovalPart,
    BlockChanges,
    ConversationChanges,
    ImagePart,
    JsonObject,
    TextPart,
    ToolReturnPart,
)

Decision = ApprovalPart | ToolReturnPart
WhenBusy = Literal["queue", "steer", "interrupt", "reject"]
Lane = Literal["control", "user", "background"]
Disposition = Literal["started", "queued", "steered"]
InputRole = Literal["user", "system", "assistant"]


class InputMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message as a client sent it, already checked at the edge."""

    role: InputRole
    content: tuple[TextPart | ImagePart, ...]
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None


class ClientSkill(Struct, frozen=True, kw_only=True):
    """A skill that the client of a request has: the model is told of it, and reads it with client tools."""

    name: str
    description: str
    location: str


class SendMessages(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="send"):
    """Add messages to a conversation and let the agent answer. The one durable command of this release.

    `model` and `system` override the agent's for this run only. `lane` orders it against other work.
    `steer_run` is the run that `when_busy="steer"` is aimed at: the command joins no other. It is refused
    where that run does not run, and a turn of its own where the run ended before it could join.
    `approvals` answer what the conversation waits for; `messages` then come after the results. A decision
    on a call or a client's own result of it, each by the call's id. `client_tools` are run by the client
    and hide tools of the agent with the same name; an answer that names none keeps those of the request.
    `client_skills` are named in the system message of this run, and kept nowhere.
    `withdraws` are stored messages, positions by id, that models are shown no more: an answer that is to be
    given anew. They stay in the history.
    `cancelled` is set where the command is stored, never by who sends it: whatever became of the process
    that was asked to cancel its run, the next one ends it. Likewise `interrupts`, the runs that were under
    way when a command with `when_busy="interrupt"` was accepted: they end with its acceptance.
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
    approvals: tuple[Decision, ...] = ()
    approvals_otid: str | None = None
    client_tools: tuple[ClientTool, ...] | None = None
    client_skills: tuple[ClientSkill, ...] = ()
    steer_run: str | None = None
    withdraws: dict[str, int] = {}
    cancelled: bool = False
    interrupts: tuple[str, ...] = ()


Command = SendMessages


class Envelope(Struct, frozen=True, kw_only=True):
    """A command with what its acceptance needs.

    `key` makes it idempotent for 24 h; `request_hash` tells a repeat from a reuse of the key;
    `caller` is who asked (an API key's name or the loopback user). `fresh` says that who asks has looked
    whether this was asked before, and found that it was not.
    """

    command: Command
    key: str
    request_hash: bytes
    caller: str
    organization_id: str
    fresh: bool = False


class Receipt(Struct, frozen=True, kw_only=True):
    """A command is durable. `replayed` says that the key was known and nothing new was started.

    `disposition`: `started` (nothing ran before it), `queued` (at `queue_position`, 1 = next), or
    `steered` (joins the running turn at its next step).
    """

    run_id: str
    conversation_id: str
    seq: int
    replayed: bool = False
    disposition: Disposition = "started"
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


class InsertPassages(Struct, frozen=True):
    """Store memories in the archive that the agent's own go to; the first one makes it."""

    passages: tuple[Passage, ...]


class DeletePassage(Struct, frozen=True):
    """Delete a passage of one of the agent's archives."""

    passage_id: str


class AttachArchive(Struct, frozen=True):
    """Let the agent search an archive of its organisation. Attaching twice is no error."""

    archive_id: str


class DetachArchive(Struct, frozen=True):
    """Take an archive from the agent; it survives. Detaching what is not attached is no error."""

    archive_id: str


class RequireApproval(Struct, frozen=True):
    """Let calls of a tool that the agent holds wait for an approval from now on, or no longer."""

    tool_name: str
    required: bool


class CreateConversation(Struct, frozen=True, kw_only=True):
    """Open a further conversation of the agent under the id the caller made."""

    conversation_id: str
    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: JsonObject | None = None


class ForkConversation(Struct, frozen=True, kw_only=True):
    """Open a conversation that begins with what models are shown of another, up to `message_id` or its end.

    It has a prompt of its own, compiled now, and its parent's name and model.
    """

    conversation_id: str
    parent_id: str
    message_id: str | None = None


class PartForks(Struct, frozen=True):
    """Give forks of a conversation messages of their own for those that they share with it after `position`.

    It comes before messages are withdrawn there: what a fork began with stays as it was.
    """

    conversation_id: str
    position: int


class OwnMessages(Struct, frozen=True):
    """Give a fork messages of its own for those that it shares with its ancestors after `position`.

    It comes before they are withdrawn there: whoever else has them keeps them as they are.
    """

    conversation_id: str
    position: int


class UpdateConversation(Struct, frozen=True):
    """Change an open conversation. A turn that runs keeps the model it began with."""

    conversation_id: str
    changes: ConversationChanges


class DeleteConversation(Struct, frozen=True):
    """Close a conversation: its runs are cancelled and it is no longer found."""

    conversation_id: str


class ResetMessages(Struct, frozen=True):
    """Show models nothing of what was said in a conversation so far; all of it stays stored.

    It waits for the end of the running turn. A request that waits for an answer is forgotten with the rest.
    `add_initial` lets the conversation begin with the messages that an agent of its type begins with.
    """

    conversation_id: str
    add_initial: bool = False


class Recompile(Struct, frozen=True):
    """Rebuild the stored system prompt of a conversation. A turn that runs keeps the one it began with."""

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
    | RequireApproval
    | InsertPassages
    | DeletePassage
    | AttachArchive
    | DetachArchive
    | CreateConversation
    | ForkConversation
    | PartForks
    | OwnMessages
    | UpdateConversation
    | DeleteConversation
    | ResetMessages
    | Recompile
    | DeleteAgent
)
