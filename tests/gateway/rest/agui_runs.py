"""AG-UI runs over HTTP in tests: posted, followed, and taken up again."""

from typing import Any

import httpx

from actors import clock
from tests.gateway import agui_streams
from tests.gateway.rest.talking import new_agent
from tests.serving import Served

INSERT = {"name": "memory_insert", "arguments": {"label": "human", "new_string": "Likes tea"}, "id": "call-1"}
WEATHER = {"name": "weather", "description": "The weather here.", "parameters": {"type": "object"}}
RULE = {"type": "requires_approval", "tool_name": "memory_insert"}


def said(text: str) -> dict[str, Any]:
    """Return a user's message as AG-UI clients keep it."""
    return {"id": f"user-{text[:40]}", "role": "user", "content": text}


class Runner:
    """An agent that is run as AG-UI clients do, with a history that grows by what is told."""

    def __init__(self, served: Served, agent_id: str, thread: str = "thread-1") -> None:
        self.served = served
        self.agent_id = agent_id
        self.thread = thread
        self.path = f"/v1/agui/agents/{agent_id}"
        self.history: list[dict[str, Any]] = []

    def body(self, text: str | None = None, **more: Any) -> dict[str, Any]:
        """Return the body of the next run."""
        if text is not None:
            self.history.append(said(text))
        return {
            "threadId": self.thread,
            "runId": clock.new_id("mine"),
            "messages": list(self.history),
            "tools": [],
            "context": [],
            "state": {},
            "forwardedProps": {},
            **more,
        }

    async def post(self, body: dict[str, Any], **more: Any) -> httpx.Response:
        """Run to the end."""
        return await self.served.http.post(self.path, json=body, timeout=30, **more)

    async def run(self, text: str | None = None, **more: Any) -> list[dict[str, Any]]:
        """Run to the end and return the events, which the validator has looked at."""
        response = await self.post(self.body(text, **more))
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        found = agui_streams.events(response.text)
        agui_streams.check(found)
        return found

    async def resume(self, run_id: str, after: str | None = None, *, status: int = 200) -> str:
        """Take up the stream of a run and return what it says."""
        headers = {} if after is None else {"last-event-id": after}
        path = f"{self.path}/runs/{run_id}/events"
        response = await self.served.http.get(path, headers=headers, timeout=30)
        assert response.status_code == status, response.text
        return response.text


async def runner(served: Served, thread: str = "thread-1", **fields: Any) -> Runner:
    """Create an agent with an empty block `human` and return a way to run it."""
    blocks = [{"label": "human", "value": ""}]
    return Runner(served, await new_agent(served, memory_blocks=blocks, **fields), thread)


def run_of(found: list[dict[str, Any]]) -> str:
    """Return the server's id of a run."""
    return found[0]["metadata"]["wakeful"]["run"]


def of(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind."""
    return [e for e, name in zip(found, agui_streams.kinds(found), strict=True) if name == kind]


def text(found: list[dict[str, Any]]) -> str:
    """Return what the agent said."""
    return "".join(e["delta"] for e in of(found, "TEXT_MESSAGE_CONTENT"))
