import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.commands import InputMessage, SendMessages
from actors.entries import IMAGE_CHARS, IMAGE_TOKENS, MESSAGE_TOKENS, entries, inputs_of, joined, tokens_of
from actors.llm.dialects import CHAT, Dialect
from storage.records import (
    ApprovalPart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from tests.actors.pieces import AGENT_ID, agent, message

texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=20)
parts = st.one_of(
    st.builds(TextPart, texts),
    st.builds(ReasoningPart, texts),
    st.builds(ToolCallPart, texts, texts, texts),
    st.builds(ToolReturnPart, texts, texts, st.just("success"), texts),
)


def test_an_excluded_message_is_never_sent() -> None:
    assert entries(message(3, "user", TextPart("poison"), excluded=True)) == []


def test_a_row_of_three_results_is_three_entries_that_share_its_tokens() -> None:
    results = [ToolReturnPart(f"c{i}", "f", "success", f"r{i}") for i in range(3)]
    made = entries(message(5, "tool", *results, tokens=100))
    assert [e.position for e in made] == [5, 5, 5]
    assert sum(e.tokens for e in made) >= 100
    assert [msgspec.json.decode(e.wire)["tool_call_id"] for e in made] == ["c0", "c1", "c2"]


def test_the_images_of_a_row_stand_behind_its_last_result() -> None:
    image = ImagePart({"type": "url", "url": "https://example.org/a.png"})
    results = [ToolReturnPart(f"c{i}", "f", "success", "r" * 99, images=(image,)) for i in range(2)]
    row = message(5, "tool", *results, tokens=tokens_of(tuple(results), len))
    assert row.tokens == MESSAGE_TOKENS + 2 * (99 + MESSAGE_TOKENS + IMAGE_TOKENS)
    for return_chars in (None, 10):
        made = entries(row, return_chars=return_chars)
        wires = [msgspec.json.decode(b"[%b]" % e.wire) for e in made]
        assert [[item["role"] for item in wire] for wire in wires] == [["tool"], ["tool", "user"]]
        assert all(e.tokens > IMAGE_TOKENS for e in made)


def test_of_many_images_a_model_sees_the_first_and_is_told_of_the_others() -> None:
    images = tuple(ImagePart({"type": "url", "url": f"https://example.org/{i}.png"}) for i in range(30))
    result = ToolReturnPart("c", "f", "success", "", images=images)
    row = message(5, "tool", result, tokens=tokens_of((result,), len))
    for return_chars, most in ((3 * IMAGE_CHARS, 3), (10, 1)):
        for dialect in (CHAT, Dialect(api="responses")):
            (entry,) = entries(row, dialect, return_chars=return_chars)
            assert entry.wire.count(b"https://") == most
            assert b"/0.png" in entry.wire
            assert f"[the first {most} of 30 images]".encode() in entry.wire
            assert IMAGE_TOKENS * most < entry.tokens < IMAGE_TOKENS * (most + 1)
    (whole,) = entries(row, return_chars=30 * IMAGE_CHARS)
    assert whole.wire.count(b"https://") == 30


def test_an_entry_counts_its_calls() -> None:
    (entry,) = entries(
        message(2, "assistant", TextPart("x"), ToolCallPart("a", "f", "{}"), ToolCallPart("b", "f", "{}"))
    )
    assert entry.calls == 2
    assert entry.role == "assistant"


@given(st.lists(parts, max_size=5))
def test_more_parts_never_cost_less_and_reasoning_costs_nothing(content: list[Part]) -> None:
    count = len
    total = tokens_of(tuple(content), count)
    assert total >= MESSAGE_TOKENS
    assert tokens_of((*content, TextPart("more")), count) == total + 4
    assert tokens_of((*content, ReasoningPart("more")), count) == total
    assert tokens_of((*content, ToolCallPart("c", "ab", "cde")), count) == total + 5 + MESSAGE_TOKENS


def test_an_image_has_a_price() -> None:
    image = ImagePart({"type": "url", "url": "https://example.org/a.png"})
    assert tokens_of((image,), len) == MESSAGE_TOKENS + IMAGE_TOKENS


def test_inputs_are_stored_one_after_the_other_as_they_were_sent() -> None:
    sent = (
        InputMessage(role="user", content=(TextPart("one"),), otid="o1", name="Ann"),
        InputMessage(role="system", content=(TextPart("two"),)),
    )
    command = SendMessages(conversation_id=AGENT_ID, messages=sent)
    first, second = inputs_of(agent(), command, 7, run_id="run-1", count=len)
    assert [(m.position, m.role, m.run_id) for m in (first, second)] == [
        (7, "user", "run-1"),
        (8, "system", "run-1"),
    ]
    assert (first.otid, first.name, first.content) == ("o1", "Ann", (TextPart("one"),))
    assert first.tokens == 3 + MESSAGE_TOKENS
    assert first.id != second.id


def test_what_a_step_said_in_two_messages_models_see_as_one() -> None:
    call, asked = ToolCallPart("a", "read", "{}"), ToolCallPart("b", "write", '{"x":1}')
    said = replace(message(1, "assistant", TextPart("hm"), call), step_id="s")
    asks = replace(message(2, "approval", asked), step_id="s")
    aside = message(3, "user", TextPart("late"), excluded=True)
    edited = ApprovalPart("b", approve=True, arguments='{"x":2}')
    answer = replace(message(4, "approval", edited), step_id="s")
    [seen, left] = joined([said, asks, aside, answer])
    assert seen.content == (TextPart("hm"), call, replace(asked, arguments='{"x":2}'))
    assert (seen.position, seen.tokens) == (1, 20)
    assert left is aside


def test_a_request_that_stands_alone_is_the_model_s_message() -> None:
    asks = replace(message(2, "approval", ToolCallPart("b", "write", "{}")), step_id="s2")
    before = replace(message(1, "assistant", TextPart("earlier")), step_id="s1")
    assert joined([before, asks]) == [before, asks]


def test_of_a_long_result_a_model_sees_the_beginning() -> None:
    long, short = (ToolReturnPart(c, "find", "success", c * n) for c, n in (("x", 9_000), ("y", 10)))
    seen = entries(message(1, "tool", long, short, tokens=2_300), return_chars=5_000)
    assert b"x" * 5_000 + b"... [9000 characters]" in seen[0].wire
    assert b"x" * 5_001 not in seen[0].wire
    assert b"y" * 10 in seen[1].wire
    assert seen[0].tokens < 1_300
