"""The first start without any key: the scripted demo remembers, across a restart of the host."""

import anyio
import msgspec
import pytest

from actors.agent_types import base_rules
from actors.host import Host, HostSettings
from actors.llm.catalog import Catalog
from actors.llm.demo import DemoModel
from actors.tools.registry import BASE_TOOLS
from bench.provider import Provider
from storage.pool import Pool
from storage.records import ToolCallPart
from tests.actors.worlds import World, committed, finish

FACTS = [
    ("My name is Oluwaseun", "What is my name?", "Oluwaseun"),
    ("I live in Tromsø", "Where do I live?", "Tromsø"),
    ("My dog is called Biscuit", "What is my dog called?", "Biscuit"),
    ("I like rooibos tea", "What tea do I like?", "rooibos"),
    ("My sister is Anneliese", "Who is my sister?", "Anneliese"),
    ("I work as a glazier", "What do I work as?", "glazier"),
    ("Remember that the gate code is 4471", "What is the gate code?", "4471"),
    ("My favourite colour is teal", "What is my favourite colour?", "teal"),
    ("I am allergic to walnuts", "What am I allergic to?", "walnuts"),
    ("My birthday is on 3 March", "When is my birthday?", "3 March"),
    ("I drive a Saab", "What do I drive?", "Saab"),
    ("My wifi network is Penguin-5G", "What is my wifi network?", "Penguin-5G"),
    ("I play the bassoon", "What do I play?", "bassoon"),
    ("My landlord is Mr Okonkwo", "Who is my landlord?", "Okonkwo"),
    ("I was born in Cusco", "Where was I born?", "Cusco"),
    ("My train leaves at 6:52", "When does my train leave?", "6:52"),
    ("I support FC Nordhavn", "Which team do I support?", "Nordhavn"),
    ("My office is on the ninth floor", "On which floor is my office?", "ninth"),
    ("Remember that the plumber comes on Thursday", "When does the plumber come?", "Thursday"),
    ("My middle name is Perpetua", "What is my middle name?", "Perpetua"),
]


def demo_world(pool: Pool) -> tuple[Host, Catalog]:
    catalog = Catalog(demo=DemoModel(pace=0))
    return Host(pool, catalog, name="demo-host", settings=HostSettings(drain_seconds=2)), catalog


@pytest.mark.timeout(60)
async def test_twenty_facts_survive_a_restart(pool: Pool) -> None:
    host, catalog = demo_world(pool)
    async with host.running():
        w = World(host, Provider())
        agent_id = await w.agent(model="demo/scripted")
        for statement, _, _ in FACTS:
            assert finish(await w.ask(agent_id, statement)).status == "completed"
    await catalog.aclose()

    host, catalog = demo_world(pool)
    missed: list[str] = []
    async with host.running():
        w = World(host, Provider())
        with anyio.fail_after(45):
            for _, question, fact in FACTS:
                *_, (role, answer) = committed(await w.ask(agent_id, question))
                assert role == "assistant"
                if fact not in answer:
                    missed.append(f"{question} -> {answer}")
    await catalog.aclose()
    assert missed == []


async def test_what_nobody_said_is_not_made_up(pool: Pool) -> None:
    host, catalog = demo_world(pool)
    async with host.running():
        w = World(host, Provider())
        agent_id = await w.agent(model="demo/scripted")
        *_, (_, answer) = committed(await w.ask(agent_id, "What is my shoe size?"))
        assert "don't know that yet" in answer
    await catalog.aclose()


@pytest.mark.parametrize("agent_type", ["memgpt_v2_agent", "memgpt_agent"])
async def test_an_agent_that_speaks_by_calls_remembers_too(pool: Pool, agent_type: str) -> None:
    host, catalog = demo_world(pool)
    async with host.running():
        w = World(host, Provider())
        rules = [msgspec.to_builtins(rule) for rule in base_rules(BASE_TOOLS[agent_type])]
        agent_id = await w.agent(model="demo/scripted", agent_type=agent_type, tool_rules=tuple(rules))
        for statement, question, fact in FACTS[:3]:
            told = finish(await w.ask(agent_id, statement))
            assert (told.status, told.stop_reason) == ("completed", "tool_rule")
            events = await w.ask(agent_id, question)
            assert finish(events).stop_reason == "tool_rule"
            said = [p for m in await w.messages(agent_id) for p in m.content if isinstance(p, ToolCallPart)]
            assert said[-1].name == "send_message"
            assert fact in said[-1].arguments
    await catalog.aclose()
