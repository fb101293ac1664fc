"""A chat with an agent, from a terminal or through a pipe, that outlives the server's restarts."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator

import anyio
from anyio.abc import TaskGroup

from gateway.chat.answer import AWAY, Absence, Answer
from gateway.chat.client import Agent, AwayError, ChatError, Client, RefusedError
from gateway.chat.view import View, open_view
from gateway.client import connect

PROMPT = "> "
DEMO, DEMO_NOTE = "demo/scripted", ", a script and no language model"
BLOCKS = {
    "persona": "I am a companion for long conversations: friendly, brief. I note what is worth keeping.",
    "human": "",
}


def chat(wanted: str | None, *, url: str, api_key: str | None) -> int:
    """Talk until the input ends; return the process's exit code, 1 if a message had no answer.

    Raises:
        ChatError: The conversation cannot begin; the message names the remedy.
    """
    view = open_view()
    answered = True
    with asyncio.Runner() as runner:
        agent = runner.run(_meet(wanted, view, url=url, api_key=api_key))
        for text in _inputs():
            answered &= bool(runner.run(_exchange(agent, text, view, url=url, api_key=api_key)))
    return 0 if answered else 1


async def _meet(wanted: str | None, view: View, *, url: str, api_key: str | None) -> Agent:
    """Find the agent that is wanted, or create one."""
    async with Client(url, api_key) as client:
        try:
            agent = await (client.create_agent(BLOCKS) if wanted is None else client.find_agent(wanted))
        except AwayError as error:
            raise ChatError(f"{error}; start a server with: wakeful serve") from error
        except RefusedError as error:
            raise ChatError(f"the server refuses: {error}") from error
    if wanted is None:
        view.notice(f"This is {agent.name}, a new agent. Come back with: wakeful chat {agent.name}")
    model = f"{agent.model}{DEMO_NOTE if agent.model == DEMO else ''}"
    view.notice(f"{agent.name} answers with {model}. Ctrl-C stops an answer, Ctrl-D leaves.")
    return agent


def _inputs() -> Iterator[str]:
    """Yield what the person says, line by line."""
    if not sys.stdin.isatty():
        yield from (text for line in sys.stdin if (text := line.strip()))
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 # pyright: ignore[reportUnusedImport] - gives `input` a history and keys
    while True:
        try:
            text = input(PROMPT).strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\nCtrl-D leaves.")
            continue
        if text:
            yield text


async def _exchange(agent: Agent, text: str, view: View, *, url: str, api_key: str | None) -> bool | None:
    """Send a message and show its answer; return whether there is one, None where nobody waited for it."""
    answered: bool | None = None
    absence = Absence(view)
    async with (
        Client(url, api_key) as stored,
        connect(url, api_key, name="wakeful chat", patience=AWAY, on_away=absence.began) as client,
        anyio.create_task_group() as tasks,
    ):
        spoken = text.encode(errors="replace").decode()
        answer = Answer(client, stored, agent, spoken, view=view, absence=absence)
        tasks.start_soon(_cancel_on_interrupt, answer, tasks)
        answered = await answer.show()
        tasks.cancel_scope.cancel()
    if answered is None:
        view.notice("Not waiting any longer; what the agent says is kept.")
    return answered


async def _cancel_on_interrupt(answer: Answer, tasks: TaskGroup) -> None:
    """Ctrl-C ends the answer; where the server cannot be told, or when pressed again, the wait for it."""
    with anyio.open_signal_receiver(signal.SIGINT) as interrupts:
        async for _ in interrupts:
            if not await answer.cancel():
                tasks.cancel_scope.cancel()
