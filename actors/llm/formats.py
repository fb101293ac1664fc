"""The form that an answer shall have, as a person asked for it and as each dialect says it. Pure."""

import re
from typing import Any, cast

from msgspec import Struct

from storage.records import JsonObject, ModelSettings

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Format(Struct, frozen=True):
    """A JSON answer: `schema` is its JSON schema, `None` where any object will do."""

    name: str = "answer"
    schema: JsonObject | None = None
    strict: bool | None = None

    @property
    def chat(self) -> JsonObject:
        """Return `response_format` of chat completions."""
        if self.schema is None:
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": self._described}

    @property
    def responses(self) -> JsonObject:
        """Return `text.format` of responses."""
        if self.schema is None:
            return {"type": "json_object"}
        return {"type": "json_schema", **self._described}

    @property
    def _described(self) -> JsonObject:
        strict = {} if self.strict is None else {"strict": self.strict}
        return {"name": self.name, "schema": self.schema, **strict}


def wanted(settings: ModelSettings) -> Format | None:
    """Return the form that these settings ask for, `None` for ordinary text.

    Reads OpenAI's two spellings: the schema under `json_schema`, or beside `type`.
    """
    asked = settings.response_format
    if asked is None:
        return None
    match asked.get("type"):
        case "json_object":
            return Format()
        case "json_schema":
            inner: Any = asked.get("json_schema")
            described: JsonObject = cast("JsonObject", inner) if isinstance(inner, dict) else asked
            schema: Any = described.get("schema")
            name, strict = described.get("name"), described.get("strict")
            return Format(
                name=name if isinstance(name, str) and _NAME.fullmatch(name) else "answer",
                schema=cast("JsonObject", schema) if isinstance(schema, dict) else {},
                strict=strict if isinstance(strict, bool) else None,
            )
        case _:
            return None
