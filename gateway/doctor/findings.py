"""What the doctor says: one line for each thing looked at, with its remedy where something is wrong."""

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from msgspec import Struct

Level = Literal["ok", "warning", "error"]


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at. `check` names it for programs; `text` never holds a secret."""

    level: Level
    check: str
    text: str
    remedy: str | None = None


def ok(check: str, text: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding("ok", check, text)


def warning(check: str, text: str, *, remedy: str) -> Finding:
    """Return a finding with which the server works, but not as one would wish."""
    return Finding("warning", check, text, remedy)


def error(check: str, text: str, *, remedy: str) -> Finding:
    """Return a finding that keeps the server, or an agent, from working."""
    return Finding("error", check, text, remedy)


class Show(Protocol):
    """Where findings go as they are made, and what is being looked at meanwhile."""

    def looking(self, what: str) -> None: ...
    def found(self, finding: Finding) -> None: ...


class Redacted:
    """Shows findings on another `Show` with these secrets removed, wherever a text came from."""

    def __init__(self, show: Show, secrets: Iterable[str]) -> None:
        self._show = show
        # The longest first: one secret may be the beginning of another.
        self._secrets = sorted({secret for secret in secrets if len(secret) > 3}, key=len, reverse=True)

    def looking(self, what: str) -> None:
        """Say what is being looked at."""
        self._show.looking(self._clean(what))

    def found(self, finding: Finding) -> None:
        """Show a finding."""
        remedy = None if finding.remedy is None else self._clean(finding.remedy)
        self._show.found(Finding(finding.level, finding.check, self._clean(finding.text), remedy))

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def mebibytes(size_bytes: float) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1024**3:.1f} GiB" if size_bytes >= 1024**3 else f"{size_bytes / 1024**2:.0f} MiB"


Check = Callable[[Show], None]
