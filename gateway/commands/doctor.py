"""`wakeful doctor`: what is wrong with this installation, and what to do about it."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway import config
from gateway.chat.view import printable
from gateway.config import SettingsError
from gateway.doctor import doctor
from gateway.doctor.findings import Finding, Level, error

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

HEALTHY, SICK = 0, 1  # exit codes
MARKS: Mapping[Level, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "error": ("ERROR", "red"),
}
CHECK_CHARS = 22


def run(
    env: Mapping[str, str],
    flags: Mapping[str, Any],
    *,
    as_json: bool,
    with_models: bool,
    deadline: float,
) -> int:
    """Examine, show what was found, and return the process's exit code: 1 where there is an error."""
    view = _Json() if as_json else _Lines()
    try:
        settings = config.load(env, flags)
    except SettingsError as problem:
        view.found(error("settings", str(problem), remedy="correct it; every setting: gateway/static/docs"))
    else:
        doctor.examine(settings, env, view, with_models=with_models, deadline=deadline)
    view.end()
    return SICK if any(finding.level == "error" for finding in view.all) else HEALTHY


class _View:
    """Keeps the findings, and shows on a terminal what takes long."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self._status: Status | None = None

    def looking(self, what: str) -> None:
        """Show what is being looked at."""
        if not sys.stderr.isatty():
            return
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        self._status.update(printable(what))

    def found(self, finding: Finding) -> None:
        """Keep a finding."""
        self.all.append(finding)

    def end(self) -> None:
        """Show what is left to show."""
        if self._status is not None:
            self._status.stop()


class _Json(_View):
    """One JSON object at the end."""

    def end(self) -> None:
        """Write the object."""
        super().end()
        healthy = not any(finding.level == "error" for finding in self.all)
        print(msgspec.json.encode({"healthy": healthy, "findings": self.all}).decode())


class _Lines(_View):
    """A line for each finding, its remedy behind it."""

    def __init__(self) -> None:
        super().__init__()
        self._console = _console() if sys.stdout.isatty() else None

    def found(self, finding: Finding) -> None:
        """Keep and write a finding."""
        super().found(finding)
        word, colour = MARKS[finding.level]
        remedy = "" if finding.remedy is None else f" -> {finding.remedy}"
        line = " ".join(printable(f"{finding.check:<{CHECK_CHARS}} {finding.text}{remedy}").split("\n"))
        if self._status is not None:
            self._status.stop()
        if self._console is None:
            print(f"{word:<8}{line}", flush=True)
        else:
            self._console.out(f"{word:<8}", style=colour, end="", highlight=False)
            self._console.out(line, highlight=False)
        if self._status is not None:
            self._status.start()

    def end(self) -> None:
        """Write the sum."""
        super().end()
        grave, light = (sum(f.level == level for f in self.all) for level in ("error", "warning"))
        print(f"{grave} errors, {light} warnings", flush=True)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)
