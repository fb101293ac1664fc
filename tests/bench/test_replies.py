"""What the scripted provider can be told to answer."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.replies import DEFAULT_TEXT, STAMP, Reply, Script, named, words


@given(st.text())
def test_words_join_to_the_text_they_were_cut_from(text: str) -> None:
    assert "".join(words(text)) == text


@given(tokens=st.integers(0, 300), delay=st.integers(0, 9999), gap=st.integers(0, 999))
def test_a_model_name_spells_tokens_delay_and_gap(tokens: int, delay: int, gap: int) -> None:
    reply = named(f"fixed-t{tokens}-d{delay}-g{gap}")
    assert reply is not None
    assert (len(words(reply.text or "")), reply.delay_ms, reply.gap_ms) == (tokens, delay, gap)


def test_a_clock_says_a_stamp_for_every_token() -> None:
    reply = named("clock-t3-g50")
    assert reply is not None
    assert reply.stamped
    assert reply.text == f"{STAMP} " * 3


@pytest.mark.parametrize("name", ["gpt-4o-mini", "fixed-x3", "fixedt3", "echoes"])
def test_other_model_names_spell_nothing(name: str) -> None:
    assert named(name) is None


def test_answers_are_used_in_order_and_as_often_as_they_say() -> None:
    script = Script()
    script.extend([Reply(text="a", repeat=2), Reply(text="b")])
    assert [script.take("m", "").text for _ in range(4)] == ["a", "a", "b", DEFAULT_TEXT]


def test_an_answer_for_ever_stays() -> None:
    script = Script()
    script.extend([Reply(text="a", repeat="forever"), Reply(text="never")])
    assert {script.take("m", "").text for _ in range(10)} == {"a"}


def test_an_answer_keyed_by_words_or_model_waits_for_its_request() -> None:
    script = Script()
    script.extend([Reply(text="bees", match="bee"), Reply(text="mine", model="m2"), Reply(text="any")])
    taken = [script.take("m1", "ants").text, script.take("m2", "").text, script.take("m1", "a bee!").text]
    assert taken == ["any", "mine", "bees"]


@pytest.mark.parametrize("reply", [{"fault": "explode"}, {"repeat": 0}, {"chunk": []}, {"txet": "typo"}])
def test_a_reply_that_means_nothing_is_refused(reply: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(reply, Reply)
