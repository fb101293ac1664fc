"""The doctor asks models: every fault of an endpoint is told from the others, each with its remedy."""

import re

import pytest

from actors.llm.providers import provider_for
from bench.provider import Provider
from gateway.config import Settings
from gateway.doctor import models as doctor_models
from tests.gateway.looking import Kept

CALL = {"tool_calls": [{"name": "note", "arguments": {"word": "tea"}}], "match": "Call the tool"}
CHAT, STREAM, TOOLS = "mine/m chat", "mine/m streaming", "mine/m tools"
LIST, WINDOW, EMBEDDINGS = "mine models", "mine/m window", "mine embeddings"


async def look(provider: Provider, *, deadline: float = 10.0, model: str | None = "mine/m") -> Kept:
    kept = Kept()
    local = provider_for("mine", provider.base_url, "sk-secret-key")
    await doctor_models.examine(
        Settings(model=model, discover="off", embedding="mine/text-embedding-3-small"),
        (local,),
        {},
        kept,
        deadline=deadline,
    )
    return kept


async def test_a_model_that_works_is_ok_throughout(provider: Provider) -> None:
    await provider.list_models({"m": 9000})
    await provider.script([CALL])
    kept = await look(provider)
    assert {f.check: f.level for f in kept.all} == dict.fromkeys(
        (LIST, CHAT, STREAM, WINDOW, TOOLS, EMBEDDINGS, "default model", "search"), "ok"
    )
    assert kept.one(WINDOW).text == "9000 tokens, as its server says"
    requests = await provider.log()
    assert "tools" not in requests[0].body
    assert requests[1].body["tools"][0]["function"]["name"] == "note"


async def test_a_model_that_calls_no_tool_is_a_warning(provider: Provider) -> None:
    await provider.list_models({"m": 9000})
    kept = await look(provider)
    assert kept.level(TOOLS) == "warning"
    assert kept.level(CHAT) == "ok"


async def test_a_server_that_refuses_tools_is_an_error(provider: Provider) -> None:
    await provider.list_models({"m": 9000})
    refusal = {"error": {"message": "m does not support tools", "type": "invalid_request_error"}}
    await provider.script([{"status": 400, "body": refusal, "match": "Call the tool", "repeat": "forever"}])
    kept = await look(provider)
    assert kept.level(TOOLS) == "error"
    assert "support tools" in kept.one(TOOLS).text


async def test_arguments_that_are_no_json_are_a_warning(provider: Provider) -> None:
    await provider.list_models({"m": 9000})
    call = {"tool_calls": [{"name": "note", "arguments": '{"word": '}], "match": "Call the tool"}
    await provider.script([call])
    kept = await look(provider)
    assert kept.level(TOOLS) == "warning"
    assert "cannot be used" in kept.one(TOOLS).text


async def test_a_stream_that_breaks_is_told_from_a_model_that_does_not_answer(provider: Provider) -> None:
    await provider.list_models({"m": 9000})
    whole = {"choices": [{"message": {"role": "assistant", "content": "1 2 3"}, "finish_reason": "stop"}]}
    await provider.script([{"fault": "cut_after", "tokens": 2, "text": "1 2 3 4 5"}, {"body": whole}])
    kept = await look(provider)
    assert kept.level(CHAT) == "ok"
    assert kept.level(STREAM) == "error"
    assert TOOLS not in {f.check for f in kept.all}
    broken = {"fault": "cut_after", "tokens": 2, "text": "1 2 3 4 5"}
    await provider.script([broken, {"status": 500, "body": {"error": {"message": "no"}}}])
    kept = await look(provider)
    assert kept.level(CHAT) == "error"
    assert STREAM not in {f.check for f in kept.all}


async def test_a_refused_key_is_an_error_that_shows_no_key(provider: Provider) -> None:
    refusal = {"error": {"message": "Incorrect API key provided: sk-secret-key", "type": "auth"}}
    await provider.script([{"status": 401, "body": refusal, "repeat": "forever"}])
    kept = await look(provider)
    assert kept.level(CHAT) == "error"
    assert "key" in (kept.one(CHAT).remedy or "")
    assert all("sk-secret" not in f"{f.text}{f.remedy}" for f in kept.all)
    assert TOOLS not in {f.check for f in kept.all}


async def test_a_model_that_is_slow_is_given_up_at_the_deadline(provider: Provider) -> None:
    await provider.list_models({"m": 9000})
    await provider.script([{"fault": "hang", "repeat": "forever"}])
    kept = await look(provider, deadline=0.3)
    assert kept.level(CHAT) == "error"
    assert "--timeout" in (kept.one(CHAT).remedy or "")


async def test_a_server_that_is_not_there_is_an_error(provider: Provider) -> None:
    kept = Kept()
    local = provider_for("mine", "http://127.0.0.1:1/v1")
    await doctor_models.examine(
        Settings(model="mine/m", discover="off", embedding="off"), (local,), {}, kept, deadline=5
    )
    assert kept.level(LIST) == "error"
    assert "start the server at http://127.0.0.1:1/v1" in (kept.one(LIST).remedy or "")


async def test_a_window_that_nobody_names_is_a_warning_and_so_is_a_model_that_is_not_listed(
    provider: Provider,
) -> None:
    await provider.script([CALL])
    kept = await look(provider)
    assert kept.level(WINDOW) == "warning"
    assert "though the server does not list it" in kept.one(CHAT).text


async def test_embeddings_are_asked_of_the_model_for_them_that_is_listed(provider: Provider) -> None:
    kept = await look(provider)
    assert kept.one(EMBEDDINGS).text == "mine/text-embedding-3-small gives 1536 dimensions"
    assert kept.one("search").text == "mine/text-embedding-3-small gives 1536 dimensions"


async def test_without_a_provider_the_demo_is_named(provider: Provider) -> None:
    kept = Kept()
    await doctor_models.examine(Settings(discover="off", embedding="off"), (), {}, kept, deadline=5)
    assert kept.level("default model") == "warning"
    assert [f.check for f in kept.all] == ["default model", "search"]


@pytest.mark.parametrize(("status", "words"), [(402, "credit"), (404, "/v1"), (429, "limits"), (500, "log")])
async def test_each_refusal_has_its_remedy(provider: Provider, status: int, words: str) -> None:
    await provider.script([{"status": status, "body": {"error": {"message": "no"}}, "repeat": "forever"}])
    kept = await look(provider)
    assert words in (kept.one(CHAT).remedy or "")


async def test_the_local_embedding_model_is_asked_and_its_memory_is_told_apart() -> None:
    kept = Kept()
    await doctor_models.examine(Settings(discover="off"), (), {}, kept, deadline=15)
    finding = kept.one("search")
    assert finding.level == "ok"
    assert re.search(r"gives 384 dimensions, in a process of its own with \d+ MiB", finding.text)


async def test_embeddings_that_fail_are_a_warning(provider: Provider) -> None:
    kept = Kept()
    mine = provider_for("mine", provider.base_url)
    settings = Settings(model="mine/m", discover="off", embedding="nobody/x")
    await doctor_models.examine(settings, (mine,), {}, kept, deadline=5)
    assert kept.level("search") == "warning"
    assert "WAKEFUL_EMBEDDING" in (kept.one("search").remedy or "")
