import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import anyio
import pytest

from bench.provider import Provider
from bench.targets import environment
from tests.gateway.processes import COMMAND, ROOT, Process, on_database, run

pytestmark = pytest.mark.timeout(90)

PRESS_SECONDS = 2.0
WAIT_SECONDS = 20.0

# The program takes its standard input for its terminal, so that Ctrl-C becomes a signal.
ON_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from gateway.cli import main
main()
"""


class Screen:
    """A chat on a terminal of its own, and what stands on it."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, "chat", *arguments],
            cwd=ROOT,
            env=environment() | {"TERM": "xterm", "NO_COLOR": "1"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""
        self._seen = 0

    def shows(self, pattern: str, *, pressing: str = "") -> None:
        """Wait until what is new on the screen matches; the next time only what follows the match is new.

        `pressing` is pressed now and then until then: an interrupt between prompt and read waits for the next
        key. Not at every sign on the screen, for each press puts some there.
        """
        deadline, again = time.monotonic() + WAIT_SECONDS, 0.0
        while (match := re.compile(pattern).search(self.text, self._seen)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not on the screen:\n{self.text}"
            if pressing and time.monotonic() >= again:
                self.press(pressing)
                again = time.monotonic() + PRESS_SECONDS
            if select.select([self._master], [], [], min(left, PRESS_SECONDS) if pressing else left)[0]:
                assert self._read(), f"the chat ended:\n{self.text}"
        self._seen = match.end()

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Wait for the end of the chat and return its exit code."""
        while self._read():
            pass
        return self._process.wait(WAIT_SECONDS)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other side of a terminal is closed
            return False
        self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode(errors="replace")).replace(
            "\r\n", "\n"
        )
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


def test_a_piped_conversation_is_remembered_by_the_agent(dsn: str) -> None:
    with on_database(dsn) as process:
        first = run("chat", "--url", process.url, typed="My name is Zoe.\n\nI like rye bread.\n")
        assert first.returncode == 0, first.stderr
        assert "(calls) memory_insert(" in first.stdout
        name = re.search(r"Come back with: wakeful chat (\S+)", first.stderr)
        assert name is not None
        second = run("chat", name[1], "--url", process.url, typed="What is my name?\n")
        assert second.returncode == 0, second.stderr
        assert "Zoe" in second.stdout.splitlines()[-1]
        nobody = run("chat", "nobody", "--url", process.url)
        assert (nobody.returncode, nobody.stdout) == (1, "")
        assert nobody.stderr == (
            "wakeful: there is no agent 'nobody'; `wakeful agents list` lists them, `wakeful chat` creates "
            "one\n"
        )


@pytest.mark.parametrize("before", [0, 1])  # messages that the agent had answered, so that it was awake
def test_an_answer_survives_the_servers_death_and_is_told_once(
    dsn: str, provider_process: Provider, before: int
) -> None:
    anyio.run(provider_process.reset)
    half = {"reasoning": "Let me see.", "text": "Half an answer that nobody will hear to its end."}
    cut = half | {"gate": "never", "gate_after": 7}
    later = [{"text": "The whole answer."}, {"text": "Yes, still here."}]
    anyio.run(provider_process.script, [{"text": "Welcome."}] * before + [cut, *later])
    flags = ("--database-url", dsn, "--host-name", "test", "--model", "openai/echo")
    with Process(*flags, provider=provider_process) as process:
        with Screen("--url", process.url) as screen:
            for _ in range(before):
                screen.shows(r"\n> ")
                screen.press("hi\n")
                screen.shows("Welcome.")
            screen.shows(r"\n> ")
            screen.press("hello\n")
            screen.shows("Half an answer")
            process.kill()
            screen.shows("The server is away; the answer goes on when it is back")
            assert "The whole answer." not in screen.text
            with Process(*flags, provider=provider_process, port=process.port):
                screen.shows(r"The whole answer\.\n> ")
                screen.press("still there?\n")
                screen.shows(r"Yes, still here\.\n> ")
                screen.press("\x04")
                assert screen.end() == 0
        assert screen.text.count("The server is away") == 1
        assert screen.text.count("The whole answer.") == 1


def test_ctrl_c_stops_the_answer_and_not_the_chat(dsn: str, provider_process: Provider) -> None:
    anyio.run(provider_process.reset)
    endless = {"text": "On and on it goes and on.", "gate": "never", "gate_after": 3}
    anyio.run(provider_process.script, [endless, {"text": "Here again."}])
    with (
        on_database(dsn, provider_process, "--model", "openai/echo") as process,
        Screen("--url", process.url) as screen,
    ):
        screen.shows(r"\n> ")
        screen.press("tell me everything\n")
        screen.shows("On and on")
        screen.press("\x03")
        screen.shows(r"Stopped\.\n> ")
        screen.shows(r"Ctrl-D leaves\.\n> ", pressing="\x03")
        screen.shows(r"\n\r?> ", pressing="\n")  # two presses may be on their way: this line takes the second
        screen.press("and now?\n")
        screen.shows(r"Here again\.\n> ")
        screen.press("\x04")
        assert screen.end() == 0
        runs = process.request("GET", "/v1/runs/").json()
        assert [made["status"] for made in runs] == ["completed", "cancelled"]


def test_ctrl_c_stops_waiting_for_a_server_that_is_away(dsn: str, provider_process: Provider) -> None:
    anyio.run(provider_process.reset)
    anyio.run(provider_process.script, [{"text": "Half of it.", "gate": "never", "gate_after": 1}])
    with (
        on_database(dsn, provider_process, "--model", "openai/echo") as process,
        Screen("--url", process.url) as screen,
    ):
        screen.shows(r"\n> ")
        screen.press("hello\n")
        screen.shows("Half")
        process.kill()
        screen.shows("The server is away")
        screen.press("\x03")
        screen.shows(r"Not waiting any longer; what the agent says is kept\.\n> ")
        screen.press("\x04")
        assert screen.end() == 1


def test_a_pipe_tells_whole_answers_and_a_failure_by_its_exit_code(
    dsn: str, provider_process: Provider
) -> None:
    anyio.run(provider_process.reset)
    refusal = {"status": 401, "body": {"error": {"message": "no such key"}}}
    anyio.run(provider_process.script, [{"reasoning": "Hm.", "text": "Two\nlines."}, refusal])
    with on_database(dsn, provider_process, "--model", "openai/echo") as process:
        told = run("chat", "--url", process.url, typed="hello\nand?\n")
        assert told.stdout == "(thinks) Hm.\nTwo\nlines.\n"
        assert "No answer: " in told.stderr
        assert told.returncode == 1


CALL = {
    "tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "Has a dog."}}]
}


def recorded(provider: Provider) -> list[str]:
    """Return the bodies of the requests that the model saw, as JSON."""
    return [json.dumps(record.body) for record in anyio.run(provider.log) if record.body]


def asking(process: Process) -> str:
    """Create an agent that asks before it writes; return its name."""
    blocks = [{"label": "human", "value": ""}]
    agent = process.request("POST", "/v1/agents/", json={"name": "sam", "memory_blocks": blocks}).json()["id"]
    gate = f"/v1/agents/{agent}/tools/approval/memory_insert"
    assert process.request("PATCH", gate, json={"requires_approval": True}).status_code == 200
    return "sam"


def test_what_the_agent_asks_is_answered_on_the_terminal(dsn: str, provider_process: Provider) -> None:
    anyio.run(provider_process.reset)
    anyio.run(provider_process.script, [CALL, {"text": "Noted."}, CALL, {"text": "As you wish."}])
    with (
        on_database(dsn, provider_process, "--model", "openai/echo") as process,
        Screen(asking(process), "--url", process.url) as screen,
    ):
        screen.shows(r"\n> ")
        screen.press("I have a dog.\n")
        screen.shows(r'Allow memory_insert\(label="human", new_string="Has a dog\."\)\? y, n, or why not: ')
        screen.press("y\n")
        screen.shows(r"Noted\.\n> ")
        screen.press("Again?\n")
        screen.shows(r"or why not: ")
        screen.press("You know that.\n")
        screen.shows(r"As you wish\.\n> ")
        screen.press("\x04")
        assert screen.end() == 0
        assert "You know that." in recorded(provider_process)[-1]


def test_what_waits_is_asked_when_the_chat_begins_and_a_message_waits_for_it(
    dsn: str, provider_process: Provider
) -> None:
    anyio.run(provider_process.reset)
    anyio.run(provider_process.script, [CALL, {"text": "I let it be."}, {"text": "Good day."}])
    with on_database(dsn, provider_process, "--model", "openai/echo") as process:
        name = asking(process)
        piped = run("chat", name, "--url", process.url, typed="I have a dog.\n")
        assert piped.returncode == 1
        assert "A person must decide on memory_insert(" in piped.stderr
        assert "wakeful chat sam, on a terminal." in piped.stderr
        with Screen(name, "--url", process.url) as screen:
            screen.shows(r"or why not: ")
            screen.press("\x04")
            screen.shows(r"sam waits\. Answer it with: wakeful chat sam\.\n> ")
            screen.press("Hello.\n")
            screen.shows(r"sam waits for an answer; then it hears your message\.\n")
            screen.shows(r"or why not: ")
            screen.press("n\n")
            screen.shows(r"I let it be\.\n")
            screen.shows(r"Good day\.\n> ")
            screen.press("\x04")
            assert screen.end() == 1  # the first question had no answer


def test_lines_that_are_pasted_together_are_one_message(dsn: str, provider_process: Provider) -> None:
    anyio.run(provider_process.reset)
    anyio.run(provider_process.script, [{"text": "A poem."}])
    with (
        on_database(dsn, provider_process, "--model", "openai/echo") as process,
        Screen("--url", process.url) as screen,
    ):
        screen.shows(r"\n> ")
        screen.press("\x1b[200~Roses are red\nViolets are blue\x1b[201~")
        screen.shows("blue")
        screen.press("\n")
        screen.shows(r"A poem\.\n> ")
        screen.press("\x04")
        assert screen.end() == 0
        (request,) = recorded(provider_process)
        assert r"Roses are red\nViolets are blue" in request


@pytest.mark.parametrize("url", ["{host}", "http://{host}/"])
def test_an_address_may_be_a_host_and_a_port(dsn: str, url: str) -> None:
    with on_database(dsn) as process:
        told = run("chat", "--url", url.format(host=process.url.removeprefix("http://")), typed="Hello.\n")
    assert told.returncode == 0, told.stderr


@contextlib.contextmanager
def hearing_interrupts() -> Iterator[None]:
    """Undo what a shell does to commands in the background: they and their children ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_pipe_is_left_with_an_interrupt(dsn: str) -> None:
    with on_database(dsn) as process, hearing_interrupts():
        chat = subprocess.Popen(
            [*COMMAND, "chat", "--url", process.url],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert chat.stderr is not None
        while "Ctrl-C stops an answer" not in chat.stderr.readline():
            pass
        chat.send_signal(signal.SIGINT)
        chat.communicate(timeout=WAIT_SECONDS)
        assert chat.returncode != 0
