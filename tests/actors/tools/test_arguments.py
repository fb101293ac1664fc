import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tools import arguments
from actors.tools.arguments import parse
from actors.tools.registry import BUILTIN, CONVERSATION_SEARCH, MEMORY_INSERT, MEMORY_REPLACE
from actors.tools.spec import ToolSpec
from tests.actors.tools.schemas import STRANGE

GOOD = {"label": "human", "new_string": "Plays chess."}


def refused(text: str) -> str:
    error = parse(MEMORY_INSERT, text)
    assert isinstance(error, str)
    assert error.startswith("Error: memory_insert was not run")
    assert error.endswith("It takes: label, new_string, insert_line (optional).")
    assert len(error) < 500
    return error


def test_correct_arguments_come_back_as_values() -> None:
    assert parse(MEMORY_INSERT, json.dumps(GOOD)) == GOOD
    assert parse(MEMORY_INSERT, json.dumps({**GOOD, "insert_line": -1})) == {**GOOD, "insert_line": -1}
    assert parse(CONVERSATION_SEARCH, "{}") == {}
    assert parse(CONVERSATION_SEARCH, ' \n{"roles": ["user"], "limit": 3} ') == {
        "roles": ["user"],
        "limit": 3,
    }


@given(st.dictionaries(st.sampled_from(["label", "old_string", "new_string"]), st.text(), min_size=3))
def test_what_a_json_encoder_writes_is_read_back(given_arguments: dict[str, str]) -> None:
    expected = {k: v.replace("\0", "\ufffd") for k, v in given_arguments.items()}
    assert parse(MEMORY_REPLACE, json.dumps(given_arguments)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("null", "they are null; send one JSON object"),
        ("[]", "they are an array; send one JSON object"),
        ('"x"', "they are a string; send one JSON object"),
        ("7", "they are a number; send one JSON object"),
        ("true", "they are a boolean; send one JSON object"),
        ("{'label': 'human'}", "not valid JSON"),
        ('{"label": "human", "new_string": "cut o', "not valid JSON"),
        ("label=human", "not valid JSON"),
        ('{"label": NaN, "new_string": ""}', "NaN is not JSON"),
        ('{"label": "a", "new_string": "", "insert_line": -Infinity}', "-Infinity is not JSON"),
        ('{"label": "a", "new_string": "", "insert_line": 1e999}', "too large a number"),
        ('{"label": "a", "new_string": "", "insert_line": ' + "9" * 5_000 + "}", "not valid JSON"),
        ('{"label": "a", "label": "b", "new_string": ""}', "'label' is given twice"),
        ('{"label": {"x": 1, "x": 2}, "new_string": ""}', "'x' is given twice"),
        ('{"label": "a", "new_string": "b"} and so on', "something follows the JSON object"),
        ('[{"label": "a"}]{"label": "b"}', "something follows the JSON object"),
        ('{"label": "a"}', "new_string is missing; add it"),
        ('{"label": "a", "new_string": "b", "evil": 2}', "'evil' is not one of them; leave it out"),
        ('{"self": 1, "agent_state": {}, "__class__": 1}', "'self' is not one of them"),
        ('{"label": "a", "new_string": "b", "request_heartbeat": true}', "'request_heartbeat' is not one"),
        ('{"label": 7, "new_string": "b"}', "label is a number; send a string"),
        ('{"label": null, "new_string": "b"}', "label is null; send a string"),
        ('{"label": "a", "new_string": ["b"]}', "new_string is an array; send a string"),
        ('{"label": "a", "new_string": {"b": 1}}', "new_string is an object; send a string"),
        ('{"label": "a", "new_string": "b", "insert_line": "3"}', "insert_line is a string; send an integer"),
        ('{"label": "a", "new_string": "b", "insert_line": true}', "insert_line is a boolean; send an int"),
        ('{"label": "a", "new_string": "b", "insert_line": 1.5}', "insert_line is a number; send an integer"),
        ("{" * 200, "not valid JSON"),
        ('{"label":' * 100_000, "nested too deeply"),
        ('{"label":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"label": "' + "x" * arguments.MAX_CHARS + '"}', "the limit is 1000000"),
        ('{"' + "k" * 10_000 + '": 1}', "is not one of them"),
    ],
)
def test_a_mistake_is_named_with_its_remedy_and_is_never_an_empty_object(text: str, reason: str) -> None:
    assert reason in refused(text)


def test_errors_inside_arrays_name_the_choices() -> None:
    error = parse(CONVERSATION_SEARCH, '{"roles": ["user", "tool"]}')
    assert "roles holds an item that is 'tool'; send one of user, assistant" in str(error)
    assert "roles is a string; send an array" in str(parse(CONVERSATION_SEARCH, '{"roles": "user"}'))
    assert "holds an item that is null" in str(parse(CONVERSATION_SEARCH, '{"roles": [null]}'))


def test_of_several_objects_in_a_row_the_first_counts() -> None:
    text = json.dumps(GOOD)
    assert parse(MEMORY_INSERT, text + text) == GOOD
    assert parse(MEMORY_INSERT, text + ' {"label": "cut') == GOOD


def test_null_leaves_an_optional_argument_out() -> None:
    assert parse(MEMORY_INSERT, json.dumps({**GOOD, "insert_line": None})) == GOOD
    assert parse(CONVERSATION_SEARCH, '{"query": null, "roles": null, "limit": 2}') == {"limit": 2}


def test_a_whole_number_is_an_integer_however_it_is_written() -> None:
    parsed = parse(MEMORY_INSERT, '{"label": "a", "new_string": "b", "insert_line": 3.0}')
    assert isinstance(parsed, dict)
    assert parsed["insert_line"] == 3
    assert isinstance(parsed["insert_line"], int)


def test_what_cannot_be_stored_is_replaced() -> None:
    parsed = parse(MEMORY_INSERT, r'{"label": "a\u0000", "new_string": "b\ud800c \ud83d\ude00"}')
    assert parsed == {"label": "a\ufffd", "new_string": "b\ufffdc 😀"}
    assert parse(CONVERSATION_SEARCH, '{"query": "a\0b\ud800"}') != {"query": "a\0b\ud800"}


@given(st.text())
def test_no_text_at_all_raises(text: str) -> None:
    parsed = parse(CONVERSATION_SEARCH, text)
    assert isinstance(parsed, str) or parsed.keys() <= CONVERSATION_SEARCH.parameters["properties"].keys()


# --- schemas of others --------------------------------------------------------------------------


def theirs(parameters: dict[str, Any]) -> ToolSpec:
    return ToolSpec(name="theirs", description="", parameters=parameters, tool_type="custom", kind="call")


@pytest.mark.parametrize("schema", STRANGE.values(), ids=STRANGE.keys())
@pytest.mark.parametrize(
    "text", ["{}", '{"x": "y"}', '{"zz": 1}', '{"x": ' * 80 + "1" + "}" * 80, '{"p1": {}, "p9999": [1]}']
)
def test_a_schema_of_any_shape_is_held_against_arguments_at_once(schema: dict[str, Any], text: str) -> None:
    spec = theirs(schema)
    began = time.process_time()
    parsed = parse(spec, text)
    assert time.process_time() - began < 0.1
    assert isinstance(parsed, str) or parsed == json.loads(text)


def test_what_a_schema_says_of_nested_values_is_checked() -> None:
    spec = theirs(
        {
            "type": "object",
            "properties": {
                "where": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "zip": {"type": ["integer", "null"]}},
                    "required": ["city"],
                },
                "share": {"type": "number"},
                "now": {"type": "boolean"},
            },
            "required": ["where", "why"],
        }
    )
    good = {"where": {"city": "Graz", "zip": None}, "why": 1, "share": 1.0, "now": True, "more": [1]}
    assert parse(spec, json.dumps(good)) == good
    for changes, reason in (
        ({"where": {}}, "where lacks city; add it"),
        ({"where": {"city": 1}}, "where has a 'city' that is a number; send a string"),
        ({"where": {"city": "x", "zip": "y"}}, "has a 'zip' that is a string; send an integer or null"),
        ({"share": "1"}, "share is a string; send a number"),
        ({"now": 1}, "now is a number; send a boolean"),
        ({"where": []}, "where is an array; send an object"),
    ):
        assert reason in str(parse(spec, json.dumps({**good, **changes})))
    without = json.dumps({"where": {"city": "x"}})
    assert "why is missing; add it" in str(parse(spec, without))
    assert "It takes: where, share (optional), now (optional), why." in str(parse(spec, without))


@pytest.mark.parametrize("spec", BUILTIN.values(), ids=lambda s: s.name)
def test_every_built_in_tool_refuses_what_it_does_not_know(spec: ToolSpec) -> None:
    assert "'evil' is not one of them" in str(parse(spec, '{"evil": 1}'))


def test_an_unknown_command_of_memory_is_refused_with_the_known_ones() -> None:
    said = str(parse(BUILTIN["memory"], '{"command": "format"}'))
    assert "command is 'format'; send one of create, str_replace, insert, delete, rename" in said
    assert "insert_line is a string" in str(
        parse(BUILTIN["memory"], '{"command": "insert", "insert_line": "1"}')
    )


def test_tags_are_a_list_of_words() -> None:
    insert = BUILTIN["archival_memory_insert"]
    assert parse(insert, '{"content": "x", "tags": ["a"]}') == {"content": "x", "tags": ["a"]}
    assert parse(insert, '{"content": "x", "tags": null}') == {"content": "x"}
    assert "tags is a string; send an array" in str(parse(insert, '{"content": "x", "tags": "a"}'))
    assert "holds an item that is a number" in str(parse(insert, '{"content": "x", "tags": [1]}'))
