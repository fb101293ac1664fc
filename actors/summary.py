"""What a compaction is asked for and what it leaves behind: settings, prompts, transcripts. Pure."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from actors.llm.model import ModelRef
from storage.records import (
    ApprovalPart,
    ImagePart,
    JsonObject,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

Mode = Literal["sliding_window", "all", "self_compact_all", "self_compact_sliding_window"]

# Small models of providers that are cheap enough to sum up for a larger one, by the host that serves them:
# a server of one's own that speaks a provider's dialect does not have them.
SUMMARISERS = {
    "api.anthropic.com": "claude-haiku-4-5",
    "api.openai.com": "gpt-5-mini",
    "generativelanguage.googleapis.com": "gemini-2.5-flash",
}
DEFAULT_SHARE = 0.3  # of the messages of a window, evicted where nobody says how many
WINDOW_SHARE = 10  # a summary is at most one tenth of the window
CHARS_PER_TOKEN = 4
FEWEST_TOKENS = 64  # shorter than this no summary says anything
_WORDS_PER_TOKEN = 0.7

_KEEP = """\
Keep, in this order of importance:
1. what was asked for and is not finished, with its exact wording where that matters;
2. facts about people and the world: names, dates, numbers, places, preferences, decisions, promises;
3. what was done with tools, what came of it, and what failed;
4. corrections: what was believed before and is no longer true.
Write facts, not the course of the talk. Invent nothing. If you are shown an earlier summary, take over \
all of it that still matters. Answer with the summary alone, in the language of the conversation."""

_READ = """\
You write the memory of an agent. Part of its conversation is about to leave its view, and your summary \
is all that it will see of that part. """

_SELF = """\
This is no message of a person. The conversation above is about to leave your view, and what you write now \
is all that you will see of it. Write a summary for yourself. Do not call tools and do not greet. """

PROMPTS: dict[Mode, str] = {
    "sliding_window": _READ + "More recent messages stay in view: sum up only what you are shown. " + _KEEP,
    "all": _READ + "No other message stays in view, so say where the conversation stands. " + _KEEP,
    "self_compact_all": _SELF + "No message stays in view, so say where the conversation stands. " + _KEEP,
    "self_compact_sliding_window": _SELF + "More recent messages will stay in view. " + _KEEP,
}

ACKNOWLEDGED = "Understood. I will answer with the summary and nothing else."
_OPEN, _CLOSE = "<conversation>\n", "\n</conversation>"
_EARLIER_OPEN, _EARLIER_CLOSE = "<earlier_summary>\n", "\n</earlier_summary>\n"
_HEAD = "The following is a summary of the previous messages:\n "

Share = Annotated[float, Meta(gt=0, le=1)]
Chars = Annotated[int, Meta(ge=1, le=1_000_000)]


class CompactionSettings(Struct, frozen=True, kw_only=True):
    """How an agent's conversations are shortened when their window is full.

    `sliding_window_percentage` is the share of the messages that is summed up and leaves the window.
    `model` writes the summary; it may be another than the agent's own. `clip_chars` bounds the summary.
    """

    mode: Mode = "sliding_window"
    model: str | None = None
    model_settings: JsonObject | None = None
    prompt: str | None = None
    prompt_acknowledgement: bool = False
    clip_chars: Chars | None = 50_000
    sliding_window_percentage: Share = DEFAULT_SHARE

    @property
    def text(self) -> str:
        """The prompt in force."""
        return self.prompt or PROMPTS[self.mode]


class CompactionStats(Struct, frozen=True, kw_only=True):
    """What a compaction did to a window. Tokens are those of a prompt, messages those that models see."""

    trigger: str
    context_tokens_before: int | None = None
    context_tokens_after: int | None = None
    context_window: int
    messages_count_before: int
    messages_count_after: int


class Alert(Struct, frozen=True, kw_only=True):
    """The JSON text of a summary message, as models read it."""

    type: str = "system_alert"
    message: str
    time: str
    compaction_stats: CompactionStats | None = None


def settings_of(stored: JsonObject | None) -> CompactionSettings:
    """Return the settings of an agent; those that an older release stored unchecked count as absent."""
    try:
        return msgspec.convert(stored or {}, CompactionSettings)
    except msgspec.ValidationError:
        return CompactionSettings()


def default_model(ref: ModelRef) -> str:
    """Return the handle of the model that sums up for `ref` where nobody chose one."""
    name = SUMMARISERS.get(urlsplit(ref.endpoint).hostname or "")
    return ref.handle if name is None else f"{ref.provider}/{name}"


def most_tokens(settings: CompactionSettings, window_tokens: int) -> int:
    """Return how many tokens a summary may have."""
    bound = window_tokens // WINDOW_SHARE
    if settings.clip_chars is not None:
        bound = min(bound, settings.clip_chars // CHARS_PER_TOKEN)
    return max(FEWEST_TOKENS, bound)


def limit_words(tokens: int) -> str:
    """Return the sentence that tells a model how long its summary may be."""
    return f"Write at most {int(tokens * _WORDS_PER_TOKEN)} words."


def clip(text: str, chars: int) -> str:
    """Return `text`, cut where it is longer than `chars`."""
    return text if len(text) <= chars else text[: max(0, chars - 1)] + "…"


def pack(summary: str, *, hidden: int, at: datetime, stats: CompactionStats) -> str:
    """Return the text of the message that stands for `hidden` earlier ones."""
    note = (
        f"Note: {hidden} earlier messages are hidden from view to make room. They stay in recall memory, "
        "where conversation_search finds them."
    )
    alert = Alert(
        message=f"{note}\n{_HEAD}{summary}", time=at.isoformat(timespec="seconds"), compaction_stats=stats
    )
    return msgspec.json.encode(alert).decode()


def unpack(text: str) -> tuple[str, CompactionStats | None]:
    """Return the summary in the text of a summary message, and its figures; any other text as it is."""
    try:
        alert = msgspec.json.decode(text, type=Alert)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text, None
    _, head, summary = alert.message.partition(_HEAD)
    return (summary if head else alert.message), alert.compaction_stats


def transcript(messages: Iterable[Message]) -> list[str]:
    """Return messages as lines of a transcript; those that say nothing to anybody are left out."""
    return [f"{message.role}: {said}" for message in messages if (said := _said(message))]


def _said(message: Message) -> str:
    said: list[str] = []
    for part in message.content:
        match part:
            case TextPart(text):
                said.append(text)
            case ImagePart():
                said.append("[an image]")
            case ToolCallPart(name=name, arguments=arguments):
                said.append(f"[calls {name} with {arguments}]")
            case ToolReturnPart(name=name, status=status, text=text):
                said.append(f"[{name}: {status}] {text}" + " [an image]" * len(part.shown))
            case ReasoningPart() | ApprovalPart():
                pass
    return "\n".join(said)


def chunks(lines: Sequence[str], *, most: int, count: Callable[[str], int]) -> list[str]:
    """Return the lines in pieces of at most `most` tokens each, in order; longer lines are cut.

    `count` says how many tokens a text has. Nothing is left out.
    """
    pieces: list[str] = []
    held: list[str] = []
    tokens = 0
    for line in (part for whole in lines for part in _split(whole, most=most, count=count)):
        cost = count(line) + 1
        if held and tokens + cost > most:
            pieces.append("\n".join(held))
            held, tokens = [], 0
        held.append(line)
        tokens += cost
    return [*pieces, "\n".join(held)] if held else pieces


def _split(line: str, *, most: int, count: Callable[[str], int]) -> list[str]:
    """Return a line in equal pieces, each of at most about `most` tokens."""
    tokens = count(line)
    if tokens < most:
        return [line]
    size = max(1, len(line) * most // (2 * tokens))
    return [line[at : at + size] for at in range(0, len(line), size)]


def question(piece: str, *, earlier: str, words: str) -> str:
    """Return what a summariser is shown: the earlier summary, a piece of the transcript, and the bound."""
    before = f"{_EARLIER_OPEN}{earlier}{_EARLIER_CLOSE}" if earlier else ""
    return f"{before}{_OPEN}{piece}{_CLOSE}\n{words}"


def shown(text: str) -> tuple[str, str] | None:
    """Return (earlier summary, piece of the transcript) of a `question`, or `None` for any other text."""
    before, begun, rest = text.partition(_OPEN)
    piece, ended, _ = rest.rpartition(_CLOSE)
    if not (begun and ended):
        return None
    return before.removeprefix(_EARLIER_OPEN).removesuffix(_EARLIER_CLOSE), piece
