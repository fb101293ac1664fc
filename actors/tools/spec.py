"""What a built-in tool is, as data: its name, what models are told about it, and how it is run."""

from typing import Literal

from msgspec import Struct

from storage.records import JsonObject

RETURN_LIMIT_CHARS = 50_000


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A built-in tool as data.

    `kind` says how it runs: `memory` tools are pure edits that the actor applies at the end of the
    step, `read` tools are awaited during it and change nothing, an `archive` tool is prepared during it
    and stored with it, a `said` tool does nothing but be called: its result is `says`, and a `call` is
    awaited during the step and may do anything. `effects` is `outside` where running it twice would be
    noticed outside of this system: its intent is then committed first, and after a crash it is run again
    only if it is `idempotent`. `cut_result` is false for tools
    that bound their own result.
    """

    name: str
    description: str
    parameters: JsonObject
    tool_type: str
    kind: Literal["memory", "read", "archive", "said", "call"]
    says: str = ""
    effects: Literal["none", "outside"] = "none"
    idempotent: bool = False
    return_char_limit: int = RETURN_LIMIT_CHARS
    cut_result: bool = True

    @property
    def json_schema(self) -> JsonObject:
        """Return the function schema that models and clients are shown."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


def arguments_of(required: tuple[str, ...], **properties: JsonObject) -> JsonObject:
    """Return the schema of an object with these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
