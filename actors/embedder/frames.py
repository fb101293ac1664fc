"""What travels between the server and the embedder's child: frames of a length and one message. Pure."""

import struct
import sys
from array import array
from collections.abc import Sequence

import msgspec
from msgspec import Struct

# A frame begins with the length of its message in bytes.
HEAD = struct.Struct("<I")
# Far above any batch; beyond it the stream is taken for garbage.
FRAME_BYTES = 64 * 1024 * 1024


class FrameError(Exception):
    """The bytes are no frame of ours: the two sides no longer understand each other."""


class Texts(Struct, frozen=True, tag="texts"):
    """A batch to embed. `number` comes back with the answer."""

    number: int
    texts: Sequence[str]


class Ready(Struct, frozen=True, tag="ready"):
    """The model is loaded; its vectors have so many dimensions."""

    dimensions: int


class Vectors(Struct, frozen=True, tag="vectors"):
    """The vectors of a batch, one behind the other: little-endian float32."""

    number: int
    dimensions: int
    data: bytes


class Failed(Struct, frozen=True, tag="failed"):
    """The model cannot be loaded or used. `reason` is chosen text; the child ends after it."""

    reason: str


Answer = Ready | Vectors | Failed

_encode = msgspec.msgpack.Encoder().encode
_decode_texts = msgspec.msgpack.Decoder(Texts).decode
_decode_answer = msgspec.msgpack.Decoder(Answer).decode


def frame(message: Texts | Answer) -> bytes:
    """Return a message as it is written to the pipe."""
    data = _encode(message)
    return HEAD.pack(len(data)) + data


def length(head: bytes) -> int:
    """Return the length that a frame's head announces.

    Raises:
        FrameError: It is longer than any frame.
    """
    (size,) = HEAD.unpack(head)
    if size > FRAME_BYTES:
        raise FrameError(f"a frame of {size} bytes")
    return size


def texts(data: bytes) -> Texts:
    """Return the batch in a frame's message.

    Raises:
        FrameError: It is none.
    """
    try:
        return _decode_texts(data)
    except msgspec.MsgspecError as error:
        raise FrameError("a message that is no batch") from error


def answer(data: bytes) -> Answer:
    """Return the answer in a frame's message.

    Raises:
        FrameError: It is none.
    """
    try:
        return _decode_answer(data)
    except msgspec.MsgspecError as error:
        raise FrameError("a message that is no answer") from error


def unpack(vectors: Vectors, asked: Texts) -> list[tuple[float, ...]]:
    """Return the vectors of a batch, in the order of its texts.

    Raises:
        FrameError: They are another batch's, or too many or too few.
    """
    width = 4 * vectors.dimensions
    if vectors.number != asked.number or len(vectors.data) != width * len(asked.texts) or width == 0:
        raise FrameError("vectors that do not fit the batch")
    return [floats(vectors.data[at : at + width]) for at in range(0, len(vectors.data), width)]


def floats(data: bytes) -> tuple[float, ...]:
    """Return little-endian float32 as numbers."""
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)
