"""Frames between the server and the embedder's child."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder import frames
from actors.embedder.frames import Failed, FrameError, Ready, Texts, Vectors


def message(frame: bytes) -> bytes:
    size = frames.length(frame[: frames.HEAD.size])
    assert len(frame) == frames.HEAD.size + size
    return frame[frames.HEAD.size :]


@given(st.integers(min_value=0, max_value=2**31), st.lists(st.text()))
def test_a_batch_arrives_as_it_was_sent(number: int, texts: list[str]) -> None:
    assert frames.texts(message(frames.frame(Texts(number, texts)))) == Texts(number, texts)


@pytest.mark.parametrize("answer", [Ready(384), Failed("no"), Vectors(3, 2, b"12345678")])
def test_an_answer_arrives_as_it_was_sent(answer: frames.Answer) -> None:
    assert frames.answer(message(frames.frame(answer))) == answer


def test_vectors_are_cut_in_the_order_of_their_texts() -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)
    assert frames.unpack(Vectors(7, 2, data), Texts(7, ["a", "b"])) == [(1.0, 2.0), (3.0, 4.0)]


@pytest.mark.parametrize(
    "vectors",
    [Vectors(8, 2, bytes(16)), Vectors(7, 2, bytes(8)), Vectors(7, 0, b""), Vectors(7, 3, bytes(16))],
)
def test_vectors_of_another_batch_are_refused(vectors: Vectors) -> None:
    with pytest.raises(FrameError):
        frames.unpack(vectors, Texts(7, ["a", "b"]))


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(FrameError):
        frames.length(b"HTTP")
    for read in (frames.texts, frames.answer):
        with pytest.raises(FrameError):
            read(b"\xc1 nothing of ours")
