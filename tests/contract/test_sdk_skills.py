"""Skills that a client offers with a message, as coding agents do with each of theirs."""

from typing import Any

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import connected, user

SKILLS: list[Any] = [
    {"name": "pdf", "description": "Read and write PDF files", "location": "/skills/pdf/SKILL.md"},
    {"name": "git", "description": "Keep versions", "location": "/skills/git/SKILL.md"},
]


async def test_the_model_is_told_of_a_clients_skills_in_the_one_system_message_of_that_run(
    pool: Pool, provider: Provider
) -> None:
    async with connected(pool, provider) as c:
        agent_id = c.agent_id
        await provider.log()
        first = await c.client.agents.messages.create(
            agent_id, messages=[user("Write a PDF")], client_skills=SKILLS
        )
        stream = await c.client.conversations.messages.create(
            agent_id, messages=[user("And another")], client_skills=SKILLS[:1], override_system="Be brief."
        )
        assert [chunk.message_type async for chunk in stream][-2:] == ["stop_reason", "usage_statistics"]
        await c.client.agents.messages.create(agent_id, messages=[user("Thanks")])
        records = await provider.log()
    assert first.stop_reason.stop_reason == "end_turn"
    systems = [[m["content"] for m in r.body["messages"] if m["role"] == "system"] for r in records]
    [with_both], [with_one], [without] = systems
    for skill in SKILLS:
        assert skill["description"] in with_both
        assert skill["location"] in with_both
    assert "<memory_metadata>" in with_both
    assert with_one.startswith("Be brief.\n\n<available_skills>\n<skill>\n<name>pdf</name>")
    assert SKILLS[1]["location"] not in with_one
    assert "available_skills" not in without
