"""Conversations are opened for whoever may see their agent."""

import pytest

from actors.errors import UnknownModelError
from bench.provider import Provider
from gateway.auth import KEYED, Caller
from gateway.errors import InvalidRequestError
from gateway.requests import new_conversations
from storage.errors import NotFoundError
from storage.pool import Pool, connection
from tests.gateway.rest.talking import MODEL, new_agent, talking


async def test_a_new_conversation_begins_with_the_system_prompt_alone(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        made = await new_conversations.create(
            served.host, KEYED, agent, summary="s", model=MODEL, model_settings={"temperature": 0.5}
        )
        assert (made.agent_id, made.summary, made.model) == (agent, "s", MODEL)
        assert made.model_settings == {"temperature": 0.5}
        assert len(made.in_context_message_ids or ()) == 1
        async with connection(pool) as conn:
            assert await new_conversations.hydrated(conn, KEYED, made.id) == made
            with pytest.raises(NotFoundError):
                await new_conversations.hydrated(conn, Caller("other", "org-2"), made.id)


async def test_none_is_opened_for_strangers_or_with_an_unknown_model(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await new_agent(served)
        with pytest.raises(NotFoundError):
            await new_conversations.create(served.host, Caller("other", "org-2"), agent)
        with pytest.raises(UnknownModelError):
            await new_conversations.create(served.host, KEYED, agent, model="nobody/x")
        with pytest.raises(InvalidRequestError):
            await new_conversations.create(served.host, KEYED, agent, model_settings={"temperature": "hot"})
        assert await served.json("GET", "/v1/conversations/", params={"agent_id": agent}) == []
