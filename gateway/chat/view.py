"""How a chat looks: word by word on a terminal, one message after the other where it is piped."""

import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

Kind = Literal["reasoning", "answer"]

ARGUMENT_CHARS = 200
RESULT_CHARS = 120

# Text of models and tools must not steer the terminal: everything but line ends and tabs is shown as a mark.
_UNPRINTABLE = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return `text` without control characters."""
    return text.translate(_UNPRINTABLE)


class View(Protocol):
    """What shows a chat. Text comes between `begin` and `end`; `drop` takes back what has no end yet."""

    def begin(self, kind: Kind) -> None: ...
    def text(self, text: str) -> None: ...
    def end(self) -> None: ...
    def drop(self) -> None: ...
    def call(self, name: str, arguments: str) -> None: ...
    def result(self, text: str, *, good: bool) -> None: ...
    def notice(self, text: str) -> None: ...


class Plain:
    """Whole messages on standard output, thoughts and tools marked; everything else on standard error."""

    def __init__(self) -> None:
        self._kind: Kind = "answer"
        self._parts: list[str] = []

    def begin(self, kind: Kind) -> None:
        """Begin a message."""
        self._kind, self._parts = kind, []

    def text(self, text: str) -> None:
        """Add to the message."""
        self._parts.append(text)

    def end(self) -> None:
        """Write the message, now that it is whole."""
        text = printable("".join(self._parts))
        _out(text if self._kind == "answer" else f"(thinks) {one_line(text)}")

    def drop(self) -> None:
        """Forget the unfinished message."""
        self._parts = []

    def call(self, name: str, arguments: str) -> None:
        """Write a tool call."""
        _out(f"(calls) {shown_call(name, arguments)}")

    def result(self, text: str, *, good: bool) -> None:
        """Write what a tool returned."""
        _out(f"({'returns' if good else 'fails'}) {cut(one_line(text), RESULT_CHARS)}")

    def notice(self, text: str) -> None:
        """Say something that is no part of the conversation."""
        print(printable(text), file=sys.stderr, flush=True)


def _out(line: str) -> None:
    print(line, flush=True)


class Terminal:
    """Words as they come; thoughts and tools are dim."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._style: str | None = None
        self._mid_line = False

    def begin(self, kind: Kind) -> None:
        """Begin a message on a line of its own."""
        self._style = "dim italic" if kind == "reasoning" else None

    def text(self, text: str) -> None:
        """Show more of the message."""
        self._write(text, self._style)

    def end(self) -> None:
        """End the message's line."""
        if self._mid_line:
            self._write("\n", None)

    def drop(self) -> None:
        """Leave the unfinished message as it stands: it was seen."""
        self.end()

    def call(self, name: str, arguments: str) -> None:
        """Show a tool call."""
        self._line(shown_call(name, arguments), "cyan dim")

    def result(self, text: str, *, good: bool) -> None:
        """Show what a tool returned."""
        self._line(f"-> {cut(one_line(text), RESULT_CHARS)}", "dim" if good else "red")

    def notice(self, text: str) -> None:
        """Say something that is no part of the conversation, broken between words."""
        self._line("\n".join(textwrap.wrap(printable(text), self._console.width)), "yellow")

    def _line(self, text: str, style: str) -> None:
        self.end()
        self._write(f"{text}\n", style)

    def _write(self, text: str, style: str | None) -> None:
        if text:
            self._console.out(printable(text), style=style, highlight=False, end="")
            self._mid_line = not text.endswith("\n")


def open_view() -> View:
    """Return the view for this process's standard output."""
    cast("Any", sys.stdout).reconfigure(
        errors="replace"
    )  # a terminal that lacks a letter still shows the rest
    if not sys.stdout.isatty():
        return Plain()
    from rich.console import Console

    return Terminal(Console())


def shown_call(name: str, arguments: str, *, limit_chars: int = ARGUMENT_CHARS) -> str:
    """Return a call as one line: `name(argument="value", …)`."""
    try:
        decoded = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        shown = arguments
    else:
        shown = ", ".join(f"{key}={msgspec.json.encode(value).decode()}" for key, value in decoded.items())
    return f"{one_line(name)}({cut(one_line(shown), limit_chars)})"


def one_line(text: str) -> str:
    """Return `text` on one line."""
    return " ".join(printable(text).split())


def cut(text: str, limit_chars: int) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= limit_chars else f"{text[: limit_chars - 1]}…"
