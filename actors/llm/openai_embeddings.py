"""The embeddings dialect: a request's body, and the vectors in an answer. Pure."""

import binascii
import math
import re
import sys
from array import array
from base64 import b64decode
from collections.abc import Sequence
from itertools import repeat

import msgspec
from msgspec import Struct

from actors.llm import errors

# What one request may hold: providers bound texts and tokens, and a token has at least a byte.
BATCH_TEXTS = 128
BATCH_BYTES = 128 * 1024
# More than any model has; also the most that pgvector stores.
MOST_DIMENSIONS = 16_000
# The provider name of the model that runs on this machine.
LOCAL = "local"
UNIT = 1e-3  # how far a length may be from 1 before the vector is scaled

# Names of models that embed, among those that a provider lists.
IS_FOR_EMBEDDING = re.compile(
    r"embed|(^|[/_-])(bge|e5|gte|minilm|multilingual-e5|arctic-m|voyage|nomic-ai)([-_:.]|$)", re.IGNORECASE
)

# Dimensions by the beginning of the name after any "vendor/"; the longest match counts. From the model cards,
# November 2026; others are known after their first use.
_DIMENSIONS = {
    "all-minilm": 384,
    "all-minilm-l6-v2": 384,
    "bge-base-en": 768,
    "bge-large-en": 1024,
    "bge-m3": 1024,
    "bge-small-en": 384,
    "embeddinggemma": 768,
    "gemini-embedding-001": 3072,
    "minilm-l6-v2": 384,
    "mistral-embed": 1024,
    "multilingual-e5-large": 1024,
    "mxbai-embed-large": 1024,
    "nomic-embed-text": 768,
    "text-embedding-004": 768,
    "text-embedding-3-large": 3072,
    "text-embedding-3-small": 1536,
    "text-embedding-ada-002": 1536,
}


class EmbeddingRef(Struct, frozen=True, kw_only=True):
    """A model that embeds. `dimensions` is `None` while nobody knows, `endpoint` where it is local."""

    handle: str
    name: str
    provider: str
    provider_type: str
    endpoint: str | None
    dimensions: int | None


class _Item(Struct, frozen=True):
    embedding: str | list[float]
    index: int | None = None


class _Answer(Struct, frozen=True):
    data: list[_Item]


_decode = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


def known_dimensions(name: str) -> int | None:
    """Return the dimensions of a model's vectors as far as its name tells."""
    bare = name.rpartition("/")[2].lower()
    matches = [prefix for prefix in _DIMENSIONS if bare.startswith(prefix)]
    return _DIMENSIONS[max(matches, key=len)] if matches else None


def batches(texts: Sequence[str]) -> list[list[str]]:
    """Cut texts into what one request takes each, in order. A text that is too large goes alone.

    Characters that UTF-8 cannot carry are replaced, and a text of nothing is sent as a space: providers
    refuse the empty one, and with it its batch.
    """
    cut: list[list[str]] = []
    size = 0
    for text in texts:
        data = text.encode("utf-8", "replace")
        size += len(data)
        if not cut or len(cut[-1]) == BATCH_TEXTS or size > BATCH_BYTES:
            cut.append([])
            size = len(data)
        cut[-1].append(data.decode() if text.strip() else " ")
    return cut


def body(model: str, texts: Sequence[str], *, base64: bool) -> bytes:
    """Return the body of a request. Base64 is a quarter of the bytes; not every server knows the field."""
    fields: dict[str, object] = {"model": model, "input": texts}
    if base64:
        fields["encoding_format"] = "base64"
    return _encode(fields)


def vectors(data: bytes, provider: str, *, texts: int) -> list[tuple[float, ...]]:
    """Return one vector of length 1 for each text, in the order of the texts.

    Raises:
        ModelError: The answer is none, is of another number of texts, or holds what is no vector: of no
            length, of different dimensions, or with numbers that float32 has not.
    """
    try:
        items = _decode(data).data
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise errors.garbage(provider, "embeddings that cannot be read") from None
    if len(items) != texts:
        raise errors.garbage(provider, f"{len(items)} embeddings for {texts} texts", retryable=False)
    found = [_unit(_numbers(item.embedding, provider), provider) for item in _ordered(items, provider)]
    if len({len(vector) for vector in found}) != 1 or len(found[0]) > MOST_DIMENSIONS:
        raise errors.garbage(provider, "embeddings of different or impossible dimensions", retryable=False)
    return found


def _ordered(items: list[_Item], provider: str) -> list[_Item]:
    """Return items in the order of their texts. Servers that number nothing keep it themselves."""
    numbers = [item.index for item in items]
    if len(items) == 1 or all(number is None for number in numbers):
        return items
    by_number = {item.index: item for item in items}
    if set(by_number) != set(range(len(items))):
        raise errors.garbage(provider, "embeddings with wrong numbers", retryable=False)
    return [by_number[number] for number in range(len(items))]


def _numbers(embedding: str | list[float], provider: str) -> "array[float]":
    """Return float32 as OpenAI encodes them: little-endian, in base64."""
    if not isinstance(embedding, str):
        return array("f", embedding)
    try:
        numbers = array("f", b64decode(embedding, validate=True))
    except (binascii.Error, ValueError):
        raise errors.garbage(provider, "an embedding that cannot be read", retryable=False) from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _unit(numbers: "array[float]", provider: str) -> tuple[float, ...]:
    """Return a vector at length 1. What is zero, infinite or no number has no distance to anything."""
    length = math.hypot(*numbers)
    if not (math.isfinite(length) and length > 0):
        raise errors.garbage(provider, "an embedding that is no vector", retryable=False)
    if abs(length - 1) <= UNIT:
        return tuple(numbers)
    return tuple(array("f", map(float.__truediv__, numbers, repeat(length))))
