"""The system message: the agent's own text, its memory blocks, its tool rules and a few facts."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from actors import rules as tool_rules
from actors.memory import LINE_NUMBER_WARNING
from storage.records import Agent, AgentSettings, Block, JsonObject

MEMORY_TOKEN = "{CORE_MEMORY}"  # noqa: S105 - where in an agent's text the memory goes
TIME_FORMAT = "%Y-%m-%d %I:%M:%S %p %Z%z"

DEFAULT_SYSTEM = """\
You are an agent that persists. This conversation did not begin today and will not end today: you keep \
a memory of your own, and what you write there is what you will know next time.

Answering
Whatever you write as plain text is your reply and is shown to the person as it stands. Use tools \
silently, before you answer; do not announce them and do not describe how your memory works unless \
asked.

What you know
Your memory blocks are always before you, below. Each has a label, a description of what belongs in \
it, and a value. The most recent messages follow. Older ones have left your view but are not lost: \
conversation_search finds them by their words and by date. Search before you say that you do not know \
or do not remember something a person may have told you.

Keeping your memory
When you learn something that should last (a name, a preference, a decision, a change of plans, a \
correction of what you believed), write it down in the same turn: memory_insert adds lines to a block, \
memory_replace changes words that are there. Put it in the block whose description fits, briefly and \
as fact. Replace what became untrue instead of adding a second version, and leave out small talk. A \
block marked read_only is for reading. Edits you make now are in force at once, although the blocks \
below show them only from the next turn on.

Your memory and persona are yours: act on them naturally rather than quoting them.
"""

_WITHOUT_MEMORY = frozenset({"react_agent", "workflow_agent"})
_NUMBERED_FOR = frozenset({"letta_v1_agent", "memgpt_v2_agent", "sleeptime_agent"})


def compile_system(
    agent: Agent,
    blocks: Sequence[Block],
    *,
    conversation_id: str,
    recompiled_at: datetime,
    previous_messages: int,
    archival: int = 0,
    line_numbers: bool,
) -> str:
    """Return the whole system message, with the facts as of `recompiled_at` in the agent's timezone.

    Memory and facts stand where the agent's text says `{CORE_MEMORY}`, else after it. Block values go
    in verbatim: a token or a tag inside a value is text like any other.
    """
    facts = [
        f"- AGENT_ID: {agent.id}",
        f"- CONVERSATION_ID: {'default' if conversation_id == agent.id else conversation_id}",
        f"- System prompt last recompiled: {_local(recompiled_at, agent.settings.timezone)}",
        f"- {previous_messages} previous messages are in recall memory (conversation_search finds them)",
    ]
    if archival > 0:
        facts.append(f"- {archival} total memories are in archival memory")
    head, tail = _frame(agent, blocks, line_numbers=line_numbers)
    return f"{head}{_FACTS_OPEN}{chr(10).join(facts)}{_FACTS_CLOSE}{tail}"


def same_memory(
    system_text: str,
    agent: Agent,
    blocks: Sequence[Block],
    *,
    line_numbers: bool,
    archival: int | None = None,
) -> bool:
    """Return whether `system_text` already shows this agent text, these rules and these blocks.

    Only the facts (time, counts) may differ: rebuilding for them would cost the prefix cache. Where
    `archival` is given, so many memories must be named as well.
    """
    head, tail = _frame(agent, blocks, line_numbers=line_numbers)
    if not (system_text.startswith(head + _FACTS_OPEN) and system_text.endswith(_FACTS_CLOSE + tail)):
        return False
    facts = system_text[len(head) + len(_FACTS_OPEN) : len(system_text) - len(_FACTS_CLOSE) - len(tail)]
    named = _FACTS.fullmatch(facts)
    return named is not None and archival in (None, int(named["archival"] or 0))


def render_memory(blocks: Sequence[Block], *, line_numbers: bool) -> str:
    """Return the `<memory_blocks>` section, or nothing where there are no blocks."""
    if not blocks:
        return ""
    rendered = "\n\n".join(_block(block, line_numbers=line_numbers) for block in blocks)
    intro = "These memory blocks are what you know at all times."
    return f"<memory_blocks>\n{intro}\n\n{rendered}\n</memory_blocks>"


def parts_of(text: str) -> tuple[str, str, str, str, str]:
    """Return a system message's parts: the agent's own text, memory, tool rules, directories and facts."""
    text, memory = _cut(text, "memory_blocks")
    text, rules = _cut(text, "tool_usage_rules")
    text, directories = _cut(text, "directories")
    text, facts = _cut(text, "memory_metadata")
    return text, memory, rules, directories, facts


def _cut(text: str, tag: str) -> tuple[str, str]:
    """Return the text without what stands in `<tag>`, and that; tags inside it belong to it."""
    before, opened, rest = text.partition(f"<{tag}>\n")
    inside, closed, after = rest.rpartition(f"\n</{tag}>")
    if not (opened and closed):
        return text, ""
    return f"{before.rstrip()}\n\n{after.lstrip()}".strip(), f"{opened}{inside}{closed}"


def numbers_lines(settings: AgentSettings) -> bool:
    """Return whether the agent sees block values with line numbers: Anthropic's models edit better so."""
    provider, _, name = settings.model.partition("/")
    return (provider == "anthropic" or "claude" in name.lower()) and settings.agent_type in _NUMBERED_FOR


def zone(timezone: str) -> tzinfo:
    """Return the IANA `timezone`, or UTC where this machine does not know it."""
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or a directory of the database
        return UTC


_FACTS_OPEN, _FACTS_CLOSE = "<memory_metadata>\n", "\n</memory_metadata>"
_FACTS = re.compile(
    r"- AGENT_ID: \S+\n- CONVERSATION_ID: \S+\n- System prompt last recompiled: [^\n]+"
    r"\n- \d+ previous messages [^\n]+(?:\n- (?P<archival>\d+) total memories [^\n]+)?"
)


def _frame(agent: Agent, blocks: Sequence[Block], *, line_numbers: bool) -> tuple[str, str]:
    """Return what stands before and after the facts."""
    before, token, after = agent.settings.system.partition(MEMORY_TOKEN)
    memory = ""
    if agent.settings.agent_type not in _WITHOUT_MEMORY:
        memory = render_memory(blocks, line_numbers=line_numbers)
    sections = [section for section in (memory, _usage_rules(agent.settings.tool_rules)) if section]
    if not token and before:
        sections.insert(0, before.rstrip("\n"))
        before = ""
    return before + "".join(f"{section}\n\n" for section in sections), after


def _block(block: Block, *, line_numbers: bool) -> str:
    metadata = [f"- chars_current={len(block.value)}", f"- chars_limit={block.limit_chars}"]
    if block.read_only:
        metadata.insert(0, "- read_only=true")
    value, warning = block.value, ()
    if line_numbers:
        value = "\n".join(f"{number}→ {line}" for number, line in enumerate(value.split("\n"), start=1))
        warning = ("<warning>", LINE_NUMBER_WARNING, "</warning>")
    return "\n".join(
        (
            f"<{block.label}>",
            "<description>",
            block.description or "",
            "</description>",
            "<metadata>",
            *metadata,
            "</metadata>",
            *warning,
            "<value>",
            value,
            "</value>",
            f"</{block.label}>",
        )
    )


def _usage_rules(rules: Sequence[JsonObject]) -> str:
    """Return the `<tool_usage_rules>` section: one line for each rule, in order, repeats once.

    Rules that bind the server alone (approvals) are not shown, nor is one that says nothing readable.
    """
    told = tool_rules.told(tool_rules.compiled(rules))
    if not told:
        return ""
    intro = "These rules bind you whenever you use tools."
    lines = (f"<tool_rule>{sentence}</tool_rule>" for sentence in told)
    return "\n".join(("<tool_usage_rules>", intro, *lines, "</tool_usage_rules>"))


def _local(moment: datetime, timezone: str) -> str:
    return moment.astimezone(zone(timezone)).strftime(TIME_FORMAT)
