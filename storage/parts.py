"""What messages are made of: the parts of their content."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

JsonObject = dict[str, Any]

ToolStatus = Literal["success", "error"]
ReasoningSource = Literal["reasoner_model", "non_reasoner_model"]


class TextPart(Struct, frozen=True, tag_field="type", tag="text", gc=False):
    """Plain text written by a person or the model."""

    text: str


class ImagePart(Struct, frozen=True, tag_field="type", tag="image"):
    """An image: `source` is Letta's `{"type": "url" | "base64" | "letta", …}` object, unchanged."""

    source: JsonObject


class ReasoningPart(Struct, frozen=True, tag_field="type", tag="reasoning", gc=False, omit_defaults=True):
    """The model's thoughts, shown to people and never sent back to a model that did not sign them.

    `signature` is what that model wants back with them, opaque to us; `signer` is its handle. Thoughts
    that the model wrote as text or as an argument of a call are of a `non_reasoner_model`: they go back
    to it as it wrote them.
    """

    reasoning: str
    signature: str | None = None
    signer: str | None = None
    source: ReasoningSource = "reasoner_model"


class ToolCallPart(Struct, frozen=True, tag_field="type", tag="tool_call", gc=False, omit_defaults=True):
    """One call the model asked for. `arguments` is the JSON text exactly as the model wrote it.

    `signature` is what the model of the handle `signer` wants back with the call, opaque to us.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None
    signer: str | None = None


class ToolReturnPart(Struct, frozen=True, tag_field="type", tag="tool_return"):
    """The one result of one call: `text` and what is left out without any, `images`.

    They are what the model is shown and what clients see.
    """

    tool_call_id: str
    name: str
    status: ToolStatus
    text: str
    stdout: tuple[str, ...] = ()
    stderr: tuple[str, ...] = ()
    images: tuple[ImagePart, ...] | UnsetType = UNSET

    @property
    def shown(self) -> tuple[ImagePart, ...]:
        """The images, none where there are none."""
        return () if self.images is UNSET else self.images


class ApprovalPart(Struct, frozen=True, tag_field="type", tag="approval", gc=False):
    """What a person decided about one call. `arguments` replace those of the model where they are given."""

    tool_call_id: str
    approve: bool
    reason: str | None = None
    arguments: str | None = None


Part = TextPart | ImagePart | ReasoningPart | ToolCallPart | ToolReturnPart | ApprovalPart
