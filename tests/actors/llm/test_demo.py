"""The demo as a model: it states, searches and remembers through requests and tool calls alone."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from actors import prompt
from actors.llm.demo import DEMO, DemoModel, read_blocks
from actors.llm.model import Request
from actors.llm.openai_chat import encode_message, encode_system
from actors.tools.registry import definitions
from storage.records import Block, Message, Part, TextPart, Tool, ToolCallPart, ToolReturnPart
from tests.actors.llm.streams import Decoded, request

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def tools(*names: str) -> bytes | None:
    held = [
        Tool(
            id=f"tool-{name}",
            organization_id="org-1",
            name=name,
            tool_type="letta_core",
            description="",
            json_schema={"name": name, "parameters": {"type": "object", "properties": {}}},
            created_at=NOW,
            updated_at=NOW,
        )
        for name in names
    ]
    return definitions(held, strict=False)


def block(label: str, value: str, **fields: Any) -> Block:
    return Block(
        id=f"block-{label}",
        organization_id="org-1",
        label=label,
        value=value,
        created_at=NOW,
        updated_at=NOW,
        **fields,
    )


def row(role: Any, *content: Part) -> bytes:
    return encode_message(
        Message(
            id="message-1",
            organization_id="org-1",
            agent_id="agent-1",
            conversation_id="agent-1",
            position=1,
            role=role,
            content=content,
            created_at=NOW,
        )
    )


class Person:
    """Talks to the demo as an actor would, with a memory block and a list of what was said."""

    def __init__(self) -> None:
        self.model = DemoModel(pace=0)
        self.human = ""
        self.heard: list[str] = []
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.tools = tools("memory_insert", "conversation_search")

    async def say(self, text: str) -> str:
        """Say something; run the tools it asks for until it answers."""
        system = "Be kind.\n\n" + prompt.render_memory(
            [block("persona", "I am a demo."), block("human", self.human)], line_numbers=False
        )
        messages = [encode_system(system), row("user", TextPart(text))]
        for _ in range(5):
            decoded = await ask(self.model, request(*messages, tools=self.tools))
            if not decoded.calls:
                self.heard.append(text)
                assert decoded.finish == "stop"
                return decoded.text
            assert decoded.finish == "tool_calls"
            ((call_id, name, arguments),) = decoded.calls
            result = self.run(name, json.loads(arguments))
            messages.append(row("assistant", ToolCallPart(call_id, name, arguments)))
            messages.append(row("tool", ToolReturnPart(call_id, name, "success", result)))
        raise AssertionError("it does not stop")

    def run(self, name: str, arguments: dict[str, str]) -> str:
        self.calls.append((name, arguments))
        if name == "memory_insert":
            assert arguments["label"] == "human"
            self.human = f"{self.human}\n{arguments['new_string']}".strip()
            return self.human
        words = arguments["query"].split()
        hits = [text for text in self.heard if any(word in text.lower() for word in words)]
        results = [{"timestamp": "t", "role": "user", "content": text} for text in hits[:5]]
        results.append({"timestamp": "t", "role": "assistant", "content": "I live in a computer"})
        return json.dumps({"message": f"Showing {len(results)} results:", "results": results})


async def ask(model: DemoModel, asked: Request) -> Decoded:
    decoded = Decoded()
    async for pieces in model.stream(asked):
        decoded.take(pieces)
    assert decoded.reasoning
    assert decoded.usage is not None
    assert decoded.usage.estimated
    return decoded


async def test_a_fact_is_noted_and_told_again_after_a_restart() -> None:
    before = Person()
    answer = await before.say("My name is Xanthippe Mbeki and I live in Ouagadougou.")
    assert answer.startswith("I'll remember")
    assert before.calls[0][0] == "memory_insert"
    after = Person()
    after.human = before.human
    assert "Xanthippe Mbeki" in await after.say("What is my name?")
    assert "Ouagadougou" in await after.say("Where do I live?")
    assert "don't know" in await after.say("What is my shoe size?")


async def test_what_is_in_no_block_is_found_by_searching() -> None:
    person = Person()
    person.heard = ["My goldfish is called Admiral Bubbles."]
    assert "Admiral Bubbles" in await person.say("What is my goldfish called?")
    assert person.calls == [("conversation_search", {"query": "goldfish called"})]


@pytest.mark.parametrize(
    "wrapped", [json.dumps, lambda found: f'{{"status":"OK","message":{json.dumps(found)}}}', str]
)
async def test_search_results_may_be_wrapped_in_any_way(wrapped: Callable[[object], str]) -> None:
    found = {"message": "Showing", "results": [{"role": "user", "content": "My car is a Trabant"}]}
    text = wrapped(found)
    messages = [
        encode_system("Be."),
        row("user", TextPart("Which car do I have?")),
        row("assistant", ToolCallPart("c1", "conversation_search", '{"query":"car"}')),
        row("tool", ToolReturnPart("c1", "conversation_search", "success", text)),
    ]
    decoded = await ask(DemoModel(pace=0), request(*messages, tools=tools("conversation_search")))
    assert "Trabant" in decoded.text


async def test_several_results_of_one_message_are_read() -> None:
    results = row(
        "tool",
        ToolReturnPart("c0", "other", "success", "nothing"),
        ToolReturnPart("c1", "memory_insert", "success", "I like figs"),
    )
    calls = row("assistant", ToolCallPart("c0", "other", "{}"), ToolCallPart("c1", "memory_insert", "{}"))
    asked = request(
        encode_system("Be."),
        row("user", TextPart("I like figs")),
        calls,
        results,
        tools=tools("memory_insert"),
    )
    assert "I'll remember" in (await ask(DemoModel(pace=0), asked)).text


async def test_it_streams_word_by_word_at_its_pace() -> None:
    batches = [
        pieces
        async for pieces in DemoModel(pace=0).stream(
            request(encode_system("Be."), row("user", TextPart("Hi")))
        )
    ]
    assert len(batches) > 20
    assert all(len(pieces) == 1 for pieces in batches[:-1])


async def test_it_answers_when_nobody_said_anything() -> None:
    for messages in ([encode_system("Be.")], [encode_system("Be."), b"", row("assistant", TextPart("x"))]):
        assert (await ask(DemoModel(pace=0), request(*messages))).text
    assert DEMO.provider_type == "demo"


@pytest.mark.parametrize("line_numbers", [False, True])
def test_blocks_are_read_as_the_system_prompt_shows_them(line_numbers: bool) -> None:
    shown = prompt.render_memory(
        [
            block("human", "line one\n<value>odd</value>\nline three", description="about <them>"),
            block("rules", "", read_only=True),
            block("a/b c", "x"),
        ],
        line_numbers=line_numbers,
    )
    human, rules, other = read_blocks(
        f"Be.\n\n{shown}\n\n<memory_metadata>\n- AGENT_ID: a\n</memory_metadata>"
    )
    assert human.lines == ["line one", "<value>odd</value>", "line three"]
    assert (rules.label, rules.lines, rules.read_only) == ("rules", [], True)
    assert (other.label, other.lines, other.read_only) == ("a/b c", ["x"], False)
