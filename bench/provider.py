"""A scripted model provider in its own process: OpenAI's wire format over loopback HTTP, timed and recorded.

    python -m bench.provider --port 0        prints `ready <port>` once it listens

It speaks chat completions, responses and embeddings. What it answers is chosen per request: by the script
(`POST /control/script`, a list of
`bench.replies.Reply`), else by the model's name (`fixed-t20-d500-g20`, `echo`), else a fixed text. It
records when each request arrived and when its first token was written (CLOCK_MONOTONIC, which processes
share). It is written to be cheap, so that it is not what is measured: one protocol object per
connection, no task, no stream, one timer per paced token.

    GET  /control/log?keep=1&requests=2&ended=1   the records; waits until there are that many; clears them
    POST /control/script                          queue answers
    POST /control/open      {"gate": "name"}      let answers waiting at the gate go on
    POST /control/models    [{"id": …, "context_length": …}]
    POST /control/reset                           forget script, records and gates; cut what is under way
"""

import argparse
import asyncio
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import uvloop

from bench.recording import Listed, Record, State
from bench.replies import Reply
from bench.serving import Connection

SUMMARY = "A scripted model provider: OpenAI's wire format over loopback HTTP, timed and recorded."
START_SECONDS = 20.0
CONTROL_SECONDS = 15.0


async def serve(host: str, port: int, *, bodies: bool, with_parent: bool) -> None:
    """Serve until SIGTERM, SIGINT, or, on demand, until standard input closes."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, ended.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), ended.set)
    state = State(bodies=bodies)
    server = await loop.create_server(lambda: Connection(loop, state), host, port, backlog=4096)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await ended.wait()
    server.close()


def main() -> None:
    """Run the provider from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.provider", description=SUMMARY)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-bodies", action="store_true", help="do not keep the bodies of requests")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    args = parser.parse_args()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    uvloop.run(serve(args.host, args.port, bodies=not args.no_bodies, with_parent=args.with_parent))


class Provider:
    """A provider in a subprocess, for tests and the bench. Ends with its block, and with this process.

    It belongs to no event loop: one may serve tests that each have their own.
    """

    def __init__(self, *, bodies: bool = True, port: int = 0) -> None:
        self._bodies = bodies
        self._wanted = port
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def root(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What `OPENAI_BASE_URL` shall be."""
        return f"{self.root}/v1"

    @property
    def pid(self) -> int:
        """The process, for its accounting."""
        assert self._process is not None, "the provider is not started"
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it listens."""
        command = [sys.executable, "-m", "bench.provider", "--port", str(self._wanted), "--with-parent"]
        self._process = subprocess.Popen(
            command if self._bodies else [*command, "--no-bodies"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert self._process.stdout is not None
        word, _, port = self._process.stdout.readline().partition(" ")
        if word != "ready":
            self.stop()
            raise RuntimeError("the provider did not start; its standard error says why")
        self.port = int(port)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=START_SECONDS)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    async def script(self, replies: list[dict[str, Any] | Reply]) -> None:
        """Queue answers. Raises `ValueError` where one is not a `Reply`."""
        await self._control("POST", "script", replies)

    async def open(self, gate: str) -> None:
        """Let answers that wait at the gate go on."""
        await self._control("POST", "open", {"gate": gate})

    async def list_models(self, models: dict[str, int | None]) -> None:
        """Add models to `GET /v1/models`: name and context length."""
        listed = [Listed(name, length) for name, length in models.items()]
        await self._control("POST", "models", listed)

    async def reset(self) -> None:
        """Forget script, records and gates, and cut the answers under way."""
        await self._control("POST", "reset", None)

    async def log(self, *, requests: int = 0, ended: int = 0, keep: bool = False) -> list[Record]:
        """Return the records and clear them, or keep them.

        Waits until so many requests came and so many of them ended; raises `TimeoutError` after
        `CONTROL_SECONDS`. A record that was cleared before its end is not seen again.
        """
        query = f"log?requests={requests}&ended={ended}&keep={int(keep)}"
        return msgspec.json.decode(await self._control("GET", query, None), type=list[Record])

    async def _control(self, method: str, what: str, value: object) -> bytes:
        limit = aiohttp.ClientTimeout(total=CONTROL_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.request(method, f"{self.root}/control/{what}", data=msgspec.json.encode(value)) as answer,
        ):
            body = await answer.read()
            if answer.status >= 300:
                raise ValueError(body.decode())
            return body


if __name__ == "__main__":
    main()
