"""Servers of others, written from their protocols alone: AG-UI by its official package, OpenAI, and Letta.

    python -m tests.bench.foreign_servers agui --port 9001 --provider http://127.0.0.1:9000/v1

Each asks the scripted provider, as the bench's own targets do. They share nothing with this project.
"""

import argparse
import json
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import Message
from typing import Any
from uuid import uuid4

import aiohttp
import uvicorn
from ag_ui.core import (
    RunAgentInput,
    RunErrorEvent,
    RunFinishedEvent,
    RunStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
)
from ag_ui.encoder import EventEncoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "fixed-t20-d0-g0"  # of the AG-UI server, whose protocol names none


class Provider:
    """The model behind each server: a streamed completion, piece by piece."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/chat/completions"
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, model: str, messages: list[dict[str, Any]]) -> AsyncIterator[str]:
        """Yield the texts of the answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        asked = {"model": model, "stream": True, "messages": messages}
        async with self._session.post(self._url, json=asked) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        if text := choice["delta"].get("content"):
                            yield text

    async def whole(self, model: str, messages: list[dict[str, Any]]) -> str:
        """Return the whole answer."""
        return "".join([text async for text in self.ask(model, messages)])


def agui(provider: Provider) -> Starlette:
    """An AG-UI server with one agent at its root."""

    async def run(request: Request) -> Response:
        asked = RunAgentInput.model_validate_json(await request.body())
        encoder = EventEncoder(accept=request.headers.get("accept", ""))
        return StreamingResponse(events(asked, encoder), media_type=encoder.get_content_type())

    async def events(asked: RunAgentInput, encoder: EventEncoder) -> AsyncIterator[str]:
        thread, run_id, message = asked.thread_id, asked.run_id, str(uuid4())
        yield encoder.encode(RunStartedEvent(thread_id=thread, run_id=run_id))
        yield encoder.encode(TextMessageStartEvent(message_id=message, role="assistant"))
        said = [{"role": one.role, "content": one.content} for one in asked.messages]
        try:
            async for text in provider.ask(MODEL, said):
                yield encoder.encode(TextMessageContentEvent(message_id=message, delta=text))
        except aiohttp.ClientError as error:
            yield encoder.encode(RunErrorEvent(message=str(error)))
            return
        yield encoder.encode(TextMessageEndEvent(message_id=message))
        yield encoder.encode(RunFinishedEvent(thread_id=thread, run_id=run_id))

    return Starlette(routes=[Route("/", run, methods=["POST"])])


def openai(provider: Provider) -> Starlette:
    """A server of the OpenAI API that hands completions on."""

    async def completions(request: Request) -> Response:
        asked = await request.json()
        model, said = asked["model"], asked["messages"]
        if asked.get("stream"):
            return StreamingResponse(chunks(model, said), media_type="text/event-stream")
        text = await provider.whole(model, said)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "c-1", "object": "chat.completion", "model": model, "choices": [choice]})

    async def chunks(model: str, said: list[dict[str, Any]]) -> AsyncIterator[str]:
        async for text in provider.ask(model, said):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            chunk = {"id": "c-1", "object": "chat.completion.chunk", "model": model, "choices": [choice]}
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"

    return Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])


class Letta:
    """A server of the Letta API that keeps agents in memory, and takes agent files where `files`."""

    def __init__(self, provider: Provider, *, files: bool, window: int | None) -> None:
        self._provider = provider
        self._files = files
        self._window = window
        self._agents: dict[str, dict[str, Any]] = {}

    def app(self) -> Starlette:
        """Return its routes."""
        routes = [
            Route("/v1/agents/", self.create, methods=["POST"]),
            Route("/v1/agents/", self.list, methods=["GET"]),
            Route("/v1/agents/{agent}", self.delete, methods=["DELETE"]),
            Route("/v1/agents/{agent}/messages", self.say, methods=["POST"]),
        ]
        if self._files:
            routes.insert(0, Route("/v1/agents/import", self.read, methods=["POST"]))
            routes.append(Route("/v1/agents/{agent}/export", self.write, methods=["GET"]))
        return Starlette(routes=routes)

    async def create(self, request: Request) -> Response:
        """Make an agent."""
        asked = await request.json()
        return JSONResponse(self._keep(asked["model"], []))

    async def list(self, request: Request) -> Response:
        """List the agents."""
        return JSONResponse([{"id": agent} for agent in self._agents])

    async def delete(self, request: Request) -> Response:
        """Forget an agent."""
        del self._agents[request.path_params["agent"]]
        return JSONResponse({})

    async def write(self, request: Request) -> Response:
        """Write an agent to its file."""
        agent = self._agents[request.path_params["agent"]]
        messages = [
            {"type": "message", "id": f"message-{place}", "role": one["role"], "content": content(one)}
            for place, one in enumerate(agent["said"])
        ]
        window = [message["id"] for message in messages]
        shown = {"id": "agent-0", "model": agent["model"], "messages": messages}
        return JSONResponse({"agents": [{**shown, "in_context_message_ids": window}], "blocks": []})

    async def read(self, request: Request) -> Response:
        """Make an agent of its file."""
        (agent,) = json.loads(sent_file(request.headers["content-type"], await request.body()))["agents"]
        seen = set(agent["in_context_message_ids"])
        said = [
            {"role": one["role"], "content": "".join(part["text"] for part in one["content"])}
            for one in agent["messages"]
            if one["id"] in seen
        ]
        return JSONResponse({"agent_ids": [self._keep(agent["model"], said)["id"]]})

    async def say(self, request: Request) -> Response:
        """Answer a message, whole or as a stream."""
        agent, asked = self._agents[request.path_params["agent"]], await request.json()
        agent["said"] += [{"role": one["role"], "content": one["content"]} for one in asked["messages"]]
        if asked.get("streaming"):
            return StreamingResponse(self._stream(agent), media_type="text/event-stream")
        text = "".join([text async for text in self._ask(agent)])
        return JSONResponse({"messages": [{"message_type": "assistant_message", "content": text}]})

    async def _stream(self, agent: dict[str, Any]) -> AsyncIterator[str]:
        async for text in self._ask(agent):
            yield f"data: {json.dumps({'message_type': 'assistant_message', 'content': text})}\n\n"
        yield f"data: {json.dumps({'message_type': 'stop_reason', 'stop_reason': 'end_turn'})}\n\n"
        yield "data: [DONE]\n\n"

    async def _ask(self, agent: dict[str, Any]) -> AsyncIterator[str]:
        window = agent["said"] if self._window is None else agent["said"][-self._window :]
        answer: list[str] = []
        async for text in self._provider.ask(agent["model"].partition("/")[2], window):
            answer.append(text)
            yield text
        agent["said"].append({"role": "assistant", "content": "".join(answer)})

    def _keep(self, model: str, said: "list[dict[str, Any]]") -> dict[str, str]:
        agent_id = f"agent-{uuid4()}"
        self._agents[agent_id] = {"model": model, "said": said}
        return {"id": agent_id}


def sent_file(content_type: str, body: bytes) -> bytes:
    """The one file of a form."""
    form = message_from_bytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
    (part,) = form.get_payload()
    assert isinstance(part, Message)
    assert part.get_param("name", header="content-disposition") == "file"
    sent = part.get_payload(decode=True)
    assert isinstance(sent, bytes)
    return sent


def content(message: dict[str, Any]) -> list[dict[str, str]]:
    """A message's text as the parts that a file has."""
    return [{"type": "text", "text": message["content"]}]


def main() -> None:
    """Serve one kind until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("agui", "openai", "letta"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--provider", required=True)
    parser.add_argument("--without-files", action="store_true", help="the Letta server takes no agent files")
    parser.add_argument("--window", type=int, help="messages that its model is sent at most")
    args = parser.parse_args()
    provider = Provider(args.provider)
    apps = {
        "agui": lambda: agui(provider),
        "openai": lambda: openai(provider),
        "letta": lambda: Letta(provider, files=not args.without_files, window=args.window).app(),
    }
    uvicorn.run(apps[args.kind](), port=args.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
