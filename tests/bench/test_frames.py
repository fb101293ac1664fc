"""A client's websocket frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import frames

SIZES = (0, 1, 125, 126, 65535, 65536)


def served(payload: bytes) -> bytes:
    """A frame of a server: a client's, without the bit and the bytes of the mask."""
    frame = frames.frame(payload)
    mask_at = len(frame) - len(payload) - 4
    return frame[:1] + bytes([frame[1] & 0x7F]) + frame[2:mask_at] + payload


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [1, 7, 4096, 100_000])
def test_messages_are_read_however_they_are_cut(size: int, cut: int) -> None:
    payload = b"x" * size
    data = served(payload) + served(b"after")
    reader = frames.Reader()
    found = [message for at in range(0, len(data), cut) for message in reader.feed(data[at : at + cut])]
    assert found == [(frames.TEXT, payload), (frames.TEXT, b"after")]


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_any_messages_come_out_as_they_went_in(payloads: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(served, payloads))
    reader, found = frames.Reader(), list[bytes]()
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        found += [payload for _, payload in reader.feed(whole[:size])]
        whole = whole[size:]
    assert found == payloads


@pytest.mark.parametrize("size", SIZES[:-1])
def test_a_servers_frame_is_the_clients_without_its_mask(size: int) -> None:
    assert frames.served(b"y" * size) == served(b"y" * size)
