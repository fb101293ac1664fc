"""Steps without results: found, kept together, and never run beyond what was allowed."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors import openstep
from actors.loop import Policy
from actors.openstep import OpenStep
from actors.tools import outside
from actors.tools.spec import ToolSpec, arguments_of
from actors.window import INTERRUPTED
from storage.records import ApprovalPart, Message, TextPart, Tool, ToolCallPart, ToolReturnPart
from tests.actors.pieces import BORN, built_in_tools, message

FREE = Policy()  # no rule binds the agent
MAIL = ToolSpec(
    name="mail",
    description="Mail.",
    parameters=arguments_of(()),
    tool_type="custom",
    kind="call",
    effects="outside",
)


async def send(_: outside.Invocation) -> str:
    """Send nothing."""
    return ""


def tools() -> dict[str, Tool]:
    """Return the built-in tools, and the one with outside effects."""
    mail = Tool(
        id="tool-mail",
        organization_id="org",
        name="mail",
        tool_type="custom",
        description="",
        json_schema=MAIL.json_schema,
        created_at=BORN,
        updated_at=BORN,
    )
    return {**built_in_tools(), "mail": mail}


def step(position: int, step_id: str, *calls: ToolCallPart) -> Message:
    """Return a message of the model."""
    return replace(message(position, "assistant", TextPart("hm"), *calls), step_id=step_id)


def mails(count: int) -> OpenStep:
    """Return a step with so many calls."""
    return OpenStep((step(1, "s", *(ToolCallPart(f"c{i}", "mail", "{}") for i in range(count))),))


def test_the_last_step_without_results_is_found() -> None:
    done = step(1, "s1", ToolCallPart("a", "mail", "{}"))
    result = replace(message(2, "tool", ToolReturnPart("a", "mail", "success", "")), step_id="s1")
    waiting = step(3, "s2", ToolCallPart("b", "mail", "{}"))
    asks = replace(message(4, "approval", ToolCallPart("c", "mail", "{}")), step_id="s2")
    history = [done, result, waiting, asks]
    found = openstep.find(history, {"s1", "s2"})
    assert found is not None
    assert found.messages == (waiting, asks)
    assert [call.id for call in found.calls] == ["b", "c"]
    assert (found.step_id, found.position) == ("s2", 3)
    assert openstep.find(history, {"s1"}) is None
    assert openstep.find(history, ()) is None


DECISIONS = st.sampled_from(["approve", "deny", "result", "none"])


@given(st.lists(st.tuples(DECISIONS, st.booleans()), min_size=1, max_size=6), st.booleans())
def test_what_was_denied_or_may_have_run_never_runs(fates: list[tuple[str, bool]], idempotent: bool) -> None:
    spec = replace(MAIL, idempotent=idempotent)
    decisions: list[ApprovalPart | ToolReturnPart] = []
    for i, (what, _) in enumerate(fates):
        if what in ("approve", "deny"):
            decisions.append(ApprovalPart(f"c{i}", approve=what == "approve"))
        elif what == "result":
            decisions.append(ToolReturnPart(f"c{i}", "mail", "success", "mine"))
    intended = {f"c{i}" for i, (_, began) in enumerate(fates) if began}
    with outside.registered(spec, send):
        prepared = openstep.prepare(mails(len(fates)), decisions, tools(), policy=FREE, intended=intended)
    assert [p.call.id for p in prepared] == [f"c{i}" for i in range(len(fates))]
    for (what, began), call in zip(fates, prepared, strict=True):
        allowed = what in ("approve", "none") or (what == "result" and began)
        assert call.runs == (allowed and (idempotent or not began))
        if began and not call.runs:
            assert call.outcome == "uncertain"
            assert call.result is not None
            assert call.result.text == INTERRUPTED
        elif what == "result" and not began:
            assert call.result is not None
            assert call.result.text == "mine"


def test_changed_arguments_are_those_that_are_checked_and_run() -> None:
    with outside.registered(MAIL, send):
        [call] = openstep.prepare(
            mails(1), [ApprovalPart("c0", approve=True, arguments="{no json")], tools(), policy=FREE
        )
    assert call.invalid
    assert call.result is not None


def test_only_intended_calls_have_rows() -> None:
    with outside.registered(MAIL, send):
        prepared = openstep.prepare(mails(2), [], tools(), policy=FREE, intended={"c1"})
    rows = openstep.records(prepared, agent_id="agent-1", step_id="s", intended={"c1"})
    assert [(row.call_id, row.state) for row in rows] == [("c1", "uncertain")]
