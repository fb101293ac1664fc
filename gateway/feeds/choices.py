"""What a subscriber wants of a channel: kinds of events, thoughts or none, and how often at most."""

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache

from msgspec import Struct

from actors.events import Event
from gateway.agui import images as agui
from gateway.feeds.frames import Frame
from gateway.realtime.protocol import BAD_REQUEST, ProtocolError, SubscribeData

MAX_RATE = 1000.0  # publications per second; more is no limit at all
MAX_PATTERNS = 64
PATTERN_CHARS = 128
ALL_CHARS = 1024  # of all of them: about 10 ms to compile, which the loop waits for
MAX_STARS = 4  # of one pattern

_PATTERN = re.compile(r"[A-Za-z0-9_.:*?!\[\]-]+")


class Choice(Struct, frozen=True, gc=False):
    """What is delivered: `kinds` is a pattern over AG-UI types (None: all), `rate` the most per second."""

    thoughts: bool = True
    kinds: re.Pattern[str] | None = None
    rate: float | None = None

    @property
    def filters(self) -> bool:
        """Whether frames have to be looked at one by one."""
        return self.kinds is not None or self.rate is not None

    def takes(self, frame: Frame) -> bool:
        """Say whether a frame is for this subscriber."""
        if frame.thought and not self.thoughts:
            return False
        return self.kinds is None or matches(self.kinds, frame.kind)

    def takes_event(self, event: Event) -> bool:
        """Say the same of an event that is not encoded yet."""
        if not self.thoughts and agui.is_thought(event):
            return False
        return self.kinds is None or matches(self.kinds, agui.kind(event))


EVERYTHING = Choice()
NO_THOUGHTS = Choice(thoughts=False)


def choose(data: SubscribeData | None, *, thoughts: bool) -> Choice:
    """Return the choice that a subscriber makes; `thoughts` says whether it may see them at all.

    Raises:
        ProtocolError: A rate or pattern makes no sense (107).
    """
    if data is None or (data.max_rate is None and data.events is None):
        return EVERYTHING if thoughts else NO_THOUGHTS
    rate = data.max_rate
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise ProtocolError(BAD_REQUEST, f"maxRate must be above 0 and at most {MAX_RATE:.0f}")
    kinds = None if data.events is None else _compiled(tuple(data.events))
    return Choice(thoughts, kinds, rate)


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    _check(patterns)
    return re.compile("|".join(f"(?:{translate(pattern)})" for pattern in patterns) or r"(?!)")


def _check(patterns: Sequence[str]) -> None:
    if len(patterns) > MAX_PATTERNS:
        raise ProtocolError(BAD_REQUEST, f"events: at most {MAX_PATTERNS} patterns")
    if sum(map(len, patterns)) > ALL_CHARS or any(pattern.count("*") > MAX_STARS for pattern in patterns):
        text = f"events: at most {ALL_CHARS} characters, and {MAX_STARS} stars in a pattern"
        raise ProtocolError(BAD_REQUEST, text)
    for pattern in patterns:
        if len(pattern) > PATTERN_CHARS or _PATTERN.fullmatch(pattern) is None:
            raise ProtocolError(BAD_REQUEST, "events: patterns of AG-UI types, as in TEXT_MESSAGE_*")


@lru_cache(maxsize=4096)
def matches(kinds: re.Pattern[str], kind: str) -> bool:
    """Say whether a kind is meant: by its whole name, or a custom event by `CUSTOM` alone."""
    return kinds.match(kind) is not None or kinds.match(kind.partition(":")[0]) is not None
