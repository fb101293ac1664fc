import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import anyio
import pytest

from bench.provider import Provider
from bench.targets import environment
from tests.gateway.processes import COMMAND, ROOT, Process, on_database, run

pytestmark = pytest.mark.timeout(90)

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

        `pressing` is pressed until then: an interrupt between prompt and read waits for the next key.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while (match := re.compile(pattern).search(self.text, self._seen)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not on the screen:\n{self.text}"
            self.press(pressing)
            if select.select([self._master], [], [], min(left, 2.0) if pressing else left)[0]:
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
        screen.shows(r"\n> ", pressing="\n")  # two presses may be on their way: this line takes the second
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


def test_a_pipe_is_left_with_an_interrupt(dsn: str) -> None:
    with on_database(dsn) as process:
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
