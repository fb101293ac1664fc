"""The model itself, in this process."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.embedder import minilm
from actors.embedder.minilm import LoadError, MiniLM

LONG = "The quick brown fox jumps over the lazy dog. "


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return minilm.load()


def near(model: MiniLM, one: str, other: str) -> float:
    a, b = model.embed([one, other])
    return float(a @ b)


def test_texts_that_mean_the_same_are_nearer_than_others(model: MiniLM) -> None:
    question = "Which animal does she keep at home?"
    assert near(model, question, "Ada has a dog called Rex.") > near(
        model, question, "Rent is due on Monday."
    )


def test_the_published_value_is_met(model: MiniLM) -> None:
    # The example of the model's card: 0.5 to 0.8 for this pair, depending on the weights' precision.
    assert 0.5 < near(model, "That is a happy person", "That is a very happy person") <= 1.0
    assert near(model, "cats", "kittens") == pytest.approx(0.777, abs=0.01)


def test_a_text_has_one_vector_whatever_is_embedded_beside_it(model: MiniLM) -> None:
    texts = [
        "tea",
        "",
        LONG * 10,
        "日本語",
        "Crème brûlée",
        LONG * 40,
        "x" * 500,
        *(f"fact {i}" for i in range(40)),
    ]
    together = model.embed(texts)
    for row, text in zip(together, texts, strict=True):
        (alone,) = model.embed([text])
        assert abs(row - alone).max() <= 1e-5
        assert math.isclose(float(row @ row), 1.0, abs_tol=1e-5)


def test_what_comes_late_in_a_long_text_counts(model: MiniLM) -> None:
    late = LONG * 40 + "The password of the harbour gate is marzipan. " * 20
    question = "What is the password of the gate?"
    assert near(model, question, late) > near(model, question, LONG * 60) + 0.1


def test_a_text_without_end_is_cut(model: MiniLM) -> None:
    counted = LONG * 250  # 2,500 tokens
    a, b = model.embed([counted, counted + "marzipan " * 100])
    assert abs(a - b).max() <= 1e-5


def test_passes_are_bounded() -> None:
    def lengths(counts: Sequence[int]) -> list[list[int]]:
        windows = [minilm._Window(0, [0] * count) for count in counts]
        return [[len(w.tokens) for w in group] for group in minilm._groups(windows)]

    assert lengths([256, 256]) == [[256], [256]]
    assert lengths([128] * 5) == [[128] * 4, [128]]
    assert lengths([16] * 40) == [[16] * 32, [16] * 8]
    assert lengths([]) == []


@pytest.mark.parametrize("constant", ["MODEL_SHA256", "VOCABULARY_SHA256"])
def test_a_file_that_is_not_the_known_one_is_not_used(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, constant, "0" * 64)
    with pytest.raises(LoadError, match="not the file that this release knows"):
        minilm.load()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(minilm, "VOCABULARY", tmp_path / "vocab.txt")
    with pytest.raises(LoadError, match=r"vocab\.txt cannot be read"):
        minilm.load()
    monkeypatch.setattr(minilm, "MODEL_PACKAGE", "no_such_package")
    with pytest.raises(LoadError, match="no_such_package is not installed"):
        minilm.load()
