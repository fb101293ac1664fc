"""`wakeful agents import` against a server in a process of its own."""

import json
from pathlib import Path

import pytest

from bench.provider import Provider
from gateway.agent_files.reader import FILE_BYTES
from tests.gateway.commands.test_agents import say
from tests.gateway.processes import on_database, run

pytestmark = pytest.mark.timeout(90)


def test_an_exported_agent_comes_back_with_its_memory_and_what_was_said(
    dsn: str, provider: Provider, tmp_path: Path
) -> None:
    file = tmp_path / "sam.af"
    with on_database(dsn, provider) as process:
        agent_id = process.agent(
            name="sam", model="openai/m", memory_blocks=[{"label": "human", "value": "Likes rye."}]
        )
        process.say(agent_id, "hello")
        file.write_text(say(process, "agents", "export", "sam"))
        name, other, model = say(process, "agents", "import", str(file)).strip().split("\t")
        assert (name, model) == ("sam", "openai/m")
        assert other != agent_id
        assert "Likes rye." in say(process, "memory", other)
        assert "hello" in say(process, "memory", other, "search", "hello")
        made = json.loads(
            say(process, "agents", "import", str(file), "--name", "eve", "--no-messages", "--json")
        )
        assert [agent["name"] for agent in made["agents"]] == ["eve"]
        assert made["left_out"] == []
        assert "hello" not in say(process, "memory", "eve", "search", "hello")
        piped = run("agents", "import", "-", "--url", process.url, typed=file.read_text())
        assert piped.stdout.startswith("sam\t")


def test_what_is_left_out_of_a_file_is_named(dsn: str, provider: Provider, tmp_path: Path) -> None:
    file = tmp_path / "sam.af"
    with on_database(dsn, provider) as process:
        process.agent(name="sam", model="openai/m")
        exported = json.loads(say(process, "agents", "export", "sam"))
        exported["agents"][0]["tool_exec_environment_variables"] = [{"key": "TOKEN", "value": ""}]
        file.write_text(json.dumps(exported))
        done = run("agents", "import", str(file), "--url", process.url)
        assert done.returncode == 0
        assert "left out: " in done.stderr
        assert "TOKEN" in done.stderr


def test_a_file_that_is_none_is_refused_in_one_line(dsn: str, provider: Provider, tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_text("Roses are red.")
    with on_database(dsn, provider) as process:
        assert say(process, "agents", "import", str(tmp_path / "none.af"), code=1) == (
            f"wakeful: {tmp_path / 'none.af'} cannot be read: No such file or directory\n"
        )
        vast = tmp_path / "vast.af"
        with vast.open("wb") as written:
            written.truncate(FILE_BYTES + 1)
        assert say(process, "agents", "import", str(vast), code=1) == (
            f"wakeful: {vast} is no agent file: those have at most 64 MiB\n"
        )
        refused = say(process, "agents", "import", str(file), code=1)
        assert refused.startswith("wakeful: the server refuses: ")
        assert refused.count("\n") == 1
        assert say(process, "agents", "list") == ""
