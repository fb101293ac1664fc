from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from actors import offers
from actors.commands import UpdateAgent
from actors.commons import HostSettings
from actors.events import Event, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStarted
from actors.loop import Policy, Turn
from actors.rules import compiled
from bench.provider import Provider
from storage.pool import Pool
from storage.records import AgentChanges, Message, ReasoningPart, ToolCallPart, ToolReturnPart
from tests.actors.worlds import finish, world

BASE_RULES = (
    {"type": "exit_loop", "tool_name": "send_message"},
    {"type": "continue_loop", "tool_name": "conversation_search"},
    {"type": "continue_loop", "tool_name": "memory_insert"},
    {"type": "continue_loop", "tool_name": "memory_replace"},
)


def call(name: str, **arguments: object) -> dict[str, object]:
    first = {"thinking": arguments.pop("thinking")} if "thinking" in arguments else {}
    return {"tool_calls": [{"name": name, "arguments": first | arguments}]}


def insert(text: str = "x", **more: object) -> dict[str, object]:
    return call("memory_insert", label="human", new_string=text, **more)


def rule(kind: str, tool: str, **more: object) -> dict[str, object]:
    return {"type": kind, "tool_name": tool, **more}


async def asked(
    provider: Provider, pool: Pool, replies: list[dict[str, object]], rules: Iterable[object], **settings: Any
) -> tuple[list[Event], list[Any], list[Message]]:
    """Run one turn of an agent with these rules; return its events, the requests, the stored messages."""
    await provider.script([*replies])
    steps = {"max_steps": settings.pop("max_steps")} if "max_steps" in settings else {}
    async with world(pool, provider) as w:
        agent_id = await w.agent(tool_rules=tuple(rules), **settings)
        events = await w.ask(agent_id, **steps)
        requests = [record.body for record in await provider.log()]
        return events, requests, await w.messages(agent_id)


def offered(request: Any) -> list[str]:
    return [tool["function"]["name"] for tool in request.get("tools", ())]


def results(messages: list[Message]) -> list[str]:
    return [p.text for m in messages for p in m.content if isinstance(p, ToolReturnPart)]


def heartbeats(messages: list[Message]) -> list[str]:
    return [
        m.content[0].text  # type: ignore[union-attr]
        for m in messages
        if m.role == "user" and m.step_id is not None
    ]


# --- rules on an agent that answers with text -----------------------------------------------------


async def test_only_the_first_tool_is_offered_at_first_and_its_set_arguments_win(
    pool: Pool, provider: Provider
) -> None:
    rules = [rule("run_first", "memory_insert", args={"new_string": "set", "label": "human"})]
    events, requests, messages = await asked(provider, pool, [insert("mine"), {"text": "done"}], rules)
    assert finish(events).stop_reason == "end_turn"
    assert offered(requests[0]) == ["memory_insert"]
    assert requests[0]["tool_choice"] == "required"
    assert requests[0]["parallel_tool_calls"] is False
    assert len(offered(requests[1])) == 3
    assert requests[1]["tool_choice"] == "auto"
    assert results(messages) == ["set"]
    (made,) = [p for m in messages for p in m.content if isinstance(p, ToolCallPart)]
    assert '"set"' in made.arguments
    assert "mine" not in made.arguments


async def test_an_exit_tool_ends_the_turn_with_tool_rule(pool: Pool, provider: Provider) -> None:
    events, requests, _ = await asked(
        provider, pool, [insert(), {"text": "never"}], [rule("exit_loop", "memory_insert")]
    )
    assert finish(events).stop_reason == "tool_rule"
    assert finish(events).status == "completed"
    assert len(requests) == 1


async def test_a_forbidden_call_is_answered_with_the_rule_and_the_loop_goes_on(
    pool: Pool, provider: Provider
) -> None:
    rules = [rule("constrain_child_tools", "conversation_search", children=["memory_insert"])]
    wrong = call("memory_replace", label="human", old_string="a", new_string="b")
    replies = [call("conversation_search", query="q"), wrong, insert(), {"text": "done"}]
    events, requests, messages = await asked(provider, pool, replies, rules)
    assert finish(events).stop_reason == "end_turn"
    assert offered(requests[1]) == ["memory_insert"]
    assert requests[1]["tool_choice"] == "required"
    refused = results(messages)[1]
    assert refused.startswith("[ToolConstraintError] Cannot call memory_replace, valid tools include: ")
    assert "['memory_insert']" in refused
    assert "After conversation_search, use only: memory_insert." in refused
    assert results(messages)[2] == "x"


async def test_arguments_of_a_child_are_set_by_its_node(pool: Pool, provider: Provider) -> None:
    rules = [
        rule(
            "constrain_child_tools",
            "conversation_search",
            children=["memory_insert"],
            child_arg_nodes=[{"name": "memory_insert", "args": {"new_string": "set"}}],
        )
    ]
    replies = [call("conversation_search"), insert("mine"), {"text": "done"}]
    _, _, messages = await asked(provider, pool, replies, rules)
    assert results(messages)[1] == "set"


async def test_set_arguments_that_the_tool_does_not_take_do_not_make_it_impossible(
    pool: Pool, provider: Provider
) -> None:
    rules = [rule("run_first", "memory_insert", args={"colour": "red"})]
    events, _, messages = await asked(provider, pool, [insert(), {"text": "done"}], rules)
    assert finish(events).stop_reason == "end_turn"
    assert results(messages) == ["x"]


async def test_a_child_is_offered_only_right_after_its_parent(pool: Pool, provider: Provider) -> None:
    rules = [rule("parent_last_tool", "conversation_search", children=["memory_replace"])]
    replies = [call("conversation_search"), {"text": "done"}]
    _, requests, _ = await asked(provider, pool, replies, rules)
    assert offered(requests[0]) == ["conversation_search", "memory_insert"]
    assert "memory_replace" in offered(requests[1])


async def test_a_result_chooses_the_next_tool(pool: Pool, provider: Provider) -> None:
    rules = [
        rule(
            "conditional",
            "memory_insert",
            child_output_mapping={"true": "memory_replace"},
            default_child="conversation_search",
        )
    ]
    for text, child in (("True", "memory_replace"), ("else", "conversation_search")):
        replies = [insert(text), {"text": "done"}]
        _, requests, _ = await asked(provider, pool, replies, rules)
        assert offered(requests[1]) == [child]
        assert requests[1]["tool_choice"] == "required"


async def test_a_tool_that_was_used_up_is_offered_no_more(pool: Pool, provider: Provider) -> None:
    rules = [rule("max_count_per_step", "memory_insert", max_count_limit=1)]
    replies = [insert(), insert(), {"text": "done"}]
    events, requests, messages = await asked(provider, pool, replies, rules)
    assert "memory_insert" in offered(requests[0])
    assert "memory_insert" not in offered(requests[1])
    assert "at most 1 times" in results(messages)[1]
    assert finish(events).stop_reason == "end_turn"


async def test_a_model_that_stops_early_is_told_what_is_missing_and_must_call(
    pool: Pool, provider: Provider
) -> None:
    rules = [rule("required_before_exit", "memory_insert")]
    replies = [{"text": "early"}, insert(), {"text": "done"}]
    events, requests, messages = await asked(provider, pool, replies, rules)
    assert finish(events).stop_reason == "end_turn"
    (told,) = heartbeats(messages)
    assert "memory_insert" in told
    assert '"type":"heartbeat"' in told
    assert [r["tool_choice"] for r in requests] == ["auto", "required", "auto"]
    assert requests[1]["messages"][-1]["content"] == told


async def test_a_model_that_never_does_what_is_required_ends_without_the_call(
    pool: Pool, provider: Provider
) -> None:
    rules = [rule("required_before_exit", "memory_insert")]
    events, requests, _ = await asked(provider, pool, [{"text": "no", "repeat": "forever"}], rules)
    assert finish(events).stop_reason == "no_tool_call"
    assert len(requests) == 4


async def test_the_limit_of_steps_ends_a_turn_that_rules_keep_open(pool: Pool, provider: Provider) -> None:
    rules = [rule("required_before_exit", "memory_insert")]
    events, _, messages = await asked(provider, pool, [{"text": "no"}], rules, max_steps=1)
    assert finish(events).stop_reason == "max_steps"
    assert heartbeats(messages) == []


async def test_of_several_calls_of_a_bound_agent_the_first_is_kept(pool: Pool, provider: Provider) -> None:
    both = {"tool_calls": [insert("a")["tool_calls"][0], insert("b")["tool_calls"][0]]}  # type: ignore[index]
    events, _, messages = await asked(
        provider, pool, [both, {"text": "done"}], [rule("continue_loop", "memory_insert")]
    )
    assert results(messages) == ["a"]
    assert len([e for e in events if isinstance(e, ToolCallStarted)]) == 1


async def test_new_rules_bind_from_the_next_step_on_and_stand_in_the_next_prompt(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "a"}, {"text": "b"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.ask(agent_id)
        rules = [rule("max_count_per_step", "memory_insert", max_count_limit=2)]
        await w.host.ref(agent_id).edit(UpdateAgent(changes=AgentChanges(settings={"tool_rules": rules})))
        await w.ask(agent_id)
        before, after = [r.body["messages"][0]["content"] for r in await provider.log()]
        assert "<tool_usage_rules>" not in before
        assert "<tool_rule>Use memory_insert at most 2 times for one request.</tool_rule>" in after


# --- agents that speak by calls ---------------------------------------------------------------------


async def test_a_memgpt_agent_is_forced_to_call_with_thoughts_and_a_heartbeat(
    pool: Pool, provider: Provider
) -> None:
    replies = [call("send_message", thinking="They greet me.", message="Hello!")]
    events, requests, messages = await asked(
        provider, pool, replies, BASE_RULES, agent_type="memgpt_v2_agent"
    )
    assert finish(events).stop_reason == "tool_rule"
    (request,) = requests
    assert request["tool_choice"] == "required"
    assert request["parallel_tool_calls"] is False
    schemas = {t["function"]["name"]: t["function"]["parameters"] for t in request["tools"]}
    assert list(schemas["send_message"]["properties"]) == ["thinking", "message"]
    assert schemas["memory_insert"]["required"][0] == "thinking"
    assert list(schemas["memory_insert"]["properties"])[-1] == "request_heartbeat"
    thought = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    assert thought == "They greet me."
    shown = "".join(e.text for e in events if isinstance(e, ToolCallDelta))
    assert shown == '{"message": "Hello!"}' or shown == '{"message":"Hello!"}'
    assert not [e for e in events if isinstance(e, TextDelta)]
    reply = next(m for m in messages if m.role == "assistant")
    assert reply.content[0] == ReasoningPart("They greet me.", source="non_reasoner_model")
    assert results(messages) == ["Sent message successfully."]


@pytest.mark.parametrize("wants", [True, False])
async def test_without_rules_a_heartbeat_decides_whether_the_turn_goes_on(
    pool: Pool, provider: Provider, wants: bool
) -> None:
    replies = [
        insert(thinking="Keep it.", request_heartbeat=wants),
        call("send_message", thinking="Now say it.", message="Noted", request_heartbeat=False),
    ]
    events, requests, messages = await asked(provider, pool, replies, (), agent_type="memgpt_v2_agent")
    assert finish(events).stop_reason == "end_turn"
    assert len(requests) == (2 if wants else 1)
    assert len(heartbeats(messages)) == int(wants)
    if wants:
        again = requests[1]["messages"]
        assert '"type":"heartbeat"' in again[-1]["content"]
        sent_back = again[-3]["tool_calls"][0]["function"]["arguments"]
        assert sent_back.startswith('{"thinking": "Keep it."')


async def test_a_rule_lets_the_turn_go_on_without_being_asked(pool: Pool, provider: Provider) -> None:
    replies = [insert(thinking="a", request_heartbeat=False), call("send_message", thinking="b", message="c")]
    events, _, messages = await asked(provider, pool, replies, BASE_RULES, agent_type="memgpt_v2_agent")
    assert finish(events).stop_reason == "tool_rule"
    assert results(messages) == ["x", "Sent message successfully."]


async def test_a_message_without_its_argument_is_an_error_to_the_model_and_the_loop_goes_on(
    pool: Pool, provider: Provider
) -> None:
    replies = [call("send_message", thinking="oops"), call("send_message", thinking="again", message="Hi")]
    events, _, messages = await asked(provider, pool, replies, BASE_RULES, agent_type="memgpt_v2_agent")
    assert finish(events).stop_reason == "tool_rule"
    assert "message is missing" in results(messages)[0]
    assert results(messages)[1] == "Sent message successfully."


async def test_text_without_a_call_is_thought_and_the_model_is_told_to_call(
    pool: Pool, provider: Provider
) -> None:
    replies = [{"text": "just words"}, call("send_message", thinking="ok", message="Hi")]
    events, _, messages = await asked(provider, pool, replies, BASE_RULES, agent_type="memgpt_v2_agent")
    assert finish(events).stop_reason == "tool_rule"
    (told,) = heartbeats(messages)
    assert "send_message" in told
    said = next(m for m in messages if m.role == "assistant")
    assert said.content == (ReasoningPart("just words", source="non_reasoner_model"),)


async def test_a_model_that_never_calls_ends_with_no_tool_call(pool: Pool, provider: Provider) -> None:
    events, requests, _ = await asked(
        provider, pool, [{"text": "words", "repeat": "forever"}], BASE_RULES, agent_type="memgpt_v2_agent"
    )
    assert finish(events).stop_reason == "no_tool_call"
    assert len(requests) == 4


async def test_a_tool_that_failed_gives_the_model_another_turn(pool: Pool, provider: Provider) -> None:
    replies = [
        call(
            "memory_replace",
            thinking="t",
            label="human",
            old_string="not there",
            new_string="b",
            request_heartbeat=False,
        ),
        call("send_message", thinking="b", message="c", request_heartbeat=False),
    ]
    events, _, messages = await asked(provider, pool, replies, (), agent_type="memgpt_v2_agent")
    assert finish(events).stop_reason == "end_turn"
    assert len(results(messages)) == 2


# --- after a crash --------------------------------------------------------------------------------


async def test_what_rules_look_at_is_read_back_from_the_messages_of_the_run(
    pool: Pool, provider: Provider
) -> None:
    rules = (
        rule("max_count_per_step", "memory_insert", max_count_limit=1),
        rule("required_before_exit", "memory_replace"),
    )
    replies = [insert(), insert(), {"text": "early"}, {"text": "early", "gate": "go"}]
    await provider.script([*replies])
    async with world(pool, provider) as w:
        agent_id = await w.agent(tool_rules=rules)
        await w.tell(agent_id)
        await provider.log(requests=4, keep=True)
        actor = w.host._population.hot[agent_id]
        runner = actor.thread(agent_id).turn
        assert runner is not None
        stored = [m for m in await w.messages(agent_id) if m.position > 0]
        again = offers.recovered(Turn(max_steps=50), runner.policy, stored)
        assert again.ran == runner.turn.ran
        assert again.ran.counts == {"memory_insert": 1}
        assert again.reminders == runner.turn.reminders == 1
        await provider.open("go")


def test_a_call_that_never_reached_its_tool_did_not_run() -> None:
    calls = [ToolCallPart("1", "a", "{}")]
    texts = {
        "[ToolConstraintError] Cannot call a, valid tools include: []": False,
        "Error: a was not run, because its arguments are wrong: x.": False,
        "Error executing function a: ValueError: no": True,
    }
    for text, ran in texts.items():
        (one,) = offers.called(calls, [ToolReturnPart("1", "a", "error", text)])
        assert (one.ran, one.failed) == (ran, True)
    (fine,) = offers.called(calls, [ToolReturnPart("1", "a", "success", "[ToolConstraintError]")])
    assert fine.ran
    assert not fine.failed


def test_an_agent_without_rules_is_bound_by_nothing() -> None:
    assert not Policy(rules=compiled([rule("requires_approval", "a")]), attached=("a",)).binds
    assert replace(Policy(), memgpt=True).binds


async def test_rules_bind_a_run_that_goes_on_after_a_restart(pool: Pool, provider: Provider) -> None:
    rules = (rule("max_count_per_step", "memory_insert", max_count_limit=1),)
    await provider.script([insert("once"), {"fault": "hang"}, insert("twice"), {"text": "done"}])
    async with world(pool, provider, settings=HostSettings(drain_seconds=0)) as w:
        agent_id = await w.agent(tool_rules=rules)
        receipt = await w.tell(agent_id)
        await provider.log(requests=2)
    async with world(pool, provider) as w:
        events = await w.events(receipt, agent_id)
        assert finish(events).stop_reason == "end_turn"
        assert await w.value(agent_id) == "once"
        for record in await provider.log():
            assert "memory_insert" not in offered(record.body)


async def test_an_attempt_cut_before_its_thoughts_is_made_again(pool: Pool, provider: Provider) -> None:
    say = call("send_message", thinking="t", message="Hi")
    cut = say | {"fault": "cut_after", "tokens": 1, "chunk": 1000}
    events, requests, messages = await asked(
        provider, pool, [cut, say], BASE_RULES, agent_type="memgpt_v2_agent"
    )
    assert finish(events).stop_reason == "tool_rule"
    assert len(requests) == 2
    (made,) = [p for m in messages for p in m.content if isinstance(p, ToolCallPart)]
    assert made.arguments in ('{"message": "Hi"}', '{"message":"Hi"}')
