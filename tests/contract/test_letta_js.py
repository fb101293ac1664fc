"""The official JavaScript SDK, unchanged, on a real connection to a gateway whose model is scripted."""

import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.contract.connected import CALL
from tests.contract.node import Node
from tests.contract.programs import lines
from tests.gateway.rest.talking import MODEL, talking
from tests.serving import listening


@pytest.mark.timeout(90)
async def test_a_program_of_the_javascript_sdk_does_what_it_did_before(
    pool: Pool, provider: Provider, node: Node
) -> None:
    await provider.script([CALL, {"text": "Noted."}, {"text": "Hello you two", "reasoning": "They greet."}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        said = lines(await node.run("letta.mjs", url, MODEL))
    answered = ["ping", "assistant_message", "stop_reason", "usage_statistics"]
    assert said == [
        ["asked", "requires_approval", "approval_request_message"],
        ["approved", ["tool_return_message", "assistant_message"]],
        ["block", "Likes tea"],
        ["tokens", ["ping", "reasoning_message", *answered[1:]]],
        ["resumed", answered],
        ["nothing left", ["ping", *answered[2:]]],
        ["conversation", answered],
        ["pages", ["assistant_message", "user_message", "system_message"]],
        ["found", ["Cats purr"]],
        ["passages", 0],
        ["imported", "js_copy"],
        ["listed", ["js", "js_copy"]],
        ["gone", True, 404, "Agent not found"],
    ]
