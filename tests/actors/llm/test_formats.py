"""The form of an answer, in the spellings of people and of dialects."""

from typing import Any

import pytest

from actors.llm.formats import Format, wanted
from storage.records import ModelSettings

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "something new"}, None),
        ({"type": "json_object"}, Format()),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            Format("n", SCHEMA, True),
        ),
        ({"type": "json_schema", "name": "n", "schema": SCHEMA}, Format("n", SCHEMA)),
        (
            {"type": "json_schema", "json_schema": {"name": "a name!", "schema": SCHEMA}},
            Format("answer", SCHEMA),
        ),
        ({"type": "json_schema"}, Format("answer", {})),
    ],
)
def test_a_form_is_understood(asked: dict[str, Any] | None, expected: Format | None) -> None:
    assert wanted(ModelSettings(response_format=asked)) == expected


def test_each_dialect_spells_it_its_way() -> None:
    form = Format("n", SCHEMA, False)
    assert form.chat == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": SCHEMA, "strict": False},
    }
    assert form.responses == {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": False}
    assert Format().chat == Format().responses == {"type": "json_object"}
