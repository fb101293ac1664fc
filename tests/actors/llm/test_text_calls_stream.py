"""Calls and replies of models that answer in JSON, read from text that arrives in any pieces."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.llm import text_calls
from actors.llm.formats import Format
from actors.llm.model import Piece, TextPiece, ToolCallPiece
from actors.llm.text_calls_stream import TRAILING_CHARS, OfferedReader

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]},
            },
        }
        for name, key in (("memory_insert", "text"), ("send_message", "message"))
    ]
).encode()


class Read:
    """What a reader made of a text."""

    def __init__(self, parts: list[str], *, choice: str = "auto", form: Format | None = None) -> None:
        self.reader = OfferedReader(text_calls.offer(TOOLS, choice, form))
        self.text = ""
        self.live = ""  # of it, before the end
        self.calls: list[tuple[str, str]] = []
        for part in parts:
            self._take(self.reader.feed(part))
        self.live = self.text
        self.live_arguments = self.calls[-1][1] if self.calls else ""
        self._take(self.reader.close())

    def _take(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            match piece:
                case TextPiece(text):
                    self.text += text
                case ToolCallPiece(index, call_id, name, arguments):
                    if index == len(self.calls):
                        assert call_id
                        self.calls.append((name, ""))
                    self.calls[index] = (self.calls[index][0], self.calls[index][1] + arguments)
                case _:
                    raise AssertionError(piece)


def pieces_of(text: str, sizes: list[int]) -> list[str]:
    parts, at = [], 0
    for size in sizes * (len(text) // max(1, sum(sizes)) + 1):
        parts.append(text[at : at + size])
        at += size
    return [part for part in (*parts, text[at:]) if part]


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)
SPEAKABLE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


@given(SPEAKABLE, SIZES, st.booleans())
def test_a_reply_is_its_text_and_streams(text: str, sizes: list[int], plain: bool) -> None:
    read = Read(pieces_of(json.dumps({"reply": text}, ensure_ascii=plain), sizes))
    assert (read.text, read.calls) == (text, [])
    assert read.live == text  # nothing was kept for the end


@given(st.dictionaries(st.text(max_size=3), SPEAKABLE, max_size=3), SPEAKABLE, SIZES)
def test_a_call_is_given_out_whole(more: dict[str, str], text: str, sizes: list[int]) -> None:
    arguments = {**{k: v for k, v in more.items() if k.isprintable()}, "text": text}
    answer = json.dumps({"name": "memory_insert", "arguments": arguments})
    read = Read(pieces_of(answer, sizes))
    assert read.text == ""
    ((name, written),) = read.calls
    assert (name, json.loads(written)) == ("memory_insert", arguments)
    assert read.live_arguments == ""


@given(SPEAKABLE, SIZES)
def test_what_people_read_of_a_call_streams(text: str, sizes: list[int]) -> None:
    read = Read(pieces_of(json.dumps({"name": "send_message", "arguments": {"message": text}}), sizes))
    assert json.loads(read.live_arguments) == {"message": text}
    assert read.reader.called


@given(SPEAKABLE.filter(lambda t: not t.lstrip().startswith(("{", "`", "<", "["))), SIZES)
def test_prose_is_text(text: str, sizes: list[int]) -> None:
    read = Read(pieces_of(text, sizes))
    assert (read.text, read.calls) == (text if text.strip() else "", [])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Bob", "age": 3}',
        '{"name": "delete_everything", "arguments": {}}',
        '{"foo": 1}',
        '{"arguments": {"text": "x"}}',
        "{not json",
        '```json\n{"a": 1}\n```',
    ],
)
def test_json_that_is_no_call_is_text(text: str) -> None:
    read = Read(list(text))
    assert (read.text, read.calls) == (text, [])


def test_a_call_that_lacks_arguments_is_a_call_so_that_its_model_is_told() -> None:
    read = Read(list('{"name": "memory_insert", "arguments": {}}'))
    assert (read.calls, read.reader.cut) == ([("memory_insert", "{}")], False)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "memory_insert", "arguments": {"text": "x"}}\n```',
        '<tool_call>{"name": "memory_insert", "arguments": {"text": "x"}}</tool_call>',
        '  {"arguments": {"text": "x"}, "name": "memory_insert"}',
        '{"name": "memory_insert", "parameters": {"text": "x"}}',
        '{"type": "function", "function": {"name": "memory_insert", "arguments": "{\\"text\\": \\"x\\"}"}}',
        '{"tool_calls": [{"name": "memory_insert", "arguments": {"text": "x"}}]}',
    ],
)
def test_other_spellings_of_a_call_are_calls(text: str) -> None:
    read = Read(list(text))
    assert [(name, json.loads(arguments)) for name, arguments in read.calls] == [
        ("memory_insert", {"text": "x"})
    ]


def test_a_reply_in_a_form_is_the_json_of_that_form() -> None:
    form = Format("answer", {"type": "object"})
    assert Read(list('{"reply": {"a": ["}", 1]}} '), form=form).text == '{"a": ["}", 1]}'


def test_a_call_that_was_cut_says_so_and_gives_what_there_is() -> None:
    read = Read(list('{"name": "memory_insert", "arguments": {"text": "half'))
    assert read.reader.cut
    assert read.calls == [("memory_insert", '{"text": "half')]


def test_a_cut_reply_keeps_its_text() -> None:
    read = Read(list('{"reply": "half a wor\\u00'))
    assert (read.text, read.reader.cut) == ("half a wor", False)


def test_a_model_that_runs_on_is_over() -> None:
    read = Read(['{"reply": "done"}', "\n" * TRAILING_CHARS, "\n"])
    assert (read.text, read.reader.over) == ("done", True)


@given(st.text(st.characters(codec="ascii")) | st.text(alphabet='{}[]":,\\ `<>naemrgutsly\n'), SIZES)
def test_nothing_is_lost_and_nothing_fails(text: str, sizes: list[int]) -> None:
    whole, cut = Read([text] if text else []), Read(pieces_of(text, sizes))
    assert whole.text == cut.text
    assert [call[0] for call in whole.calls] == [call[0] for call in cut.calls]


def test_a_schema_holds_every_tool_and_a_reply() -> None:
    offered = text_calls.offer(TOOLS, "auto", None)
    kinds: list[dict[str, Any]] = offered.schema["anyOf"]
    assert [kind["properties"].get("name", {}).get("const", "reply") for kind in kinds] == [
        "memory_insert",
        "send_message",
        "reply",
    ]
    assert not text_calls.offer(TOOLS, "required", None).reply
    only = text_calls.offer(TOOLS, "send_message", None)
    assert only.schema["properties"]["name"] == {"const": "send_message"}
    assert "anyOf" not in text_calls.offer(None, "auto", None).schema
