from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors import summary
from actors.summary import CompactionSettings, CompactionStats
from actors.tokens import estimate
from storage.records import ImagePart, ReasoningPart, TextPart, ToolCallPart, ToolReturnPart
from tests.actors.pieces import message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STATS = CompactionStats(
    trigger="manual",
    context_tokens_before=10,
    context_tokens_after=5,
    context_window=20,
    messages_count_before=9,
    messages_count_after=3,
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)


@given(TEXTS)
def test_a_packed_summary_is_unpacked_as_it_was(text: str) -> None:
    packed = summary.pack(text, hidden=7, at=NOW, stats=STATS)
    assert msgspec.json.decode(packed)["type"] == "system_alert"
    assert summary.unpack(packed) == (text, STATS)


@given(TEXTS)
def test_any_other_text_is_left_as_it_is(text: str) -> None:
    assert summary.unpack(text) == (text, None)


def test_a_transcript_says_who_said_and_called_what() -> None:
    found, failed = ToolReturnPart("c", "find", "success", "none"), ToolReturnPart("d", "x", "error", "e")
    messages = [
        message(1, "user", TextPart("look"), ImagePart({"type": "url", "url": "https://x.example/a.png"})),
        message(
            2, "assistant", ReasoningPart("hm"), TextPart("I will."), ToolCallPart("c", "find", '{"q":1}')
        ),
        message(3, "tool", found, failed),
        message(4, "assistant", ReasoningPart("hm")),
    ]
    assert summary.transcript(messages) == [
        "user: look\n[an image]",
        'assistant: I will.\n[calls find with {"q":1}]',
        "tool: [find: success] none\n[x: error] e",
    ]


@given(st.lists(TEXTS, max_size=12), st.integers(8, 200))
def test_pieces_hold_everything_in_order_and_are_no_longer_than_they_may_be(
    lines: list[str], most: int
) -> None:
    pieces = summary.chunks(lines, most=most, count=estimate)
    assert "".join(pieces).replace("\n", "") == "".join(lines).replace("\n", "")
    assert all(estimate(piece) <= most + 1 for piece in pieces)


def test_a_question_is_taken_apart_again() -> None:
    asked = summary.question("user: hi\nassistant: yo", earlier="They said hi.", words="Write.")
    assert summary.shown(asked) == ("They said hi.", "user: hi\nassistant: yo")
    assert summary.shown("hello") is None


def test_settings_that_nobody_checked_count_as_absent() -> None:
    assert summary.settings_of({"mode": "nonsense"}) == CompactionSettings()
    assert summary.settings_of({"mode": "all", "clip_chars": None}).clip_chars is None


def test_a_summary_is_at_most_a_tenth_of_the_window_and_no_longer_than_asked() -> None:
    assert summary.most_tokens(CompactionSettings(), 8_000) == 800
    assert summary.most_tokens(CompactionSettings(clip_chars=400), 8_000) == 100
    assert summary.most_tokens(CompactionSettings(), 1_000_000) == 12_500
    assert summary.clip("abcdef", 4) == "abc…"


def test_every_mode_has_a_prompt_of_its_own() -> None:
    assert len(set(summary.PROMPTS.values())) == 4
    assert CompactionSettings(prompt="mine").text == "mine"
