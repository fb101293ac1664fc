"""What a model is to the rest of the system: bytes in, batches of deltas out."""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from msgspec import Struct

from actors.llm.dialects import CHAT, Dialect
from storage.records import ModelSettings, Usage


class TextPiece(Struct, frozen=True, gc=False):
    """A fragment of the answer."""

    text: str


class ReasoningPiece(Struct, frozen=True, gc=False):
    """A fragment of the model's thoughts."""

    text: str


class ToolCallPiece(Struct, frozen=True, gc=False):
    """A fragment of call `index`: `id` and `name` are set in its first fragment only."""

    index: int
    id: str
    name: str
    arguments: str


class SignaturePiece(Struct, frozen=True, gc=False):
    """What the model wants back with its thoughts so far, or, with `index`, with that call."""

    signature: str
    index: int | None = None


class UsageReported(Struct, frozen=True, gc=False):
    """The provider's own token counts for this call."""

    usage: Usage


class Finished(Struct, frozen=True, gc=False):
    """The provider ended its answer. `reason` is its own word: stop, length, tool_calls, content_filter …"""

    reason: str


Piece = TextPiece | ReasoningPiece | ToolCallPiece | SignaturePiece | UsageReported | Finished


class ModelRef(Struct, frozen=True, kw_only=True):
    """A model that can be called: `handle` is `provider/name`, `name` what the provider calls it.

    `display_name` is what people are shown; empty means `name`. `window_source` says who named the
    window: `server` (or what its server takes by default), `table` (ours), `default` (nobody: a
    cautious guess). `native_tools` and `images` are what its server says it can do; `None` is unknown.
    """

    handle: str
    name: str
    provider: str
    provider_type: str
    endpoint: str
    context_window_tokens: int
    max_output_tokens: int | None = None
    display_name: str = ""
    window_source: str = "table"
    native_tools: bool | None = None
    images: bool | None = None


class Request(Struct, frozen=True, kw_only=True):
    """One model call. `messages` are already encoded in `dialect`, which must be the model's own.

    `messages` is the system message followed by the window, each one JSON object; `tools` is a JSON
    array in the chat-completions dialect or `None`. `key` names the call for logs and for the
    provider's idempotency header. `sent` is called each time the request was written to a connection.
    """

    messages: list[bytes]
    tools: bytes | None
    tool_choice: str
    settings: ModelSettings
    key: str
    dialect: Dialect = CHAT
    sent: Callable[[], None] | None = None


Take = Callable[[list[Piece]], None]  # takes pieces, never none, where they arrive; it never blocks


class Model(Protocol):
    """A model bound to its endpoint."""

    ref: ModelRef

    def dialect(self, settings: ModelSettings) -> Dialect:
        """Return how this model is written to. It may change when a failed call taught something."""
        ...

    def stream(self, request: Request, take: Take | None = None) -> AsyncGenerator[list[Piece], None]:
        """Yield the answer's pieces, as many at once as one network read brought.

        What comes while the caller waits may go to `take` at once instead, which saves a switch of tasks:
        in order, and never the last of it. What `take` raises ends the answer, and is raised here.

        Ends after `Finished`. Cancelling closes the connection. Close it with `contextlib.aclosing`.

        Raises:
            ModelError: The call failed; see its attributes for what to do.
        """
        ...
