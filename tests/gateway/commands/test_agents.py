"""`wakeful agents` against a server in a process of its own."""

import json

import anyio
import pytest

from bench.provider import Provider
from tests.gateway.processes import Process, on_database, run

pytestmark = pytest.mark.timeout(90)


def say(process: Process, *arguments: str, code: int = 0) -> str:
    """Run a command against the server and return what it wrote."""
    done = run(*arguments, "--url", process.url)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_agents_are_created_listed_and_shown(dsn: str, provider: Provider) -> None:
    with on_database(dsn, provider) as process:
        made = say(
            process, "agents", "create", "--name", "sam", "--model", "openai/m", "--persona", "I am Sam."
        )
        name, agent_id, model = made.strip().split("\t")
        assert (name, model) == ("sam", "openai/m")
        other = json.loads(say(process, "agents", "create", "--name", "eve", "--human", "Ada", "--json"))
        assert {b["label"]: b["value"] for b in other["blocks"]}["human"] == "Ada"
        lines = say(process, "agents", "list").splitlines()
        assert [line.split("\t")[0] for line in lines] == ["eve", "sam"]
        assert [a["id"] for a in json.loads(say(process, "agents", "--json"))] == [other["id"], agent_id]
        process.say(agent_id, "hello")
        shown = say(process, "agents", "show", "sam")
        assert "I am Sam." in shown
        assert "openai/m" in shown
        assert "completed" in shown
        told = json.loads(say(process, "agents", "show", agent_id, "--json"))
        assert told["agent"]["name"] == "sam"
        assert [r["status"] for r in told["runs"]] == ["completed"]


def test_what_cannot_be_done_is_told_in_one_line(dsn: str, provider: Provider) -> None:
    with on_database(dsn, provider) as process:
        assert say(process, "agents", "show", "nobody", code=1) == (
            "wakeful: there is no agent 'nobody'; `wakeful agents list` lists them, `wakeful chat` creates "
            "one\n"
        )
        refused = say(process, "agents", "create", "--type", "voice_convo_agent", code=1)
        assert refused.startswith("wakeful: the server refuses: ")
        assert refused.count("\n") == 1
        done = run("agents", "--url", process.url, "list")
        assert done.returncode == 2
        assert "options stand behind 'list'" in done.stderr
    done = run("agents", "list", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == (
        "wakeful: nothing answers at http://127.0.0.1:1; start a server with: wakeful serve\n"
    )


async def test_an_export_is_an_agent_file_and_a_full_one_has_all_that_was_said(
    dsn: str, provider: Provider
) -> None:
    with on_database(dsn, provider) as process:
        agent_id = process.agent(
            name="sam", model="openai/m", memory_blocks=[{"label": "human", "value": "A"}]
        )
        talk = process.request("POST", "/v1/conversations/", params={"agent_id": agent_id}, json={}).json()
        body = {"messages": [{"role": "user", "content": "elsewhere"}], "streaming": False}
        process.request("POST", f"/v1/conversations/{talk['id']}/messages", json=body)
        for turn in range(3):
            process.say(agent_id, f"question {turn}")
        text = "I know it."
        process.request("POST", f"/v1/agents/{agent_id}/archival-memory", json={"text": text})
        file = json.loads(say(process, "agents", "export", "sam"))
        assert file["agents"][0]["name"] == "sam"
        assert "recall" not in file
        full = json.loads(say(process, "agents", "export", "sam", "--full"))
    assert {**file, "created_at": 0} == {
        **{key: value for key, value in full.items() if key in file},
        "created_at": 0,
    }
    said = [m["content"] for m in full["recall"] if m["message_type"] == "user_message"]
    assert said == ["question 0", "question 1", "question 2"]
    [other] = full["conversations"]
    assert [m["content"] for m in other["messages"] if m["message_type"] == "user_message"] == ["elsewhere"]
    assert [passage["text"] for passage in full["archival"]] == [text]


async def test_a_full_export_is_imported_with_its_passages_and_its_history(
    dsn: str, provider: Provider
) -> None:
    with on_database(dsn, provider) as process:
        agent_id = process.agent(
            name="sam", model="openai/m", memory_blocks=[{"label": "human", "value": "A"}]
        )
        for turn in range(6):
            process.say(agent_id, f"question {turn}")
        memory = {"text": "I know it.", "tags": ["sure"], "created_at": "2025-05-05T05:05:05Z"}
        process.request("POST", f"/v1/agents/{agent_id}/archival-memory", json=memory)
        process.request("POST", f"/v1/agents/{agent_id}/summarize", json={})
        file = say(process, "agents", "export", "sam", "--full")
        answer = process.request(
            "POST",
            "/v1/agents/import",
            files={"file": ("sam.af", file.encode())},
            headers={"X-Requested-With": "test"},
        )
        assert answer.status_code == 200, answer.text
        [copy_id] = answer.json()["agent_ids"]
        assert answer.json()["left_out"] == []
        states = [process.request("GET", f"/v1/agents/{i}").json() for i in (agent_id, copy_id)]
        assert len(states[1]["message_ids"]) == len(states[0]["message_ids"]) < 13
        recalls = [
            process.request("GET", f"/v1/agents/{i}/messages", params={"order": "asc", "limit": 100}).json()
            for i in (agent_id, copy_id)
        ]
        told = [
            [(m["message_type"], m.get("content")) for m in r if m["message_type"] != "system_message"]
            for r in recalls
        ]
        asked = [[text for kind, text in one if kind == "user_message"] for one in told]
        assert asked[0] == asked[1] == [f"question {turn}" for turn in range(6)]
        assert sorted(map(str, told[0])) == sorted(map(str, told[1]))
        with anyio.fail_after(30):
            while True:
                kept = process.request("GET", f"/v1/agents/{copy_id}/archival-memory").json()
                assert [(p["text"], p["tags"]) for p in kept] == [("I know it.", ["sure"])]
                assert kept[0]["created_at"].startswith("2025-05-05T05:05:05")
                if kept[0]["embedding"] is not None:
                    break
                await anyio.sleep(0.1)
