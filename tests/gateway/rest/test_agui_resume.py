"""AG-UI streams that are cut, left, taken up again, and told by what is stored."""

from typing import Any

import httpx
import pytest

from actors import clock
from bench.provider import Provider
from gateway.agui import projection
from gateway.agui import stream as agui_stream
from storage.pool import Pool, connection
from tests.gateway import agui_streams
from tests.gateway.rest.agui_runs import INSERT, RULE, Runner, of, run_of, runner, said, text
from tests.gateway.rest.talking import talking
from tests.serving import listening

ASK = {"text": "May I?", "tool_calls": [INSERT]}
THINKS = {"reasoning": "Better note it.", "text": "One moment.", "tool_calls": [INSERT]}


async def test_a_stream_is_taken_up_after_any_of_its_events(pool: Pool, provider: Provider) -> None:
    await provider.script([THINKS, {"text": "Noted."}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        response = await agent.post(agent.body("I like tea"))
        run_id = response.headers["x-wakeful-run-id"]
        whole = agui_streams.parse(response.text)
        assert all(event_id is not None for event_id, _ in whole)
        assert len({event_id for event_id, _ in whole}) == len(whole)
        for place, (event_id, _) in enumerate(whole[:-1]):
            rest = agui_streams.parse(await agent.resume(run_id, event_id))
            assert [i for i, _ in rest] == [i for i, _ in whole[place + 1 :]]
            agui_streams.check([event for _, event in whole[: place + 1] + rest])
        assert await agent.resume(run_id, whole[-1][0], status=204) == ""
        assert [e for _, e in agui_streams.parse(await agent.resume(run_id))][-1] == whole[-1][1]


async def test_a_cut_stream_goes_on_live(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two three four", "gate": "go", "gate_after": 2}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await runner(served)
        seen: list[tuple[str | None, dict[str, Any]]] = []
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            async with client.stream("POST", agent.path, json=agent.body("hi")) as response:
                buffered = ""
                async for piece in response.aiter_text():
                    buffered += piece
                    if '"two ' in buffered:
                        break
            whole, _, _ = buffered.rpartition("\n\n")
            seen = agui_streams.parse(whole)
            await provider.open("go")
            path = f"{agent.path}/runs/{run_of([seen[0][1]])}/events"
            rest = await client.get(path, params={"after": seen[-1][0]})
        found = [event for _, event in seen + agui_streams.parse(rest.text)]
        agui_streams.check(found)
        assert text(found) == "one two three four"


async def test_a_run_that_is_only_stored_is_told_by_its_messages(pool: Pool, provider: Provider) -> None:
    await provider.script([THINKS, {"text": "Noted."}, ASK])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        found = await agent.run("I like tea")
        conversation = found[0]["metadata"]["wakeful"]["conversation"]
        served.host.logs.drop(conversation, agent.agent_id)
        told = agui_streams.events(await agent.resume(run_of(found), "abcdef01:7"))
        agui_streams.check(told)
        assert told[0]["runId"] == found[0]["runId"]
        assert [m["id"] for m in told[0]["input"]["messages"]] == ["user-I like tea"]
        assert text(told) == "One moment.Noted."
        assert [e["content"] for e in of(told, "TOOL_CALL_RESULT")] == ["Likes tea"]
        assert told[-1]["outcome"] == {"type": "success"}
        await agent.served.json("PATCH", f"/v1/agents/{agent.agent_id}", json={"tool_rules": [RULE]})
        asked = await agent.run("and coffee")
        (call,) = [e["toolCallId"] for e in of(asked, "TOOL_CALL_START")]
        served.host.logs.drop(conversation, agent.agent_id)
        told = agui_streams.events(await agent.resume(run_of(asked)))
        agui_streams.check(told)
        for ended in (told, asked):
            assert [one["id"] for one in ended[-1]["outcome"]["interrupts"]] == [call]


async def test_what_is_not_there_is_not_found_or_gone(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent, other = await runner(served), await runner(served)
        found = await agent.run("hi")
        await agent.resume(clock.new_id("run"), status=404)
        await other.resume(run_of(found), status=404)
        await agent.resume(run_of(found), "seven", status=422)
        async with connection(pool) as conn:
            await conn.execute("delete from messages where run_id = $1", run_of(found))
        served.host.logs.drop(found[0]["metadata"]["wakeful"]["conversation"], agent.agent_id)
        await agent.resume(run_of(found), status=410)
        nobody = Runner(served, clock.new_id("agent"))
        assert (await nobody.post(nobody.body("hi"))).status_code == 404
        stranger = Runner(served, agent.agent_id, clock.new_id("conv"))
        assert (await stranger.post(stranger.body("hi"))).status_code == 404


async def test_who_leaves_ends_nothing_but_his_own_stream(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one two", "gate": "go", "gate_after": 1}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await runner(served)
        async with (
            httpx.AsyncClient(base_url=url, timeout=20) as client,
            client.stream("POST", agent.path, json=agent.body("hi")) as response,
        ):
            run_id = response.headers["x-wakeful-run-id"]
            async for piece in response.aiter_text():
                if "one" in piece:
                    break
        await provider.open("go")
        assert text(agui_streams.events(await agent.resume(run_id))) == "one two"


async def test_a_silent_stream_is_kept_alive_by_comments(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agui_stream, "KEEPALIVE_SECONDS", 0.05)
    await provider.script([{"text": "late", "gate": "go"}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await runner(served)
        heard = ""
        async with (
            httpx.AsyncClient(base_url=url, timeout=20) as client,
            client.stream("POST", agent.path, json=agent.body("hi")) as response,
        ):
            async for piece in response.aiter_text():
                heard += piece
                if heard.count(": keepalive\n\n") == 2:
                    await provider.open("go")
    agui_streams.check(agui_streams.events(heard))


async def test_a_thread_without_news_is_shown_as_it_stands(pool: Pool, provider: Provider) -> None:
    async with talking(pool, provider) as served:
        agent = await runner(served)
        found = await agent.run("hi")
        idle = await agent.run()
        (history,) = of(idle, "MESSAGES_SNAPSHOT")
        assert [m["role"] for m in history["messages"]] == ["user", "assistant"]
        assert len(await provider.log()) == 1
        assert history["messages"][1]["content"] == text(found)


async def test_of_a_long_thread_the_newest_part_is_shown_and_where_the_rest_is(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agui_stream, "HISTORY_MESSAGES", 5)
    async with talking(pool, provider) as served:
        agent = await runner(served)
        for number in range(4):
            await agent.run(f"question {number}")
        (history,) = of(await agent.run(), "MESSAGES_SNAPSHOT")
        shown = history["messages"]
        assert [one["role"] for one in shown] == ["user", "assistant"] * 2
        assert shown[0]["content"] == "question 2"
        told = history["metadata"]["wakeful"]
        assert told["truncated"]
        older = await served.json("GET", told["see"])
        texts = [one["content"] for one in older if one["message_type"] == "user_message"]
        assert sorted(texts) == ["question 0", "question 1"]
        assert not {one["id"] for one in older} & {one["id"] for one in shown}


async def test_a_thread_of_much_text_is_shown_as_far_as_fits(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "SNAPSHOT_BYTES", 3000)
    async with talking(pool, provider) as served:
        agent = await runner(served)
        for letter in "abc":
            await agent.run(letter * 1000)
        (history,) = of(await agent.run(), "MESSAGES_SNAPSHOT")
        assert history["messages"][0]["content"] == "b" * 1000
        assert history["metadata"]["wakeful"]["before"]


async def test_a_fork_is_shown_with_the_messages_it_began_with(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "one"}, {"text": "left"}, {"text": "right"}])
    async with talking(pool, provider) as served:
        agent = await runner(served)
        begun = await agent.run("in both")
        parent = begun[0]["metadata"]["wakeful"]["conversation"]
        fork = (await served.json("POST", f"/v1/conversations/{parent}/fork"))["id"]
        await agent.run("in the parent")
        forked = Runner(served, agent.agent_id, fork)
        (inherited,) = of(await forked.run(), "MESSAGES_SNAPSHOT")
        assert [m["content"] for m in inherited["messages"]] == ["in both", "one"]
        forked.history = inherited["messages"]
        assert text(await forked.run("in the fork")) == "right"
        forked.history = []
        (history,) = of(await forked.run(), "MESSAGES_SNAPSHOT")
        assert [m["content"] for m in history["messages"]] == ["in both", "one", "in the fork", "right"]


async def test_a_fork_hears_no_message_again_that_it_began_with(pool: Pool, provider: Provider) -> None:
    """Though nothing answered it there, where the fork leaves its parent after what a user said."""
    async with talking(pool, provider) as served:
        agent = await runner(served)
        begun = await agent.run("in both")
        parent = begun[0]["metadata"]["wakeful"]["conversation"]
        path = f"/v1/conversations/{parent}"
        listed = await served.json("GET", f"{path}/messages", params={"order": "asc"})
        asked = next(m["id"] for m in listed if m["message_type"] == "user_message")
        fork = (await served.json("POST", f"{path}/fork", params={"message_id": asked}))["id"]
        await provider.log()
        for said_there in ("in the fork", "there again"):
            forked = Runner(served, agent.agent_id, fork)
            forked.history = [said("in both")]
            await forked.run(said_there)
        first, second = await provider.log()
        told = [m["content"] for m in first.body["messages"] if m["role"] == "user"]
        assert [text for text in told if "in both" in text or "in the fork" in text] == told
        assert len(told) == 2
        assert str(second.body["messages"]).count("in both") == 1


# --- whatever happens -----------------------------------------------------------------------------


class Crash:
    """Crashes a turn at the `at`-th event that its agent says, once."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.heard = 0

    def __call__(self, _channel: object, _offset: int, event: object) -> None:
        self.heard += 1
        if self.heard == self.at:
            raise RuntimeError(f"crashed at {type(event).__name__}")


@pytest.mark.parametrize("first", [2, 3, 4, 5])
async def test_a_crash_at_any_event_leaves_clients_with_what_is_stored(
    pool: Pool, provider: Provider, first: int
) -> None:
    call = {"name": INSERT["name"], "arguments": INSERT["arguments"]}  # each with an id of its own
    await provider.script([{**THINKS, "tool_calls": [call], "repeat": "forever"}])
    async with talking(pool, provider) as served:
        for at in range(first, 34, 12):
            agent = await runner(served)
            stop = served.host.logs.watch(agent.agent_id, Crash(at))
            found = await agent.run("hi", forwardedProps={"wakeful": {"maxSteps": 2}})
            stop()
            (history,) = of(await agent.run(), "MESSAGES_SNAPSHOT")
            stored = {m["id"]: m.get("content", "") for m in history["messages"]}
            shown = agui_streams.messages(found)
            assert {i: t for i, t in shown.items() if t} == {i: t for i, t in stored.items() if t}, at
            assert "RUN_ERROR" not in agui_streams.kinds(found)
            assert text(found).count("One moment.") >= 2
