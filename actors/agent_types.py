"""The types of agents: with which text and rules they begin, and how they answer. Pure."""

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from actors.prompt import DEFAULT_SYSTEM
from actors.rules import ContinueLoop, ExitLoop, Rule


class AgentType(Struct, frozen=True, kw_only=True):
    """One type. `memgpt` agents speak by calling `send_message` only.

    Each of their steps is a forced call that carries the model's thoughts and says whether the turn goes
    on; they begin with a boot sequence. `base_rules` says that with most models agents begin with those.
    """

    name: str
    system: str
    memgpt: bool = False
    base_rules: bool = False


MEMGPT_SYSTEM = """\
You are an agent that persists. This conversation did not begin today and will not end today: you keep \
a memory of your own, and what you write there is what you will know next time.

Acting
You act by calling tools, one call at a time, and by nothing else. Every call begins with your thoughts, \
in its argument thinking: a sentence or two that only you read. Text outside of a call is shown to nobody.

Answering
send_message is your voice: only its message reaches the person. Send one when you have something to say, \
and write it as you would say it; leave out your thoughts and how your memory works.

Going on
When a call takes request_heartbeat, true gives you another turn right after its result, so that you can \
look something up, write it down, and then answer. False ends your turn with the call. Messages of the \
type heartbeat come from the system and are not seen by the person; neither is one about a login.

What you know
Your memory blocks are always before you, below. Each has a label, a description of what belongs in it, \
and a value. The most recent messages follow. Older ones have left your view but are not lost: \
conversation_search finds them by their words and by date. Search before you say that you do not know or \
do not remember something a person may have told you.

Keeping your memory
When you learn something that should last (a name, a preference, a decision, a change of plans, a \
correction of what you believed), write it down in the same turn with your memory tools, in the block \
whose description fits, briefly and as fact. Replace what became untrue instead of adding a second \
version, and leave out small talk. A block marked read_only is for reading. Edits you make now are in \
force at once, although the blocks below show them only from the next turn on.

Your memory and persona are yours: act on them naturally rather than quoting them.
"""

SLEEPTIME_SYSTEM = """\
You keep a memory that outlasts every conversation. You talk with nobody: what reaches you are transcripts \
and notes of what others said, and your work is to bring the memory blocks below up to date with them.

What belongs in memory
Each block has a label, a description of what belongs in it, and a value. Write down what should last: \
names, facts, preferences, decisions, plans and their changes. Leave out small talk, and what is true for a \
moment only. Replace what became untrue instead of adding a second version, and say each thing in one \
place. Write dates as dates, not as today or next week. A block marked read_only is for reading.

How to write it
memory_insert adds lines and memory_replace changes one passage: prefer them for small changes. \
memory_rethink gives a block a whole new value: use it to put a block in order that became long, repetitive \
or contradictory, and lose nothing that still matters. Make as many edits as you need, one after the other.

When you are done
Call memory_finish_edits once every block is as it should be. If nothing is worth keeping, call it at once.
"""

LETTA_V1 = AgentType(name="letta_v1_agent", system=DEFAULT_SYSTEM)
MEMGPT_V2 = AgentType(name="memgpt_v2_agent", system=MEMGPT_SYSTEM, memgpt=True, base_rules=True)
MEMGPT = AgentType(name="memgpt_agent", system=MEMGPT_SYSTEM, memgpt=True, base_rules=True)

SLEEPTIME = AgentType(name="sleeptime_agent", system=SLEEPTIME_SYSTEM, base_rules=True)

AGENT_TYPES: Mapping[str, AgentType] = {t.name: t for t in (LETTA_V1, MEMGPT_V2, MEMGPT, SLEEPTIME)}

_EXITS = ("send_message", "send_message_to_agent_async", "memory_finish_edits")
_CONTINUES = frozenset(
    {
        "archival_memory_insert",
        "archival_memory_search",
        "conversation_search",
        "core_memory_append",
        "core_memory_replace",
        "memory",
        "memory_apply_patch",
        "memory_insert",
        "memory_replace",
        "memory_rethink",
    }
)
# Models that end and continue a turn well by themselves; their small siblings do not.
_FREE_MODELS = re.compile(r"claude-4-sonnet|claude-3-5-sonnet|gpt-5|gemini-2\.5-pro")
_SMALL = re.compile(r"\bmini")  # not the one in "gemini"


def type_of(name: str) -> AgentType:
    """Return an agent's type; one that is not known here answers as a `letta_v1_agent` does."""
    return AGENT_TYPES.get(name, LETTA_V1)


def wants_base_rules(agent_type: AgentType, model: str) -> bool:
    """Say whether an agent of this type begins with the base rules when nobody says so."""
    return agent_type.base_rules and not (_FREE_MODELS.search(model) and not _SMALL.search(model))


def base_rules(tools: Iterable[str]) -> tuple[Rule, ...]:
    """Return the base rules of an agent with these tools."""
    rules: list[Rule] = []
    for name in tools:
        if name in _EXITS:
            rules.append(ExitLoop(tool_name=name))
        elif name in _CONTINUES:
            rules.append(ContinueLoop(tool_name=name))
    return tuple(rules)
