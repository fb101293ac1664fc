"""The embeddings dialect."""

import json
import math
import struct
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ModelError
from actors.llm import openai_embeddings as dialect

BAD: list[dict[str, Any]] = [
    case
    for case in json.loads((Path(__file__).parents[2] / "data" / "bad_inputs.json").read_text())
    if case["entry"] == "embedding"
]


def answer(*embeddings: Any, numbers: list[int | None] | None = None) -> bytes:
    numbers = numbers or list(range(len(embeddings)))
    data = [
        {"embedding": e} | ({} if n is None else {"index": n})
        for e, n in zip(embeddings, numbers, strict=True)
    ]
    return json.dumps({"data": data}).encode()


def as_base64(*numbers: float) -> str:
    return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def read(data: bytes, texts: int = 1) -> list[tuple[float, ...]]:
    return dialect.vectors(data, "test", texts=texts)


def test_vectors_are_read_in_both_encodings() -> None:
    assert read(answer([0.6, 0.8])) == read(answer(as_base64(0.6, 0.8)))
    assert read(answer([0.6, 0.8]))[0] == pytest.approx((0.6, 0.8))


def test_the_order_is_that_of_the_texts_whatever_order_they_come_in() -> None:
    data = answer([0.0, 1.0], [1.0, 0.0], [0.0, -1.0], numbers=[2, 0, 1])
    assert read(data, 3) == [(1.0, 0.0), (0.0, -1.0), (0.0, 1.0)]
    assert read(answer([0, 1], [1, 0], numbers=[None, None]), 2) == [(0.0, 1.0), (1.0, 0.0)]
    assert read(answer([0, 1], numbers=[5])) == [(0.0, 1.0)]


@given(st.lists(st.floats(min_value=-1e30, max_value=1e30), min_size=1, max_size=8))
def test_every_vector_has_length_1_or_is_refused(numbers: list[float]) -> None:
    try:
        (vector,) = read(answer(numbers))
    except ModelError:
        assert math.hypot(*(struct.unpack("<f", struct.pack("<f", x))[0] for x in numbers)) == 0
    else:
        assert math.hypot(*vector) == pytest.approx(1, abs=2 * dialect.UNIT)


@pytest.mark.parametrize("case", BAD, ids=[case["id"] for case in BAD])
def test_what_is_no_vector_is_refused_before_the_database_sees_it(case: dict[str, Any]) -> None:
    payload = eval(case["py"])  # the file is ours
    with pytest.raises(ModelError) as refused:
        read(answer(payload))
    assert "test" in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"data":',
        b'{"data":[]}',
        answer([1.0], [1.0]),
        answer([]),
        answer(""),
        answer("AAA"),
        answer("@@@@"),
        answer(as_base64(float("nan"))),
        answer([True]),
        answer([None]),
        answer(None),
        answer([1.0] * (dialect.MOST_DIMENSIONS + 1)),
        b'{"data":[{"embedding":[1e999]}]}',
        b"[" * 100_000,
    ],
)
def test_other_answers_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        read(data)


@pytest.mark.parametrize("numbers", [[0, 0], [0, 2], [0, None], [-1, 0]])
def test_wrong_numbers_are_refused(numbers: list[int | None]) -> None:
    with pytest.raises(ModelError, match="wrong numbers"):
        read(answer([1.0], [1.0], numbers=numbers), 2)


def test_different_dimensions_in_one_answer_are_refused() -> None:
    with pytest.raises(ModelError, match="dimensions"):
        read(answer([1.0], [0.6, 0.8]), 2)


@given(st.lists(st.text(max_size=40), max_size=300))
def test_batches_hold_every_text_in_order_within_their_bounds(texts: list[str]) -> None:
    cut = dialect.batches(texts)
    assert [text for batch in cut for text in batch] == [text if text.strip() else " " for text in texts]
    assert all(0 < len(batch) <= dialect.BATCH_TEXTS for batch in cut)


def test_batches_are_bounded_in_bytes_and_a_large_text_goes_alone() -> None:
    large, half = "x" * (dialect.BATCH_BYTES * 2), "é" * (dialect.BATCH_BYTES // 4)
    assert dialect.batches(["a", large, "b", half, half]) == [["a"], [large], ["b", half], [half]]


def test_what_utf_8_cannot_carry_is_replaced() -> None:
    (batch,) = dialect.batches(["a\ud800b"])
    assert json.loads(dialect.body("m", batch, base64=True)) == {
        "model": "m",
        "input": ["a?b"],
        "encoding_format": "base64",
    }


def test_a_server_that_knows_no_encodings_is_not_told_of_any() -> None:
    assert json.loads(dialect.body("m", ["a"], base64=False)) == {"model": "m", "input": ["a"]}


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("text-embedding-3-small", 1536),
        ("openai/text-embedding-3-large", 3072),
        ("nomic-embed-text:latest", 768),
        ("BAAI/bge-m3", 1024),
        ("minilm-l6-v2-int8", 384),
        ("somebody/unheard-of", None),
        ("", None),
    ],
)
def test_dimensions_are_known_by_name(name: str, dimensions: int | None) -> None:
    assert dialect.known_dimensions(name) == dimensions


@pytest.mark.parametrize(
    ("name", "embeds"),
    [
        ("text-embedding-3-small", True),
        ("nomic-embed-text:latest", True),
        ("BAAI/bge-m3", True),
        ("intfloat/e5-mistral-7b-instruct", True),
        ("all-minilm:l6-v2", True),
        ("gpt-4o", False),
        ("mistral-large", False),
        ("big-model-e51", False),
    ],
)
def test_models_that_embed_are_told_by_name(name: str, embeds: bool) -> None:
    assert bool(dialect.IS_FOR_EMBEDDING.search(name)) is embeds
