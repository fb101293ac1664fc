"""Calls that a model with tools wrote as text; and prose, which is never misread."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.llm.model import TextPiece, ToolCallPiece
from actors.llm.stray_calls import StrayReader, find_calls
from tests.actors.llm.test_text_calls_stream import SIZES, SPEAKABLE, pieces_of

TOOLS = {"memory_insert": frozenset({"text"}), "search": frozenset[str]()}
CALL = '{"name": "memory_insert", "arguments": {"text": "x"}}'


def read(parts: list[str]) -> tuple[str, list[str], StrayReader]:
    """Return (text, names of calls, the reader)."""
    reader = StrayReader(TOOLS)
    pieces = [piece for part in parts for piece in reader.feed(part)] + reader.close()
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    return text, [piece.name for piece in pieces if isinstance(piece, ToolCallPiece)], reader


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (CALL, ["memory_insert"]),
        (f"\n\n{CALL}\n", ["memory_insert"]),
        (f"```json\n{CALL}\n```", ["memory_insert"]),
        (f"<tool_call>\n{CALL}\n</tool_call>", ["memory_insert"]),
        (f"<tool_call>\n{CALL}", ["memory_insert"]),
        (f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", ["memory_insert"] * 2),
        (f"[TOOL_CALLS][{CALL}]", ["memory_insert"]),
        (f"<|python_tag|>{CALL}", ["memory_insert"]),
        ('{"type": "function", "name": "search", "parameters": {}}', ["search"]),
        ('[{"name": "search", "arguments": {}}]', ["search"]),
    ],
)
def test_an_answer_that_is_nothing_but_calls_is_calls(text: str, names: list[str]) -> None:
    assert read(list(text))[:2] == ("", names)


@pytest.mark.parametrize(
    "text",
    [
        f"To remember it, I would write {CALL}.",
        f"{CALL} is how one calls it.",
        f"Like this:\n```json\n{CALL}\n```",
        f"```json\n{CALL}\n```\nThat was an example.",
        '{"name": "Ada Lovelace", "arguments": {"born": 1815}}',
        '{"name": "memory_insert", "born": 1815}',
        '{"name": "memory_insert", "arguments": {"note": "no text"}}',
        '[{"name": "search", "arguments": {}}, {"name": "Ada"}]',
        '{"title": "a list", "items": [1, 2]}',
        "[1, 2, 3]",
        "```python\nprint(1)\n```",
        "<p>Hello</p>",
        "{",
        "[TOOL",
        "",
    ],
)
def test_anything_else_is_text_as_it_stands(text: str) -> None:
    assert read(list(text))[:2] == (text, [])


@given(SPEAKABLE, SIZES)
def test_every_text_comes_out_as_it_went_in(text: str, sizes: list[int]) -> None:
    assert read(pieces_of(text, sizes))[:2] == (text, [])


@given(st.integers(1, 20))
def test_ordinary_words_are_not_held_back(size: int) -> None:
    reader = StrayReader(TOOLS)
    assert reader.feed("Hello"[:size])
    assert reader.settled


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_arguments_survive(text: str) -> None:
    calls = find_calls(json.dumps({"name": "search", "arguments": {"q": text}}), TOOLS)
    assert calls is not None
    assert json.loads(calls[0].arguments) == {"q": text.replace("\0", "\ufffd")} or "\0" in text
