"""OpenAI's format as the scripted provider writes it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bench import wire
from bench.replies import Reply, ToolCall


def asked(**more: Any) -> wire.Asked:
    return wire.read_request(
        msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}], **more})
    )


def plan_of(reply: Reply, **more: Any) -> wire.Plan:
    return wire.plan(reply, asked(stream=True, **more), "hi", number=1, created=1)


@given(st.text(), st.lists(st.integers(1, 40), min_size=1))
def test_a_stream_cut_anywhere_is_the_same_stream(text: str, sizes: list[int]) -> None:
    whole, cut = plan_of(Reply(text=text)), plan_of(Reply(text=text, chunk=tuple(sizes)))
    assert b"".join(cut.pieces) + cut.closing == b"".join(whole.pieces) + whole.closing


@given(st.text(), st.text())
def test_texts_and_arguments_arrive_whole(text: str, arguments: str) -> None:
    calls = (ToolCall("f", arguments), ToolCall("g", {"a": 1}))
    plan = plan_of(Reply(text=text, tool_calls=calls, interleave=True))
    said, args = "", ["", ""]
    for event in (b"".join(plan.pieces) + plan.closing).split(b"\n\n"):
        if event.startswith(b"data: {"):
            delta = msgspec.json.decode(event[6:])["choices"][0]["delta"]
            said += delta.get("content") or ""
            for call in delta.get("tool_calls", ()):
                args[call["index"]] += call["function"]["arguments"]
    assert said == text
    assert args == [arguments, '{"a":1}']


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "ok"}


CALLS = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}
USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("messages", "refused"),
    [
        ([USER], False),
        ([USER, CALLS, result("b"), result("a"), USER], False),
        ([], True),
        ([USER, CALLS, result("a"), USER], True),
        ([USER, CALLS], True),
        ([USER, CALLS, result("a"), result("b"), result("a")], True),
        ([USER, result("a")], True),
    ],
)
def test_a_call_without_exactly_one_result_is_refused(messages: list[Any], refused: bool) -> None:
    body = msgspec.json.encode(messages)
    assert (wire.refusal([Raw(msgspec.json.encode(m)) for m in messages], body) is not None) is refused


def test_the_last_user_message_is_read_in_both_spellings() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "bee"}]}
    raws = [Raw(msgspec.json.encode(m)) for m in (USER, parts, {"role": "assistant", "content": "no"})]
    assert wire.last_user_text(raws) == "a bee"


def test_vectors_are_deterministic_and_near_where_words_are_shared() -> None:
    def vectors() -> list[list[float]]:
        texts = ["the cat sat", "the cat ran", "quantum flux"]
        return [d["embedding"] for d in msgspec.json.decode(wire.embeddings(wire.Embed(texts)))["data"]]

    def near(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    cat, ran, flux = vectors()
    assert [cat, ran, flux] == vectors()
    assert len(cat) == wire.DIMENSIONS
    assert near(cat, ran) > 0.5 > abs(near(cat, flux))


def test_a_model_held_to_a_schema_of_calls_and_replies_answers_in_it() -> None:
    kinds = [{"properties": {"name": {}, "arguments": {}}}, {"properties": {"reply": {}}}]
    held = asked(response_format={"type": "json_schema", "json_schema": {"schema": {"anyOf": kinds}}})
    said = wire.in_schema(Reply(text="Hello"), held)
    assert said.text is not None
    assert msgspec.json.decode(said.text) == {"reply": "Hello"}
    called = wire.in_schema(Reply(tool_calls=(ToolCall("f", {"a": 1}),)), held)
    assert called.text is not None
    assert (msgspec.json.decode(called.text), called.tool_calls) == ({"name": "f", "arguments": {"a": 1}}, ())
    other = asked(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}})
    assert wire.in_schema(Reply(text="{}"), other).text == "{}"
