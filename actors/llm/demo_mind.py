"""What the scripted demo says: pure rules over words, no language model.

It notes statements, looks questions up among what it noted and found, and quotes. It never invents.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from actors.llm.demo_words import (
    best_matches,
    is_question,
    key,
    meaningful_words,
    split_sentences,
    stated_fact,
)

READ_CHARS = 20_000
QUESTION_CHARS = 1_000
MOST_FACTS = 8
MOST_KEPT = 40  # facts in a summary

CAPABILITIES = (
    "I am the scripted demo of this server; no language model answers here. "
    "Tell me something about yourself, such as \u201cI live in Lisbon\u201d, and I note it in my memory. "
    "Ask me about it later, even after a restart, and I quote what you told me. "
    "For real conversations give your agent a model of a configured provider."
)


class MemoryBlock(Struct, frozen=True):
    """A memory block as the system prompt shows it."""

    label: str
    value: str
    read_only: bool = False

    @property
    def lines(self) -> list[str]:
        """Return its lines without the line numbers that some prompts show."""
        return [
            text for line in self.value.splitlines() if (text := re.sub(r"^\s*\d+→\s?", "", line).strip())
        ]


class ToolUse(Struct, frozen=True):
    """A call of this turn and what came back."""

    name: str
    result: str


class View(Struct, frozen=True):
    """All that the demo looks at: the last message, its memory, what it may use, what it did already."""

    said: str
    blocks: tuple[MemoryBlock, ...] = ()
    tools: frozenset[str] = frozenset()
    done: tuple[ToolUse, ...] = ()
    found: tuple[str, ...] = ()


class Reply(Struct, frozen=True):
    """What it does next: think, then speak or call one tool."""

    thought: str
    text: str = ""
    tool: str = ""
    arguments: Mapping[str, str | bool] = {}


# Tools that add to a block, with the name of the argument that takes the words.
_WRITERS = {"memory_insert": "new_string", "core_memory_append": "content"}
_SEARCH = "conversation_search"


def reply(view: View) -> Reply:
    """Choose the next thing to do: note what was stated, look up what was asked, then say so."""
    sentences = split_sentences(view.said[:READ_CHARS])
    facts = [fact for sentence in sentences if (fact := stated_fact(sentence))][:MOST_FACTS]
    questions = [sentence for sentence in sentences if is_question(sentence)]
    said: list[str] = []
    if facts:
        noted = _note(view, facts)
        if isinstance(noted, Reply):
            return noted
        said.append(noted)
    if questions:
        answered = _answer(view, " ".join(questions)[:QUESTION_CHARS])
        if isinstance(answered, Reply):
            return answered
        said.append(answered)
    if not said:
        return Reply("There is nothing to note and no question I could look up.", CAPABILITIES)
    return Reply("I have what I need to answer.", " ".join(said))


def sum_up(earlier: str, piece: str) -> Reply:
    """Return the facts that people stated in a piece of a transcript, behind those of an earlier summary."""
    said = (line.partition(": ")[2] for line in piece.splitlines() if line.startswith("user: "))
    facts = [fact for text in said for s in split_sentences(text) if (fact := stated_fact(s))]
    kept = {key(line): line for line in (*earlier.splitlines(), *facts) if line.strip()}
    newest = list(kept.values())[-MOST_KEPT:]
    return Reply("I sum up what was stated.", "\n".join(newest) or "Nothing was stated that should be kept.")


def _note(view: View, facts: Sequence[str]) -> Reply | str:
    """Return the call that notes the facts, or, once it is done or cannot be done, what to say."""
    quoted = _quote(facts)
    for use in view.done:
        if use.name in _WRITERS:
            if is_failure(use.result):
                return f"I could not note {quoted}: the tool {use.name} failed."
            return f"I'll remember {quoted}."
    known = {key(line) for block in view.blocks for line in block.lines}
    fresh = [fact for fact in facts if key(fact) not in known]
    if not fresh:
        return f"I remember that already: {quoted}."
    writer = next((name for name in _WRITERS if name in view.tools), None)
    if writer is None:
        return f"I would note {quoted}, but I was not given the tool memory_insert."
    block = _writable(view.blocks)
    if block is None:
        return f"I would note {quoted}, but I have no memory block that I may write."
    arguments = {"label": block.label, _WRITERS[writer]: "\n".join(fresh)}
    return Reply(f"They told me something; I note it in my block {block.label!r}.", "", writer, arguments)


def _answer(view: View, question: str) -> Reply | str:
    """Return the search for an answer, or, once that is done or cannot be done, the answer."""
    if _about_me(question):
        persona = [line for block in view.blocks if block.label == "persona" for line in block.lines]
        told = best_matches(question, persona)[0]
        return f"My persona says: {_quote(told)}. {CAPABILITIES}" if told else CAPABILITIES
    searched = any(use.name == _SEARCH for use in view.done)
    words = " ".join(dict.fromkeys(meaningful_words(question)))
    if not searched and _SEARCH in view.tools and words:
        return Reply(f"A question about {words}; I search what was said.", "", _SEARCH, {"query": words})
    memory = [line for block in view.blocks for line in block.lines]
    sentences = (s for text in view.found for s in split_sentences(text[:READ_CHARS]))
    heard = [stated_fact(s) or s for s in sentences if not is_question(s)]
    told, sure = best_matches(question, [*memory, *heard])
    if told and sure:
        return f"You told me: {_quote(told)}."
    if told:
        return f"I am not sure, but you told me: {_quote(told)}."
    missing = (
        "" if searched or _SEARCH in view.tools else f" I was not given the tool {_SEARCH} to look further."
    )
    return f"I don't know that yet.{missing}"


def _writable(blocks: Sequence[MemoryBlock]) -> MemoryBlock | None:
    writable = [block for block in blocks if not block.read_only]
    return next((block for block in writable if block.label == "human"), writable[0] if writable else None)


def _quote(lines: Iterable[str]) -> str:
    return " and ".join(f"\u201c{line.rstrip('.!')}\u201d" for line in lines)


def is_failure(result: str) -> bool:
    """Say whether a tool's answer reads like a failure; requests do not carry its status."""
    start = result.lstrip().lower()
    return start.startswith(("error", "[toolconstrainterror]", "interrupted")) or '"failed"' in start[:60]


def _about_me(question: str) -> bool:
    words = set(re.findall(r"[\w']+", question.lower()))
    return bool(words & _OF_THE_DEMO) and not words & _OF_THE_PERSON


_OF_THE_DEMO = frozenset({"you", "your", "yours", "yourself"})
_OF_THE_PERSON = frozenset({"i", "my", "me", "mine", "we", "our", "told", "remember"})
