"""What is written for Letta's server without its SDK: plain requests, as curl and scripts send them."""

import json
from typing import Any

import httpx2

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import connected


async def test_an_agent_file_is_sent_as_a_plain_form(pool: Pool, provider: Provider) -> None:
    async with connected(pool, provider) as c, httpx2.AsyncClient(base_url=c.url) as http:
        exported = (await http.get(f"/v1/agents/{c.agent_id}/export")).json()
        answer = await http.post(
            "/v1/agents/import",
            files={"file": ("agent.af", json.dumps(exported).encode())},
            data={"append_copy_suffix": "false", "name": "sent"},
        )
        assert answer.status_code == 200, answer.text
        [made] = answer.json()["agent_ids"]
        agent: Any = (await http.get(f"/v1/agents/{made}")).json()
    assert agent["name"] == "sent"
    assert [block["label"] for block in agent["blocks"]] == ["human"]
