"""What fills a model's window, part by part, in our own tokens. Pure."""

from collections.abc import Callable

from msgspec import Struct

from actors.prompt import parts_of


class Breakdown(Struct, frozen=True, kw_only=True, gc=False):
    """How many tokens each part of the prompt takes, as `GET /v1/agents/{agent_id}/context` counts them."""

    system: int
    core_memory: int
    tool_usage_rules: int
    directories: int
    external_memory_summary: int
    summary_memory: int
    functions_definitions: int
    messages: int

    @property
    def used(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in self.__struct_fields__)


class SystemTokens(Struct, frozen=True, gc=False):
    """The tokens of a system message, part by part: they change only when it is compiled anew."""

    text: int
    memory: int
    rules: int
    directories: int
    facts: int


def system_tokens(text: str, count: Callable[[str], int]) -> SystemTokens:
    """Return the tokens of each part of a system message. O(n) in its text."""
    return SystemTokens(*map(count, parts_of(text)))


def breakdown_of(system: SystemTokens, *, window: int, summary: int, functions: int) -> Breakdown:
    """Return what fills a window: `window` are the tokens of its messages, the `summary` among them."""
    return Breakdown(
        system=system.text,
        core_memory=system.memory,
        tool_usage_rules=system.rules,
        directories=system.directories,
        external_memory_summary=system.facts,
        summary_memory=summary,
        functions_definitions=functions,
        messages=window - summary,
    )
