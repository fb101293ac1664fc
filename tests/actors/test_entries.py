import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.commands import InputMessage, SendMessages
from actors.entries import IMAGE_TOKENS, MESSAGE_TOKENS, entries, inputs_of, tokens_of
from storage.records import ImagePart, Part, ReasoningPart, TextPart, ToolCallPart, ToolReturnPart
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
