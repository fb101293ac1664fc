import msgspec

from actors import boot
from actors.commands import InputMessage
from actors.window import repair
from storage.records import ReasoningPart, TextPart, ToolCallPart, ToolReturnPart
from tests.actors.pieces import BORN, agent


def said(role: str, text: str, otid: str | None = None) -> InputMessage:
    return InputMessage(role=role, content=(TextPart(text),), otid=otid)  # type: ignore[arg-type]


def test_an_agent_that_speaks_in_text_begins_with_nothing() -> None:
    assert boot.sequence(agent(), None, at=BORN) == ()


def test_an_agent_that_speaks_by_calls_has_spoken_and_seen_a_login() -> None:
    who = agent(agent_type="memgpt_agent", timezone="Europe/Berlin")
    spoke, heard, login = boot.sequence(who, None, at=BORN)
    thought, call = spoke.content
    (result,) = heard.content
    assert isinstance(thought, ReasoningPart)
    assert isinstance(call, ToolCallPart)
    assert isinstance(result, ToolReturnPart)
    assert (call.name, result.tool_call_id, result.status) == ("send_message", call.id, "success")
    (words,) = login.content
    assert isinstance(words, TextPart)
    assert msgspec.json.decode(words.text) == {
        "type": "login",
        "last_login": "Never (first login)",
        "time": "2026-01-02 04:04:05 AM CET+0100",
    }
    assert [m.position for m in (spoke, heard, login)] == [1, 2, 3]
    assert all(m.tokens > 0 and m.step_id is None for m in (spoke, heard, login))


def test_messages_of_ones_own_replace_it_and_an_agent_that_speaks_by_calls_keeps_doing_so() -> None:
    given = (said("user", "hi", "o-1"), said("assistant", "hello", "o-2"), said("system", "note"))
    plain = boot.sequence(agent(), given, at=BORN)
    assert [(m.role, m.otid) for m in plain] == [("user", "o-1"), ("assistant", "o-2"), ("system", None)]
    calls = boot.sequence(agent(agent_type="memgpt_v2_agent"), given, at=BORN)
    assert [(m.role, m.otid) for m in calls] == [
        ("user", "o-1"),
        ("assistant", "o-2"),
        ("tool", None),
        ("system", None),
    ]
    assert repair(calls).messages == calls
    assert boot.sequence(agent(agent_type="memgpt_agent"), (), at=BORN) == ()
