"""Answers in the spelling of each provider, cut at random places: they mean the same however they arrive."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from actors.errors import ModelError
from actors.llm.decoding import AnswerDecoder
from actors.llm.model import SignaturePiece
from actors.llm.openai_stream import ChatDecoder
from actors.llm.responses_stream import ResponsesDecoder
from tests.actors.llm.streams import Decoded, cuts

RECORDINGS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "llm_recordings.json").read_text(encoding="utf-8")
)["recordings"]


class Replayed(Struct):
    """What came out of a recording."""

    answer: Decoded
    signatures: list[list[Any]]


def replay(recording: dict[str, Any], chunks: list[bytes]) -> Replayed:
    decoder: AnswerDecoder = (
        ResponsesDecoder("test")
        if recording["dialect"] == "responses"
        else ChatDecoder("test", thoughts=recording["thoughts"])
    )
    out = Replayed(Decoded(), [])

    def take(pieces: list[Any]) -> None:
        out.signatures += [[p.signature, p.index] for p in pieces if isinstance(p, SignaturePiece)]
        out.answer.take(p for p in pieces if not isinstance(p, SignaturePiece))

    try:
        for chunk in chunks:
            take(decoder.feed(chunk))
        take(decoder.close())
        if decoder.failure is not None:
            raise decoder.failure
    except ModelError as error:
        out.answer.error = error
    return out


def check(recording: dict[str, Any], out: Replayed) -> None:
    expect, answer = recording["expect"], out.answer
    assert answer.text == expect.get("text", "")
    assert answer.reasoning == expect.get("reasoning", "")
    assert answer.calls == expect.get("calls", [])
    assert answer.finish == expect.get("finish")
    assert out.signatures == expect.get("signatures", [])
    assert (answer.error is not None) == ("error" in expect), answer.error
    assert all(getattr(answer.error, name) == value for name, value in expect.get("error", {}).items())
    if "usage" in expect:
        assert answer.usage is not None
        assert [answer.usage.prompt, answer.usage.completion, answer.usage.cached] == expect["usage"]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: f"{r['provider']}-{r['dialect']}")
@settings(max_examples=40)
@given(data=st.data())
def test_an_answer_of_each_provider_is_understood_however_it_is_cut(
    recording: dict[str, Any], data: st.DataObject
) -> None:
    body = recording["body"].encode()
    at = data.draw(st.lists(st.integers(0, len(body)), max_size=12))
    check(recording, replay(recording, cuts(body, at)))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: f"{r['provider']}-{r['dialect']}")
def test_an_answer_of_each_provider_is_understood_byte_by_byte(recording: dict[str, Any]) -> None:
    body = recording["body"].encode()
    check(recording, replay(recording, [body[i : i + 1] for i in range(len(body))]))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: f"{r['provider']}-{r['dialect']}")
@given(data=st.data())
@settings(max_examples=25)
def test_an_answer_that_breaks_off_is_an_error_or_whole(
    recording: dict[str, Any], data: st.DataObject
) -> None:
    body = recording["body"].encode()
    end = data.draw(st.integers(0, len(body) - 1))
    out = replay(recording, [body[:end]])
    assert (out.answer.finish is None) == (out.answer.error is not None)
    assert recording["expect"].get("text", "").startswith(out.answer.text)
