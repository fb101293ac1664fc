"""What a model is written to in: one value that decides the bytes of every message. Pure."""

from typing import Literal

from msgspec import Struct

Api = Literal["chat", "responses"]
# How a model gets its own earlier thoughts back, where it wants them.
Thoughts = Literal[
    "none",
    "encrypted",  # OpenAI's responses: reasoning items with their encrypted content
    "reasoning_content",  # DeepSeek: the text itself, in every message
    "reasoning_details",  # OpenRouter: its list, unchanged
    "thought_signature",  # Gemini: a signature at the call
]


class Dialect(Struct, frozen=True, kw_only=True):
    """How messages are written. A thread keeps its window encoded in one dialect.

    `signer` is the handle of the model whose thoughts are sent back (see `thoughts`). `calls` is
    `text` for models that cannot call tools natively: calls and results are ordinary text then.
    Without `images` a note stands where an image was.
    """

    api: Api = "chat"
    thoughts: Thoughts = "none"
    signer: str = ""
    calls: Literal["native", "text"] = "native"
    images: bool = True

    def signed(self, signer: str | None) -> bool:
        """Whether thoughts of the model `signer` are sent back."""
        return self.thoughts != "none" and signer == self.signer


CHAT = Dialect()
