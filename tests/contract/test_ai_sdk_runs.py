"""The `ai` package's own reader shows recorded runs as they shall be shown."""

import json
from typing import Any

from tests.contract.node import Node
from tests.gateway.ai_sdk_runs import RECORDED, stream


async def test_every_recorded_run_is_read_as_the_message_it_is(node: Node) -> None:
    streams = json.dumps([stream(recorded).decode() for recorded in RECORDED])
    async with node.start("ai_read.mjs") as running:
        await running.tell(streams)
        await running.close()
        read: list[dict[str, Any]] = json.loads(await running.ends())
    for recorded, one in zip(RECORDED, read, strict=True):
        assert one["errors"] == list(recorded.errors), recorded.name
        assert one["message"]["parts"] == list(recorded.shown), recorded.name
        assert one["message"]["id"] == "run-1", recorded.name
