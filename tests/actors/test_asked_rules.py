"""Tools that rules bind and that need an approval: approved or denied, the turn leads on."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import loop
from actors.loop import Called, CallModel, Finish, Policy, Turn
from actors.rules import Ran, Rules
from bench.provider import Provider
from storage.pool import Pool
from storage.records import ApprovalPart
from tests.actors.test_offers import call, insert, offered, rule
from tests.actors.test_rules import TOOLS, rule_sets
from tests.actors.worlds import World, finish, world

ASKED = "memory_insert"
REPLACE = call("memory_replace", label="human", old_string="x", new_string="y")
SEARCH = call("conversation_search", query="tea")
DONE = {"text": "done"}

# By kind: the rules beside the approval, what the model does until it asks, and what ends the turn then.
KINDS: dict[str, tuple[tuple[dict[str, object], ...], tuple[Any, ...]]] = {
    "first": ((rule("run_first", ASKED, args={"new_string": "x"}),), ()),
    "terminal": ((rule("exit_loop", ASKED),), ()),
    "continued": ((rule("continue_loop", ASKED),), ()),
    "child": ((rule("constrain_child_tools", "conversation_search", children=[ASKED]),), (SEARCH,)),
    "with children": ((rule("constrain_child_tools", ASKED, children=["memory_replace"]),), ()),
    "only after a parent": (
        (rule("parent_last_tool", "conversation_search", children=[ASKED]),),
        (SEARCH,),
    ),
    "parent": ((rule("parent_last_tool", ASKED, children=["memory_replace"]),), ()),
    "conditional": (
        (
            rule(
                "conditional",
                ASKED,
                child_output_mapping={"no": "conversation_search"},
                default_child="memory_replace",
            ),
        ),
        (),
    ),
    "limited": ((rule("max_count_per_step", ASKED, max_count_limit=1),), ()),
    "required": ((rule("required_before_exit", ASKED),), ()),
}


async def asking(w: World, provider: Provider, kind: str) -> str:
    """Let an agent under rules come to the call that needs an approval; return the agent."""
    rules, before = KINDS[kind]
    await provider.script([*before, _asked()])
    agent_id = await w.agent(tool_rules=(*rules, rule("requires_approval", ASKED)))
    assert finish(await w.ask(agent_id)).stop_reason == "requires_approval"
    await provider.log()
    return agent_id


def _asked(text: str = "x", call_id: str = "call-1") -> dict[str, Any]:
    made: Any = insert(text)
    made["tool_calls"][0]["id"] = call_id
    return made


async def answered(w: World, agent_id: str, *, approve: bool, call_id: str = "call-1") -> Any:
    decision = ApprovalPart(call_id, approve=approve, reason=None if approve else "not now")
    return finish(await w.ask(agent_id, "", messages=(), approvals=(decision,)))


# What the model is offered after an approval; None is that it is asked no more.
OFFERED_AFTER_APPROVAL = {
    "first": {"memory_insert", "memory_replace", "conversation_search"},
    "terminal": None,
    "continued": {"memory_insert", "memory_replace", "conversation_search"},
    "child": {"memory_insert", "memory_replace", "conversation_search"},
    "with children": {"memory_replace"},
    "only after a parent": {"memory_replace", "conversation_search"},
    "parent": {"memory_insert", "memory_replace", "conversation_search"},
    "conditional": {"memory_replace"},
    "limited": {"memory_replace", "conversation_search"},
    "required": {"memory_insert", "memory_replace", "conversation_search"},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_approved_call_counts_for_its_rules(pool: Pool, provider: Provider, kind: str) -> None:
    async with world(pool, provider) as w:
        agent_id = await asking(w, provider, kind)
        expected = OFFERED_AFTER_APPROVAL[kind]
        forced = expected == {"memory_replace"}
        await provider.script([REPLACE, DONE] if forced else [DONE])
        terminal = await answered(w, agent_id, approve=True)
        assert terminal.stop_reason == ("tool_rule" if expected is None else "end_turn")
        assert await w.value(agent_id) == ("y" if forced else "x")
        requests = [record.body for record in await provider.log()]
        if expected is None:
            assert requests == []
        else:
            names = set(offered(requests[0])) & {"memory_insert", "memory_replace", "conversation_search"}
            assert names == expected
            assert requests[0].get("tool_choice", "auto") == ("required" if forced else "auto")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_denied_call_binds_nobody_to_what_would_have_followed(
    pool: Pool, provider: Provider, kind: str
) -> None:
    async with world(pool, provider) as w:
        agent_id = await asking(w, provider, kind)
        await provider.script([DONE])
        assert (await answered(w, agent_id, approve=False)).stop_reason == "end_turn"
        assert await w.value(agent_id) == ""
        (request,) = [record.body for record in await provider.log()]
        assert request.get("tool_choice", "auto") == "auto"  # it may answer, and need not ask again
        assert offered(request)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_limit_counts_over_answers_and_over_a_restart(
    pool: Pool, provider: Provider, restart: bool
) -> None:
    rules = (rule("max_count_per_step", ASKED, max_count_limit=2), rule("requires_approval", ASKED))
    await provider.script([_asked("1")])
    async with world(pool, provider) as w:
        agent_id = await w.agent(tool_rules=rules)
        await w.ask(agent_id)
        if not restart:
            await _second_and_last(w, provider, agent_id)
            return
    async with world(pool, provider) as w:
        await _second_and_last(w, provider, agent_id)


async def _second_and_last(w: World, provider: Provider, agent_id: str) -> None:
    await provider.script([_asked("2", "call-2")])
    assert (await answered(w, agent_id, approve=True)).stop_reason == "requires_approval"
    await provider.log()
    await provider.script([DONE])
    last = await answered(w, agent_id, approve=True, call_id="call-2")
    assert last.stop_reason == "end_turn"
    (request,) = [record.body for record in await provider.log()]
    assert ASKED not in offered(request)


async def test_what_ran_before_a_request_is_not_owed_again_after_the_answer(
    pool: Pool, provider: Provider
) -> None:
    rules = (
        rule("required_before_exit", "conversation_search"),
        rule("run_first", "conversation_search"),
        rule("requires_approval", ASKED),
    )
    await provider.script([SEARCH, _asked()])
    async with world(pool, provider) as w:
        agent_id = await w.agent(tool_rules=rules)
        await w.ask(agent_id)
        await provider.log()
        await provider.script([DONE])
        assert (await answered(w, agent_id, approve=True)).stop_reason == "end_turn"
        assert len(await provider.log()) == 1


# --- any rules --------------------------------------------------------------------------------------

moves = st.tuples(
    st.sampled_from((*TOOLS, None)), st.sampled_from(["1", "True", "x"]), st.sampled_from(["yes", "no"])
)


@given(rule_sets, st.sets(st.sampled_from(TOOLS)), st.lists(moves, max_size=40), st.booleans())
@settings(max_examples=400)
def test_whatever_people_answer_no_turn_is_at_a_dead_end(
    some: Rules, asks: set[str], script: list[Any], memgpt: bool
) -> None:
    policy = Policy(rules=some, attached=TOOLS, memgpt=memgpt)
    turn, made = Turn(max_steps=60), list[str]()
    for name, output, said in script:
        action = loop.next_action(turn)
        if isinstance(action, Finish):
            break
        assert action == CallModel()
        allowed = some.allowed(turn.ran, TOOLS)
        used_up = {n for n, limit in some.limits.items() if turn.ran.counts.get(n, 0) >= limit}
        assert allowed or used_up >= set(TOOLS)
        if name is None:
            turn, _ = loop.after_answer(_answered(turn), policy)
            continue
        if name in allowed and name in asks:  # the turn ends here; the answer's begins with what ran
            turn = Turn(max_steps=60, ran=turn.ran)
            denied = said == "no"
            made.append(name)
        else:
            denied = False
            if name in allowed:
                made.append(name)
        ran = name in allowed and not denied
        turn, _ = loop.after_calls(turn, [Called(name, output, ran=ran, denied=denied)], policy)
        if denied:
            after = some.allowed(turn.ran, TOOLS)
            assert not some.forced(turn.ran, after)
            assert loop.next_action(turn) == CallModel()
            assert name not in some.missing(turn.ran, TOOLS)
    for name, limit in some.limits.items():
        assert made.count(name) <= limit


def _answered(turn: Turn) -> Turn:
    return loop.after_model(turn, ())


def test_a_denied_call_uses_up_a_limit_and_leads_nowhere() -> None:
    ran = Ran().after("a", "1").refused("b")
    assert (dict(ran.counts), ran.last, ran.output) == ({"a": 1, "b": 1}, None, "")
