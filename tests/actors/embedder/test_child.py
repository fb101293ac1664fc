"""The child's side of the pipe, without a process."""

import io
from types import SimpleNamespace
from typing import Any

import pytest

import actors.embedder as package
from actors.embedder import child, frames
from actors.embedder.frames import Answer, Failed, FrameError, Ready, Texts, Vectors


class Rows:
    """What numpy would give."""

    def __init__(self, texts: list[str]) -> None:
        self.data = b"".join(bytes([len(text)]) * 8 for text in texts)

    def astype(self, kind: str) -> "Rows":
        assert kind == "<f4"
        return self

    def tobytes(self) -> bytes:
        return self.data


class LoadError(Exception):
    pass


def install(monkeypatch: pytest.MonkeyPatch, *, load: Any = None, embed: Any = Rows) -> None:
    """Put a model of two dimensions in the place of the real one."""
    model = SimpleNamespace(embed=embed)
    module = SimpleNamespace(DIMENSIONS=2, LoadError=LoadError, load=load or (lambda: model))
    monkeypatch.setattr(package, "minilm", module, raising=False)


def answers(*asked: bytes) -> list[Answer]:
    out = io.BytesIO()
    child.serve(io.BytesIO(b"".join(asked)), out)
    out.seek(0)
    found: list[Answer] = []
    while head := out.read(frames.HEAD.size):
        found.append(frames.answer(out.read(frames.length(head))))
    return found


def test_each_batch_is_answered_under_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    batches = [frames.frame(Texts(1, ["a"])), frames.frame(Texts(2, ["bb", "ccc"]))]
    assert answers(*batches) == [
        Ready(2),
        Vectors(1, 2, b"\1" * 8),
        Vectors(2, 2, b"\2" * 8 + b"\3" * 8),
    ]


@pytest.mark.parametrize("cut", [1, 3, 4, 6])
def test_it_ends_where_its_input_does(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    install(monkeypatch)
    assert answers(frames.frame(Texts(1, ["a"]))[:cut]) == [Ready(2)]


def test_bytes_that_are_no_batch_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(FrameError):
        answers(b"\xff\xff\xff\xff")


def test_a_model_that_cannot_be_loaded_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise LoadError("not the file")

    install(monkeypatch, load=refuse)
    assert answers() == [Failed("not the file")]


def test_a_model_that_fails_is_reported_without_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(texts: list[str]) -> None:
        raise MemoryError(texts[0])

    install(monkeypatch, embed=fail)
    assert answers(frames.frame(Texts(1, ["a secret"]))) == [Ready(2), Failed("MemoryError")]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(package, "minilm", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "actors.embedder.minilm", None)
    (failed,) = answers()
    assert isinstance(failed, Failed)
    assert "minilm" in failed.reason
