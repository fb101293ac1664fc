"""The binary form of pgvector's `vector`, between the driver and plain numbers."""

import math
import struct
import sys
from array import array
from collections.abc import Sequence

MAX_DIMENSIONS = 16_000  # pgvector's own bound


def encode(numbers: Sequence[float]) -> bytes:
    """Return the binary form of pgvector's `vector`: a count, two bytes of nothing, 32-bit floats.

    Raises:
        ValueError: There are none or too many, or one is no finite 32-bit number.
    """
    if not 1 <= len(numbers) <= MAX_DIMENSIONS:
        raise ValueError(f"a vector has 1 to {MAX_DIMENSIONS} numbers")
    floats = array("f", numbers)
    if not all(map(math.isfinite, floats)):
        raise ValueError("a vector has finite numbers only")
    if sys.byteorder == "little":
        floats.byteswap()
    return struct.pack(">HH", len(floats), 0) + floats.tobytes()


def decode(data: bytes) -> tuple[float, ...]:
    """Return the numbers of a `vector` in its binary form."""
    (count,) = struct.unpack_from(">H", data)
    return struct.unpack_from(f">{count}f", data, 4)
