"""The routes of agents."""

from typing import Any

from actors.prompt import DEFAULT_SYSTEM
from gateway.config import Settings
from storage.pool import Pool, connection
from tests.serving import Served, serving

MISSING = "agent-00000000-0000-4000-8000-000000000000"
EVERYTHING = {"include": ["agent.blocks", "agent.tools", "agent.tags"]}


async def system_text(served: Served, agent_id: str) -> str:
    async with connection(served.pool) as conn:
        return await conn.fetchval(
            "select content -> 0 ->> 'text' from messages where conversation_id = $1 and position = 0",
            agent_id,
        )


async def test_an_agent_created_from_nothing_has_every_default(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.json("POST", "/v1/agents/", json={})
        text = await system_text(served, made["id"])

    assert made["model"] == "demo/scripted"
    assert made["agent_type"] == "letta_v1_agent"
    assert made["system"] == DEFAULT_SYSTEM
    assert made["timezone"] == "UTC"
    assert {t["name"] for t in made["tools"]} == {"conversation_search", "memory_replace", "memory_insert"}
    assert made["blocks"] == made["memory"]["blocks"] == []
    assert len(made["message_ids"]) == 1
    assert made["name"].isalpha()
    assert f"- AGENT_ID: {made['id']}" in text
    assert text.startswith("You are an agent that persists.")


async def test_every_field_of_the_sdk_is_kept_and_returned(pool: Pool) -> None:
    fields: dict[str, Any] = {
        "name": "Zoë O'Neil_2 -x",
        "description": "d",
        "metadata": {"k": {"n": [1, None, 2.5]}},
        "tags": ["b", "a", "b"],
        "system": "Be brief.",
        "timezone": "Europe/Berlin",
        "embedding": "openai/text-embedding-3-small",
        "model": "demo/scripted",
        "model_settings": {
            "provider_type": "openai",
            "temperature": 0.2,
            "max_output_tokens": 77,
            "parallel_tool_calls": False,
            "reasoning": {"reasoning_effort": "high"},
            "verbosity": "low",
        },
        "context_window_limit": 9000,
        "compaction_settings": {"mode": "all"},
        "message_buffer_autoclear": True,
        "project_id": "p",
        "max_files_open": 4,
    }
    async with serving(pool) as served:
        made = await served.json("POST", "/v1/agents/", json=fields)
        read = await served.json("GET", f"/v1/agents/{made['id']}", params=EVERYTHING)

    assert read == made
    for name in ("name", "description", "metadata", "system", "timezone", "embedding"):
        assert made[name] == fields[name]
    assert made["compaction_settings"]["mode"] == "all"
    assert made["tags"] == ["b", "a"]
    settings = fields["model_settings"]
    assert {name: made["model_settings"][name] for name in settings} == settings
    assert made["llm_config"]["context_window"] == 9000
    assert made["llm_config"]["max_tokens"] == 77
    assert made["embedding_config"]["embedding_dim"] == 1536
    assert (made["max_files_open"], made["per_file_view_window_char_limit"]) == (4, 15_000)
    assert made["message_buffer_autoclear"] is True


async def test_memory_blocks_are_created_and_shown_to_the_model(pool: Pool) -> None:
    async with serving(pool) as served:
        shared = await served.json("POST", "/v1/blocks/", json={"label": "team", "value": "Ada, Bo"})
        made = await served.agent(
            memory_blocks=[{"label": "human", "value": "Name: Sam"}, {"label": "notes", "value": ""}],
            block_ids=[shared["id"]],
        )
        text = await system_text(served, made["id"])
    assert [b["label"] for b in made["blocks"]] == ["team", "human", "notes"]
    assert made["blocks"][0]["id"] == shared["id"]
    assert made["blocks"][1]["description"].startswith("What you know about the person")
    assert "Name: Sam" in text
    assert "Ada, Bo" in text


async def test_an_old_clients_llm_config_names_the_model(pool: Pool) -> None:
    config = {
        "model": "scripted",
        "model_endpoint_type": "demo",
        "model_endpoint": "http://169.254.169.254/",
        "context_window": 5000,
        "temperature": 0.1,
    }
    async with serving(pool) as served:
        made = await served.agent(llm_config=config)
    assert made["model"] == "demo/scripted"
    assert made["llm_config"]["context_window"] == 5000
    assert made["llm_config"]["temperature"] == 0.1
    assert made["llm_config"]["model_endpoint"] != config["model_endpoint"]


REFUSED: list[tuple[dict[str, Any], int, str | None]] = [
    ({"name": ""}, 422, "/name"),
    ({"name": "x" * 257}, 422, "/name"),
    ({"name": "a<b"}, 422, "/name"),
    ({"tags": [str(i) for i in range(101)]}, 422, "/tags"),
    ({"tags": [""]}, 422, "/tags/0"),
    ({"timezone": "Mars/Olympus"}, 422, "/timezone"),
    ({"timezone": "../../etc/passwd"}, 422, "/timezone"),
    ({"agent_type": "no_such_agent"}, 422, "/agent_type"),
    ({"agent_type": "react_agent"}, 501, "/agent_type"),
    ({"secrets": {"A": "b"}}, 501, "/secrets"),
    ({"tool_exec_environment_variables": {"A": "b"}}, 501, "/tool_exec_environment_variables"),
    ({"folder_ids": ["source-x"]}, 501, "/folder_ids"),
    ({"identity_ids": ["identity-x"]}, 501, "/identity_ids"),
    ({"enable_sleeptime": True}, 501, "/enable_sleeptime"),
    ({"tool_rules": [{"type": "run_first"}]}, 422, "/tool_rules/0"),
    ({"tool_rules": [{"type": "fly", "tool_name": "x"}]}, 422, "/tool_rules/0/type"),
    (
        {"tool_rules": [{"type": "max_count_per_step", "tool_name": "x", "max_count_limit": 0}]},
        422,
        "/tool_rules/0/max_count_limit",
    ),
    ({"initial_message_sequence": [{"role": "user"}]}, 422, "/initial_message_sequence/0/content"),
    ({"from_template": "t"}, 501, "/from_template"),
    ({"model": "noslash"}, 400, "/model"),
    ({"model": "nobody/x"}, 404, None),
    ({"tools": ["no_such_tool"]}, 400, "/tools"),
    ({"tool_ids": ["tool-1"]}, 422, "/tool_ids/0"),
    ({"block_ids": ["block-00000000-0000-4000-8000-000000000000"]}, 404, None),
    ({"memory_blocks": [{"label": "a", "value": ""}] * 2}, 409, None),
    ({"memory_blocks": [{"label": "a b", "value": ""}]}, 422, "/memory_blocks/0/label"),
    ({"memory_blocks": [{"label": "a", "value": "x" * 200_001}]}, 422, "/memory_blocks/0/value"),
    ({"memory_blocks": [{"label": "a"}]}, 422, "/memory_blocks/0"),
    ({"model_settings": {"temperature": "hot"}}, 422, "/model_settings/temperature"),
    ({"model_settings": {"temperature": True}}, 422, "/model_settings/temperature"),
    ({"context_window_limit": True}, 422, "/context_window_limit"),
    ({"context_window_limit": 2**63}, 422, "/context_window_limit"),
    ({"metadata": []}, 422, "/metadata"),
]


async def test_what_cannot_be_created_is_refused_by_name(pool: Pool) -> None:
    async with serving(pool) as served:
        for fields, status, param in REFUSED:
            answer = await served.json("POST", "/v1/agents/", json=fields, status=status)
            assert isinstance(answer["detail"], str)
            assert answer["error"]["message"] == answer["detail"]
            assert answer["error"].get("param") == param, answer
        assert await served.json("GET", "/v1/agents/count") == 0
        assert await served.json("GET", "/v1/blocks/count") == 0


async def test_fields_of_later_releases_may_be_given_empty(pool: Pool) -> None:
    empty = {
        "secrets": {},
        "tool_rules": [],
        "enable_sleeptime": False,
        "identity_ids": [],
        "folder_ids": None,
    }
    async with serving(pool) as served:
        assert (await served.agent(**empty))["tool_rules"] == []


async def test_the_server_settings_name_the_default_model(pool: Pool) -> None:
    async with serving(pool, settings=Settings(model="nobody/x")) as served:
        answer = await served.json("POST", "/v1/agents/", json={}, status=404)
    assert "'nobody/x'" in answer["detail"]
    assert "demo/scripted" in answer["detail"]


async def test_relations_come_only_when_a_modern_sdk_asks(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.agent(tags=["t"], memory_blocks=[{"label": "human", "value": "v"}])
        path = f"/v1/agents/{made['id']}"
        bare = await served.json("GET", path)
        tools = await served.json("GET", path, params={"include": "agent.tools"})
        older = await served.json("GET", path, params={"include_relationships": ["memory", "tags"]})
        legacy = await served.http.get(
            path, headers={"user-agent": "curl/8", "x-stainless-package-version": ""}
        )
        await served.json("GET", path, params={"include": "agent.nonsense"}, status=422)
    assert (bare["blocks"], bare["memory"]["blocks"], bare["tools"], bare["tags"]) == ([], [], [], [])
    assert len(tools["tools"]) == 3
    assert tools["blocks"] == []
    assert (len(older["blocks"]), older["tags"], older["tools"]) == (1, ["t"], [])
    assert legacy.json()["blocks"] == []  # the SDK's header decides, whatever its value


async def test_a_client_that_is_no_sdk_gets_every_relation(pool: Pool) -> None:
    async with serving(pool, headers={"user-agent": "curl/8"}) as served:
        made = await served.agent(tags=["t"], memory_blocks=[{"label": "human", "value": "v"}])
        read = await served.json("GET", f"/v1/agents/{made['id']}")
        listed = await served.json("GET", "/v1/agents/")
        attached = await served.json(
            "PATCH", f"/v1/agents/{made['id']}/tools/attach/{made['tools'][0]['id']}"
        )
    assert read == made
    assert listed == [made]
    assert attached["id"] == made["id"]


async def test_a_page_ends_where_the_next_begins(pool: Pool) -> None:
    async with serving(pool) as served:
        made = [await served.agent(name=f"a{i}") for i in range(5)]

        async def names(**params: Any) -> list[str]:
            return [a["name"] for a in await served.json("GET", "/v1/agents/", params=params)]

        assert await names(limit=2) == ["a4", "a3"]
        assert await names(limit=2, after=made[3]["id"]) == ["a2", "a1"]
        assert await names(limit=2, before=made[1]["id"]) == ["a3", "a2"]
        assert await names(limit=2, order="asc") == ["a0", "a1"]
        assert await names(limit=2, ascending=True) == ["a0", "a1"]
        assert await names(after=made[0]["id"]) == []
        answer = await served.json("GET", "/v1/agents/", params={"after": MISSING}, status=404)
        assert answer["detail"] == "Agent not found"


async def test_lists_filter_and_never_show_hidden_agents(pool: Pool) -> None:
    async with serving(pool) as served:
        await served.agent(name="red", tags=["x", "y"])
        await served.agent(name="Redder", tags=["y"])
        await served.agent(name="secret", hidden=True)
        await served.agent(name="helper", tags=["role:subagent"])

        async def names(**params: Any) -> list[str]:
            listed = await served.json("GET", "/v1/agents/", params={"order": "asc", **params})
            assert len(listed) == await served.json("GET", "/v1/agents/count", params=params)
            return [a["name"] for a in listed]

        assert await names() == ["red", "Redder"]
        assert await names(name="red") == ["red"]
        assert await names(query_text="RED") == ["red", "Redder"]
        assert await names(tags=["x", "y"]) == ["red", "Redder"]
        assert await names(tags=["x", "y"], match_all_tags="true") == ["red"]
        assert await names(identity_id="identity-x") == []


async def test_an_update_changes_what_it_names_and_rebuilds_the_prompt(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.agent(description="old", tags=["t"], model_settings={"temperature": 0.3})
        changes = {"name": "new", "system": "Speak French.", "tags": [], "max_tokens": 9, "description": None}
        updated = await served.json("PATCH", f"/v1/agents/{made['id']}", json=changes)
        read = await served.json("GET", f"/v1/agents/{made['id']}", params=EVERYTHING)
        text = await system_text(served, made["id"])
    assert updated == read
    assert (read["name"], read["system"], read["tags"], read["description"]) == (
        "new",
        "Speak French.",
        [],
        "old",
    )
    assert read["model_settings"]["max_output_tokens"] == 9
    assert read["model_settings"]["temperature"] == 0.3
    assert read["tools"] == made["tools"]
    assert text.startswith("Speak French.")


async def test_lists_of_ids_replace_the_whole_set(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.agent(memory_blocks=[{"label": "human", "value": "v"}])
        block = await served.json("POST", "/v1/blocks/", json={"label": "other", "value": ""})
        tool = made["tools"][1]
        updated = await served.json(
            "PATCH",
            f"/v1/agents/{made['id']}",
            json={"block_ids": [block["id"]], "tool_ids": [tool["id"]]},
        )
        assert [b["label"] for b in updated["blocks"]] == ["other"]
        assert [t["id"] for t in updated["tools"]] == [tool["id"]]
        emptied = await served.json(
            "PATCH", f"/v1/agents/{made['id']}", json={"block_ids": [], "tool_ids": []}
        )
        assert (emptied["blocks"], emptied["tools"]) == ([], [])


async def test_message_ids_are_accepted_only_as_they_are(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.agent()
        path = f"/v1/agents/{made['id']}"
        await served.json("PATCH", path, json={"message_ids": made["message_ids"]})
        answer = await served.json("PATCH", path, json={"message_ids": []}, status=422)
        assert answer["error"]["param"] == "/message_ids"


REFUSED_CHANGES: list[tuple[dict[str, Any], int]] = [
    ({"name": "a/b"}, 422),
    ({"model": "nobody/x"}, 404),
    ({"secrets": {"A": "b"}}, 501),
    ({"block_ids": ["block-00000000-0000-4000-8000-000000000000"]}, 404),
    ({"tool_ids": ["tool-00000000-0000-4000-8000-000000000000"]}, 404),
    ({"timezone": "Nowhere"}, 422),
]


async def test_a_refused_update_changes_nothing(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.agent(memory_blocks=[{"label": "human", "value": "v"}])
        path = f"/v1/agents/{made['id']}"
        for changes, status in REFUSED_CHANGES:
            await served.json("PATCH", path, json={"description": "changed", **changes}, status=status)
        assert await served.json("GET", path, params=EVERYTHING) == made


async def test_a_deleted_agent_is_gone_and_its_blocks_stay(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.agent(memory_blocks=[{"label": "human", "value": "v"}])
        path = f"/v1/agents/{made['id']}"
        assert await served.json("DELETE", path) is None
        for method in ("GET", "DELETE", "PATCH"):
            more = {"json": {}} if method == "PATCH" else {}
            answer = await served.json(method, path, status=404, **more)
            assert answer["detail"] == "Agent not found"
        assert (await served.json("GET", f"/v1/blocks/{made['blocks'][0]['id']}"))["value"] == "v"


async def test_agents_of_a_block_are_listed(pool: Pool) -> None:
    async with serving(pool) as served:
        one = await served.agent(name="one", memory_blocks=[{"label": "human", "value": "v"}])
        block_id = one["blocks"][0]["id"]
        two = await served.agent(name="two", block_ids=[block_id])
        await served.agent(name="three")
        path = f"/v1/blocks/{block_id}/agents"
        listed = await served.json("GET", path)
        assert [a["name"] for a in listed] == ["two", "one"]
        assert await served.json("GET", path, params={"after": two["id"]}) == listed[1:]
        await served.json("GET", "/v1/blocks/block-00000000-0000-4000-8000-000000000000/agents", status=404)


async def test_an_agent_whose_provider_is_gone_is_still_shown(pool: Pool) -> None:
    async with serving(pool) as served:
        made = await served.agent()
        async with connection(pool) as conn:
            await conn.execute('update agents set settings = settings || \'{"model": "gone/m"}\'')
        read = await served.json("GET", f"/v1/agents/{made['id']}")
    assert (read["model"], read["llm_config"]["model"]) == ("gone/m", "m")
