"""`wakeful memory` against a server in a process of its own."""

import json
import re
import sys
from pathlib import Path

import pytest

from bench.provider import Provider
from tests.gateway.processes import Process, on_database, run

pytestmark = pytest.mark.timeout(90)


def agent(process: Process) -> str:
    blocks = [{"label": "persona", "value": "I am Sam."}, {"label": "human", "value": "Ada"}]
    return process.agent(name="sam", model="openai/m", memory_blocks=blocks)


def value(process: Process, agent_id: str) -> str:
    return process.request("GET", f"/v1/agents/{agent_id}/core-memory/blocks/human").json()["value"]


def editor(folder: Path, program: str) -> str:
    """Return a command that edits the file named by its last argument with these lines of Python."""
    script = folder / "editor.py"
    script.write_text(f"import sys\npath = sys.argv[1]\n{program}\n")
    return f"{sys.executable} {script}"


def test_blocks_are_shown_as_text_and_as_json(dsn: str, provider: Provider) -> None:
    with on_database(dsn, provider) as process:
        agent(process)
        shown = run("memory", "sam", "--url", process.url)
        assert shown.returncode == 0, shown.stderr
        assert re.search(r"persona  \(9 of \d+ characters\)\nI am Sam\.\n", shown.stdout)
        told = run("memory", "sam", "--url", process.url, "--json")
        assert {b["label"]: b["value"] for b in json.loads(told.stdout)} == {
            "persona": "I am Sam.",
            "human": "Ada",
        }


def test_a_block_is_edited_and_an_unchanged_one_is_left_alone(
    dsn: str, provider: Provider, tmp_path: Path
) -> None:
    with on_database(dsn, provider) as process:
        agent_id = agent(process)
        append = editor(tmp_path, "open(path, 'a').write(' Lovelace\\n')")
        done = run("memory", "sam", "edit", "human", "--url", process.url, EDITOR=append, VISUAL="")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "human: 3 -> 12 characters\n"
        assert value(process, agent_id) == "Ada Lovelace"
        done = run("memory", "sam", "edit", "human", "--url", process.url, EDITOR="true", VISUAL="")
        assert done.stdout == "nothing changed\n"
        done = run("memory", "sam", "edit", "human", "--url", process.url, EDITOR="false", VISUAL="")
        assert done.returncode == 1
        assert "nothing was changed" in done.stderr
        done = run("memory", "sam", "edit", "humour", "--url", process.url, EDITOR="true", VISUAL="")
        assert done.stderr == "wakeful: the agent has no block 'humour'; it has: human, persona\n"
        assert value(process, agent_id) == "Ada Lovelace"


def test_line_ends_are_left_alone_and_what_is_no_text_is_not_stored(
    dsn: str, provider: Provider, tmp_path: Path
) -> None:
    with on_database(dsn, provider) as process:
        agent_id = process.agent(
            name="sam", model="openai/m", memory_blocks=[{"label": "human", "value": "Ada\r\nLovelace"}]
        )
        done = run("memory", "sam", "edit", "human", "--url", process.url, EDITOR="true", VISUAL="")
        assert (done.returncode, done.stdout) == (0, "nothing changed\n")
        spoil = editor(tmp_path, "open(path, 'wb').write(b'\\xff\\xfe')")
        done = run("memory", "sam", "edit", "human", "--url", process.url, EDITOR=spoil, VISUAL="")
        assert done.returncode == 1
        assert re.fullmatch(
            r"wakeful: what the editor left in (\S+) is no UTF-8 text; nothing was changed\n", done.stderr
        )
        done = run("memory", "sam", "edit", "human", "--url", process.url, EDITOR="rm", VISUAL="")
        assert done.returncode == 1
        assert "cannot be read" in done.stderr
        assert value(process, agent_id) == "Ada\r\nLovelace"


def test_what_the_agent_wrote_meanwhile_is_not_overwritten(
    dsn: str, provider: Provider, tmp_path: Path
) -> None:
    with on_database(dsn, provider) as process:
        agent_id = agent(process)
        url = f"{process.url}/v1/agents/{agent_id}/core-memory/blocks/human"
        meanwhile = f"""
import json, urllib.request
body = json.dumps({{"value": "the agent's own"}}).encode()
headers = {{"content-type": "application/json"}}
urllib.request.urlopen(urllib.request.Request({url!r}, data=body, headers=headers, method="PATCH"))
open(path, "w").write("mine")
"""
        program = editor(tmp_path, meanwhile)
        done = run("memory", "sam", "edit", "human", "--url", process.url, EDITOR=program, VISUAL="")
        assert done.returncode == 1
        kept = re.search(r"nothing was overwritten; your text is in (\S+)\n", done.stderr)
        assert kept is not None, done.stderr
        assert Path(kept[1]).read_text() == "mine"
        Path(kept[1]).unlink()
        assert value(process, agent_id) == "the agent's own"


async def test_a_search_finds_passages_and_messages(dsn: str, provider: Provider) -> None:
    await provider.script([{"text": "Rye bread it is.", "repeat": "forever"}])
    with on_database(dsn, provider) as process:
        agent_id = agent(process)
        process.say(agent_id, "I like bread")
        process.request("POST", f"/v1/agents/{agent_id}/archival-memory", json={"text": "Ada bakes bread."})
        told = run("memory", "sam", "search", "bread", "--url", process.url)
        assert told.returncode == 0, told.stderr
        assert "archival memory: 1 found\n" in told.stdout
        assert "Ada bakes bread." in told.stdout
        assert "user: I like bread" in told.stdout
        assert "assistant: Rye bread it is." in told.stdout
        found = json.loads(run("memory", "sam", "search", "bread", "--url", process.url, "--json").stdout)
        assert [m["agent_id"] for m in found["recall"]] == [agent_id, agent_id]
        assert run("memory", "sam", "search", "--url", process.url).returncode == 2
