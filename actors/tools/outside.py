"""Tools whose work is done outside of this system; whoever has one registers it here."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

from msgspec import Struct

from actors.tools.spec import ToolSpec
from storage.records import JsonObject

DEADLINE = 600.0  # seconds; then nobody knows what the tool did


class Invocation(Struct, frozen=True, kw_only=True):
    """One call on its way to its tool."""

    agent_id: str
    run_id: str
    step_id: str
    call_id: str
    arguments: JsonObject

    @property
    def key(self) -> str:
        """The same for every try of this call: what the tool gives on, so that it has its effect once."""
        return f"{self.agent_id}/{self.step_id}/{self.call_id}"


Run = Callable[[Invocation], Awaitable[str]]

_TOOLS: dict[str, tuple[ToolSpec, Run]] = {}


def spec_of(name: str) -> ToolSpec | None:
    """Return the tool of this name, if one is registered."""
    found = _TOOLS.get(name)
    return None if found is None else found[0]


def run_of(name: str) -> Run:
    """Return what runs the tool. It raises `ToolError` with what the model shall read."""
    return _TOOLS[name][1]


def register(spec: ToolSpec, run: Run) -> None:
    """Let agents that hold the tool call it. `spec.kind` is `call`."""
    assert spec.kind == "call"
    _TOOLS[spec.name] = (spec, run)


def forget(name: str) -> None:
    """Take a tool back; a call of it is unknown from here on."""
    _TOOLS.pop(name, None)


@contextmanager
def registered(spec: ToolSpec, run: Run) -> Generator[None]:
    """Let agents call the tool inside the block."""
    register(spec, run)
    try:
        yield
    finally:
        forget(spec.name)
