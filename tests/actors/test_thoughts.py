import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import thoughts
from actors.llm import openai_chat
from actors.thoughts import Splitter
from storage.records import Part, ReasoningPart, TextPart, Tool, ToolCallPart
from tests.actors.pieces import built_in_tools, message
from tests.actors.test_jsontext import cuts, objects, pieces, texts


def split(text: str, sizes: list[int]) -> tuple[str, str]:
    splitter, thought, rest = Splitter(), "", ""
    for piece in pieces(text, sizes):
        more, argued = splitter.feed(piece)
        thought, rest = thought + more, rest + argued
    return thought, rest + splitter.close()


@given(texts, objects, cuts, st.sampled_from([None, 1]))
def test_thoughts_in_the_first_place_are_taken_out_wherever_the_text_is_cut(
    thought: str, others: dict[str, object], sizes: list[int], indent: int | None
) -> None:
    others.pop("thinking", None)
    wire = json.dumps({"thinking": thought, **others}, indent=indent, ensure_ascii=False)
    taken, rest = split(wire, sizes)
    assert taken == thought
    assert json.loads(rest) == others


@given(texts, objects, objects, cuts, st.sampled_from([None, 1]))
def test_thoughts_behind_other_arguments_are_taken_out_too(
    thought: str, before: dict[str, object], after: dict[str, object], sizes: list[int], indent: int | None
) -> None:
    for others in (before, after):
        others.pop("thinking", None)
    wire = json.dumps({**before, "thinking": thought, **after}, indent=indent, ensure_ascii=False)
    taken, rest = split(wire, sizes)
    assert taken == thought
    assert json.loads(rest) == {**before, **after}


@given(st.text(max_size=30) | objects.map(json.dumps), cuts)
def test_whatever_is_cut_anywhere_gives_the_same(text: str, sizes: list[int]) -> None:
    assert split(text, sizes) == split(text, [10_000])


@given(objects, cuts)
def test_without_thoughts_nothing_is_changed(others: dict[str, object], sizes: list[int]) -> None:
    others.pop("thinking", None)
    wire = json.dumps(others)
    assert split(wire, sizes) == ("", wire)


@pytest.mark.parametrize(
    ("wire", "thought", "rest"),
    [
        ('{"thinking": null, "a": 1}', "", '{"thinking": null, "a": 1}'),
        ('{"a": 1, "thinking": "late"}', "late", '{"a": 1}'),
        ('{"a": 1 ,\n "thinking" : "late", "b": [2, "}"]}', "late", '{"a": 1 , "b": [2, "}"]}'),
        ('{"thinking": 5, "thinking": "late"}', "late", '{"thinking": 5}'),
        ('{"thinking": "x", "thinking": "y"}', "x", '{"thinking": "y"}'),
        ('{"a": 1, "thinking": "x", "thinking": "y"}', "x", '{"a": 1, "thinking": "y"}'),
        ('{"a": {"b": 1, "thinking": "within"}}', "", '{"a": {"b": 1, "thinking": "within"}}'),
        (
            '{"a": "\\", \\"thinking\\": \\"no", "thinking": "yes"}',
            "yes",
            '{"a": "\\", \\"thinking\\": \\"no"}',
        ),
        ('{"a": 1, "thinking": "cut', "cut", '{"a": 1'),
        ('{"a": 1, "thinki', "", '{"a": 1, "thinki'),
        ('{"a": "cut \\', "", '{"a": "cut \\'),
        ('{}{"a": 1, "thinking": "x"}', "", '{}{"a": 1, "thinking": "x"}'),
        ('{"thinking": "cut off', "cut off", ""),
        ('{"thinking": "x"', "x", "{"),
        ('{"thinking": "x",', "x", "{"),
        ('{"thinking": "x"}', "x", "{}"),
        ('{"thinking": "x"} tail', "x", "{} tail"),
        ('{"thin', "", '{"thin'),
        ("no json", "", "no json"),
        ("", "", ""),
    ],
)
def test_odd_arguments_keep_what_they_say(wire: str, thought: str, rest: str) -> None:
    assert split(wire, [1]) == (thought, rest)


# --- schemas and calls ------------------------------------------------------------------------------


def test_thinking_comes_first_and_the_heartbeat_last() -> None:
    tool = thoughts.with_arguments(built_in_tools()["memory_insert"], terminal=False)
    parameters = tool.json_schema["parameters"]
    assert list(parameters["properties"]) == [
        "thinking",
        "label",
        "new_string",
        "insert_line",
        "request_heartbeat",
    ]
    assert parameters["required"] == ["thinking", "label", "new_string", "request_heartbeat"]


def test_a_terminal_tool_takes_no_heartbeat() -> None:
    tool = thoughts.with_arguments(built_in_tools()["memory_insert"], terminal=True)
    assert "request_heartbeat" not in tool.json_schema["parameters"]["properties"]


def own(**properties: Any) -> Tool:
    schema = {"name": "x", "parameters": {"type": "object", "properties": properties, "required": []}}
    base = built_in_tools()["memory_insert"]
    return type(base)(
        **{f: getattr(base, f) for f in base.__struct_fields__ if f not in ("json_schema", "name")},
        name="x",
        json_schema=schema,
    )


def test_an_argument_of_the_tools_own_stays_its_own() -> None:
    tool = own(thinking={"type": "integer"})
    shown = thoughts.with_arguments(tool, terminal=False).json_schema["parameters"]
    assert shown["properties"]["thinking"] == {"type": "integer"}
    assert shown["required"] == ["request_heartbeat"]
    kept = thoughts.without_arguments('{"thinking": 1, "request_heartbeat": true}', tool)
    assert json.loads(kept) == {"thinking": 1}


def test_what_is_no_object_stays_as_it_is_for_the_tool_to_refuse() -> None:
    tool = built_in_tools()["memory_insert"]
    assert thoughts.without_arguments("not json", tool) == "not json"
    assert thoughts.without_arguments('{"label":"a"}', tool) == '{"label":"a"}'


@pytest.mark.parametrize(
    ("arguments", "wants"),
    [
        ('{"request_heartbeat": true}', True),
        ('{"request_heartbeat": "True"}', True),
        ('{"request_heartbeat": false}', False),
        ('{"request_heartbeat": 1}', False),
        ('{"a": {"request_heartbeat": true}}', False),
        ("{}", False),
        ("broken", False),
    ],
)
def test_a_heartbeat_is_asked_for_by_its_value(arguments: str, wants: bool) -> None:
    assert thoughts.wants_heartbeat(arguments) == wants


# --- what goes back to the model ------------------------------------------------------------------------


def thought(text: str) -> ReasoningPart:
    return ReasoningPart(text, source="non_reasoner_model")


@given(texts, objects)
def test_a_thought_goes_back_into_its_call(text: str, others: dict[str, object]) -> None:
    others.pop("thinking", None)
    content: tuple[Part, ...] = (thought(text), ToolCallPart("c", "f", json.dumps(others)))
    (call,) = thoughts.rejoined(content)
    assert isinstance(call, ToolCallPart)
    assert json.loads(call.arguments) == {"thinking": text, **others}
    assert next(iter(json.loads(call.arguments))) == "thinking"


@given(texts, objects)
def test_a_thought_that_came_late_goes_back_into_its_call_too(text: str, others: dict[str, object]) -> None:
    others.pop("thinking", None)
    content: tuple[Part, ...] = (ToolCallPart("c", "f", json.dumps(others)), thought(text))
    (call,) = thoughts.rejoined(content)
    assert isinstance(call, ToolCallPart)
    assert json.loads(call.arguments) == {"thinking": text, **others}


def test_a_thought_without_a_call_goes_back_as_text_and_a_reasoners_stays_what_it_is() -> None:
    reasoned = ReasoningPart("native")
    assert thoughts.rejoined((reasoned, thought("said"))) == (reasoned, TextPart("said"))
    plain = (reasoned, TextPart("a"), ToolCallPart("c", "f", "{}"))
    assert thoughts.rejoined(plain) is plain


def test_broken_arguments_are_sent_back_quoted_and_not_lost() -> None:
    broken = thoughts.rejoined((thought("t"), ToolCallPart("c", "f", "nonsense")))
    wire = json.loads(openai_chat.encode_message(message(1, "assistant", *broken)))
    sent = json.loads(wire["tool_calls"][0]["function"]["arguments"])
    assert sent == {"invalid_arguments": "nonsense"}
