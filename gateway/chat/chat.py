"""A chat with an agent, from a terminal or through a pipe, that outlives the server's restarts."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Self

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from gateway.chat import approvals
from gateway.chat.answer import AWAY, Absence, Answer
from gateway.chat.client import Agent, AwayError, Call, ChatError, Client, RefusedError
from gateway.chat.view import View, open_view
from gateway.client import Answered, connect

PROMPT = "> "
DEMO, DEMO_NOTE = "demo/scripted", ", a script and no language model"
BLOCKS = {
    "persona": "I am a companion for long conversations: friendly, brief. I note what is worth keeping.",
    "human": "",
}


class Chat:
    """One agent and the person who talks to it."""

    def __init__(self, view: View, *, url: str, api_key: str | None) -> None:
        self._view = view
        self._url = url
        self._api_key = api_key
        self._runner = asyncio.Runner()
        self._agent: Agent

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def meet(self, wanted: str | None) -> bool:
        """Find the agent or create one; return whether all that it waits for has an answer.

        Raises:
            ChatError: There is none; the message names the remedy.
        """
        meeting = _meet(wanted, url=self._url, api_key=self._api_key)
        self._agent, waiting = self._runner.run(meeting)
        # Only now: an interrupt that comes while the runner ends is lost, and this tells of Ctrl-C.
        self._introduce(new=wanted is None)
        return self._settle(Exchanged(answered=True, waiting=waiting))

    def _introduce(self, *, new: bool) -> None:
        agent = self._agent
        if new:
            self._view.notice(f"This is {agent.name}, a new agent. Come back with: wakeful chat {agent.name}")
        model = f"{agent.model}{DEMO_NOTE if agent.model == DEMO else ''}"
        self._view.notice(f"{agent.name} answers with {model}. Ctrl-C stops an answer, Ctrl-D leaves.")

    def say(self, text: str) -> bool:
        """Send a message and show its answer; return whether there is one, and nothing is left to decide.

        While the agent waits for a person it takes no message: it is sent again after each decision.
        """
        while True:
            done = self._exchange(text)
            if done.accepted or not done.waiting:
                return self._settle(done)
            self._view.notice(f"{self._agent.name} waits for an answer; then it hears your message.")
            last = self._decide_on(done)
            if last is None or not last.accepted:
                self._view.notice("Your message was not sent.")
                return False

    def _settle(self, done: "Exchanged") -> bool:
        """Let the person answer what the agent asks; return whether it is answered and has answered."""
        last = self._decide_on(done)
        return last is not None and bool(last.answered)

    def _decide_on(self, done: "Exchanged") -> "Exchanged | None":
        """Let the person answer what the agent asks, until it asks no more; None where they do not."""
        while done.waiting:
            answers = self._decided(done.waiting)
            if answers is None:
                return None
            done = self._exchange(answers)
        return done

    def _decided(self, waiting: Sequence[Call]) -> Sequence[Answered] | None:
        later = f"{self._agent.name} waits. Answer it with: wakeful chat {self._agent.name}"
        if not sys.stdin.isatty():
            calls = ", ".join(approvals.described(call) for call in waiting)
            self._view.notice(f"A person must decide on {calls}. {later}, on a terminal.")
            return None
        try:
            return approvals.decide(waiting, input)
        except (EOFError, KeyboardInterrupt):
            print()
            self._view.notice(f"{later}.")
            return None

    def _exchange(self, said: str | Sequence[Answered]) -> "Exchanged":
        work = _exchange(self._agent, said, self._view, url=self._url, api_key=self._api_key)
        return self._runner.run(work)


class Exchanged(Struct, frozen=True):
    """What came of something that was said. `answered` is None where nobody waited for the answer."""

    answered: bool | None
    accepted: bool = True
    waiting: tuple[Call, ...] = ()


def chat(wanted: str | None, *, url: str, api_key: str | None) -> int:
    """Talk until the input ends; return the process's exit code, 1 if a message had no answer.

    Raises:
        ChatError: The conversation cannot begin; the message names the remedy.
    """
    with Chat(open_view(), url=url, api_key=api_key) as talk:
        answered = talk.meet(wanted)
        for text in _inputs():
            answered = talk.say(text) and answered
    return 0 if answered else 1


async def _meet(wanted: str | None, *, url: str, api_key: str | None) -> tuple[Agent, tuple[Call, ...]]:
    """Find the agent that is wanted, or create one; return it with what it waits for."""
    async with Client(url, api_key) as client:
        try:
            agent = await (client.create_agent(BLOCKS) if wanted is None else client.find_agent(wanted))
            waiting = () if wanted is None else await client.waiting(agent.id)
        except AwayError as error:
            raise ChatError(f"{error}; start a server with: wakeful serve") from error
        except RefusedError as error:
            raise ChatError(f"the server refuses: {error}") from error
    return agent, waiting


def _inputs() -> Iterator[str]:
    """Yield what the person says, line by line; lines that are pasted together are one message."""
    if not sys.stdin.isatty():
        yield from (text for line in sys.stdin if (text := line.strip()))
        return
    with contextlib.suppress(ImportError):
        import readline  # gives `input` a history and keys

        readline.parse_and_bind("set enable-bracketed-paste on")
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


async def _exchange(
    agent: Agent, said: str | Sequence[Answered], view: View, *, url: str, api_key: str | None
) -> Exchanged:
    """Say something and show its answer."""
    done = Exchanged(None)
    absence = Absence(view)
    async with (
        Client(url, api_key) as stored,
        connect(url, api_key, name="wakeful chat", patience=AWAY, on_away=absence.began) as client,
        anyio.create_task_group() as tasks,
    ):
        said = said.encode(errors="replace").decode() if isinstance(said, str) else said
        answer = Answer(client, stored, agent, said, view=view, absence=absence)
        tasks.start_soon(_cancel_on_interrupt, answer, tasks)
        answered = await answer.show()
        done = Exchanged(answered, answer.accepted, answer.waiting)
        tasks.cancel_scope.cancel()
    if done.answered is None:
        view.notice("Not waiting any longer; what the agent says is kept.")
    return done


async def _cancel_on_interrupt(answer: Answer, tasks: TaskGroup) -> None:
    """Ctrl-C ends the answer; where the server cannot be told, or when pressed again, the wait for it."""
    with anyio.open_signal_receiver(signal.SIGINT) as interrupts:
        async for _ in interrupts:
            if not await answer.cancel():
                tasks.cancel_scope.cancel()
