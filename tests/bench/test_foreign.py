"""Servers of others, put under load by the real command: each in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import foreign, sitting, targets
from bench.case import Bench, Effort
from bench.doors import HISTORY_TEXT
from bench.foreign import Foreign, HistoryError, RefusedError, address, longer
from bench.levels import Level
from bench.loaded import awaken
from bench.provider import Provider
from bench.report import Report
from bench.targets import FAST, free_port
from tests.bench.test_main import ROOT


@contextmanager
def serving(kind: str, tmp_path: Path, provider_url: str, *options: str) -> Iterator[str]:
    """A foreign server in its process; yields its URL as the command line has it."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.foreign_servers", kind, "--port", str(port)]
    command += ["--provider", provider_url, *options]
    process = targets.Process(command, targets.environment(), tmp_path / f"{kind}-{port}.log")
    try:
        process.wait_ready(port, "/v1/agents/")
        yield f"http://127.0.0.1:{port}{'/v1' if kind == 'openai' else ''}"
    finally:
        process.stop()


@pytest.mark.timeout(420)
def test_servers_of_three_protocols_are_put_under_load_with_a_history(tmp_path: Path) -> None:
    """By the command, as a user does; the AG-UI server's endpoint is the root of its host."""
    port = free_port()
    with ExitStack() as stack:
        url = f"http://127.0.0.1:{port}/v1"
        urls = {
            kind: stack.enter_context(serving(kind, tmp_path, url)) for kind in ("agui", "openai", "letta")
        }
        command = [sys.executable, "-m", "bench", "--targets", "--quick", "--provider-port", str(port)]
        command += ["--only", "load_history", "--only", "load_first_token", "--out", str(tmp_path)]
        for kind, at in urls.items():
            command += ["--target", f"{kind}={at}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr + done.stdout
    (path,) = tmp_path.glob("*.json")
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    assert report.notes == []
    for kind, at in urls.items():
        mine = [level for level in report.levels if level.target == f"{kind} {at}"]
        histories = [level for level in mine if level.case == "load_history"]
        assert [(level.level, level.failed) for level in histories] == [(0, 0), (100, 0), (1000, 0)]
        assert all(level.whole_added for level in histories), "the provider knew each message"
        assert _streamed(mine)[0].level == 1
        assert f"{kind} {at}" in done.stdout


def _streamed(levels: list[Level]) -> list[Level]:
    streams = [level for level in levels if level.case == "load_first_token"]
    assert streams[0].failed == 0
    assert streams[0].first_added is not None
    assert streams[0].gap_added is not None
    return streams


@pytest.mark.timeout(90)
def test_a_server_that_answers_nothing_makes_the_command_fail(tmp_path: Path) -> None:
    port = free_port()
    with serving("openai", tmp_path, f"http://127.0.0.1:{port}/v1") as url:
        command = [sys.executable, "-m", "bench", "--targets", "--quick", "--only", "load_history"]
        command += ["--target", f"agui={url}/nowhere", "--out", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=80)
    assert done.returncode == 1
    assert f"load_history on agui {url}/nowhere: no message was answered: status 404" in done.stdout


def test_agents_that_cannot_be_deleted_are_told_and_cost_no_figures(tmp_path: Path) -> None:
    with serving("letta", tmp_path, "http://127.0.0.1:1/v1") as url:
        server = Foreign(address(f"letta={url}"))
        server.make(2, FAST)
    errors: list[str] = []
    sitting.leave(server, errors)
    assert len(errors) == 1
    assert f"agents may be left on letta {url}: DELETE /v1/agents/" in errors[0]


@pytest.mark.timeout(60)
def test_a_server_without_agent_files_is_told_each_message(
    tmp_path: Path, provider_process: Provider
) -> None:
    awaken(Bench(provider_process, tmp_path, Effort()))
    said: list[str] = []
    with serving("letta", tmp_path, provider_process.base_url, "--without-files") as url:
        server = Foreign(address(f"letta={url}"))
        made = server.with_history(2, 20, model=FAST, provider=provider_process, tell=said.append)
        server.stop()
    assert len(made) == 2
    assert said[-1].endswith("40 of 40 messages said")


@pytest.mark.timeout(60)
def test_a_history_that_would_take_too_long_is_given_up_early(
    tmp_path: Path, provider_process: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "LOOK_S", 0.2)
    awaken(Bench(provider_process, tmp_path, Effort()))
    with serving("letta", tmp_path, provider_process.base_url, "--without-files") as url:
        server = Foreign(address(f"letta={url}"))
        with pytest.raises(HistoryError, match=r"2,000,000 messages would take .* at most 60 s"):
            server.with_history(2, 1_000_000, model=FAST, provider=provider_process, tell=lambda _: None)
        server.stop()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("options", [[], ["--without-files"]])
def test_a_server_whose_model_is_sent_less_has_no_such_history(
    tmp_path: Path, provider_process: Provider, options: list[str]
) -> None:
    awaken(Bench(provider_process, tmp_path, Effort()))
    with serving("letta", tmp_path, provider_process.base_url, "--window", "8", *options) as url:
        server = Foreign(address(f"letta={url}"))
        with pytest.raises(HistoryError, match="its model is sent 8 messages of 20"):
            server.with_history(1, 20, model=FAST, provider=provider_process, tell=lambda _: None)
        server.stop()


def test_a_server_that_is_not_there_is_an_error_that_says_so(provider_process: Provider) -> None:
    server = Foreign(address(f"letta=http://127.0.0.1:{free_port()}"))
    with pytest.raises(HistoryError, match="had no answer"):
        server.with_history(1, 20, model=FAST, provider=provider_process, tell=lambda _: None)


def written(*roles: str) -> dict[str, Any]:
    """An agent file whose window has these messages."""
    messages: list[dict[str, Any]] = [
        {"id": f"message-{place}", "role": role, "content": [], "tool_calls": [{"id": "x"}], "model": "m"}
        for place, role in enumerate(roles)
    ]
    window = [message["id"] for message in messages]
    return {"agents": [{"name": "n", "messages": messages, "in_context_message_ids": window}], "blocks": [1]}


def test_a_file_gets_longer_by_copies_of_its_own_messages_without_their_calls() -> None:
    before = written("system", "user", "assistant")
    after = longer(before, 3)
    (agent,) = after["agents"]
    assert agent["messages"][:3] == before["agents"][0]["messages"]
    added = agent["messages"][3:]
    assert [message["role"] for message in added] == ["user", "assistant", "user"]
    assert {message["content"][0]["text"] for message in added} == {HISTORY_TEXT}
    assert all(message["tool_calls"] is None and message["model"] == "m" for message in added)
    assert agent["in_context_message_ids"] == [message["id"] for message in agent["messages"]]
    assert len(set(agent["in_context_message_ids"])) == 6
    assert (after["blocks"], agent["name"]) == ([1], "n")


@pytest.mark.parametrize("file", [{}, {"agents": []}, {"agents": [1]}, written("system", "user")])
def test_what_is_no_file_with_both_sides_is_refused(file: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="no agent file"):
        longer(file, 2)
