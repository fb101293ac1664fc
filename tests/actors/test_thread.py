import msgspec
from msgspec.structs import replace

from actors.heard import Heard
from actors.llm.dialects import CHAT, Dialect
from actors.thread import ENCODED_AT_ONCE, Thread, compile_for, text_parts
from storage.records import Message, ModelSettings, TextPart, ToolCallPart, ToolReturnPart
from tests.actors.pieces import BORN, agent, conversation, message, waiting
from tests.actors.worlds import new_block

CALL = ToolCallPart("call-1", "conversation_search", "{}")
RESULT = ToolReturnPart("call-1", "conversation_search", "success", "[]")


def loaded(*messages: Message) -> Thread:
    thread = Thread(conversation())
    list(thread.loading([message(0, "system", TextPart("You are a test."), tokens=5), *messages]))
    return thread


def roles(thread: Thread) -> list[str]:
    return [msgspec.json.decode(e.wire)["role"] for e in thread.entries]


def test_a_loaded_window_is_ready_for_the_model() -> None:
    thread = loaded(message(1, "user", TextPart("hi")), message(2, "assistant", TextPart("hello")))
    assert roles(thread) == ["user", "assistant"]
    assert thread.tokens == 20
    assert thread.system_text == "You are a test."
    assert msgspec.json.decode(thread.system_wire)["role"] == "system"
    assert thread.loaded


def test_a_long_window_is_loaded_in_pieces_and_ready_after_the_last() -> None:
    thread = Thread(conversation())
    system = message(0, "system", TextPart("You are a test."))
    rest = [message(i, "user", TextPart("x")) for i in range(1, 2 * ENCODED_AT_ONCE + 2)]
    pieces = thread.loading([system, *rest])
    for _ in range(2):
        next(pieces)
        assert not thread.loaded
        assert not thread.entries
    assert list(pieces) == []
    assert thread.loaded
    assert [e.position for e in thread.entries] == [m.position for m in rest]


def test_its_size_follows_what_models_see() -> None:
    thread = loaded(*[message(i, "user", TextPart("x" * 1000)) for i in range(1, 4)])
    full = thread.size_bytes
    assert full > 3000
    thread.append([message(4, "user", TextPart("x" * 1000))])
    assert thread.size_bytes > full + 1000
    thread.evict(2)
    assert thread.size_bytes == full
    thread.clear()
    assert thread.size_bytes < 1500


def test_a_broken_history_is_mended_as_it_is_loaded() -> None:
    thread = loaded(
        message(1, "user", TextPart("hi")),
        message(2, "assistant", CALL),
        message(3, "user", TextPart("and?")),
    )
    assert roles(thread) == ["user", "assistant", "tool", "user"]


def test_an_open_step_of_a_parent_is_not_its_forks() -> None:
    asking = replace(message(2, "assistant", CALL), step_id="step-1")
    own = (message(0, "system", TextPart("a")), message(1, "user", TextPart("hi")), asking)
    parent = Thread(conversation())
    list(parent.loading([*own], open_steps={"step-1"}))
    assert (parent.open is not None, roles(parent)) == (True, ["user"])
    fork = Thread(replace(conversation(), id="conv-2", parent_id=parent.id, parent_position=2))
    list(fork.loading([*own, message(3, "user", TextPart("and?"))], open_steps={"step-1"}))
    assert (fork.open, roles(fork)) == (None, ["user", "assistant", "tool", "user"])


def test_committed_messages_are_appended_and_the_end_moves_past_excluded_ones() -> None:
    thread = loaded()
    thread.append([message(1, "user", TextPart("x"), excluded=True), message(2, "user", TextPart("y"))])
    assert roles(thread) == ["user"]
    assert thread.end_position == 3
    assert thread.tokens == 10


def test_what_it_was_asked_for_once_it_goes_on_remembering() -> None:
    thread = loaded()
    said = replace(message(1, "user", TextPart("hi")), otid="a", run_id="run-1")
    thread.append([said])
    assert thread.heard is None
    thread.heard, before = Heard([("a", "run-1")]), thread.size_bytes
    thread.append([replace(said, position=2, otid="b", excluded=True)])
    assert thread.heard.among("abc") == {"a": "run-1", "b": "run-1"}
    assert thread.size_bytes > before


def test_an_eviction_moves_the_start_and_the_count() -> None:
    thread = loaded(*[message(i, "user", TextPart("x")) for i in range(1, 6)])
    thread.evict(4)
    assert [e.position for e in thread.entries] == [4, 5]
    assert (thread.from_position, thread.tokens) == (4, 20)


def test_a_window_is_written_again_only_when_its_start_or_its_summary_moves() -> None:
    thread = loaded(*(message(i, "user", TextPart(f"{i}")) for i in range(1, 4)))
    first = thread.window_until(4)
    assert not first.only_grows
    thread.keep(first)
    thread.append([message(4, "assistant", TextPart("4"))])
    assert thread.window_until(5).only_grows
    thread.append([message(5, "summary", TextPart("1 to 4"))])
    assert not thread.window_until(6).only_grows
    thread.keep(thread.window_until(6))
    assert thread.window_until(7).only_grows
    thread.evict(3)
    assert not thread.window_until(7).only_grows
    thread.keep(thread.window_until(7))
    thread.clear()
    assert not thread.window_until(7).only_grows


def test_a_window_that_nobody_has_read_is_always_written() -> None:
    thread = Thread(conversation())
    thread.keep(thread.window_until(2))
    assert not thread.window_until(3).only_grows


def test_what_is_withdrawn_is_shown_to_models_no_more() -> None:
    thread = loaded(
        message(1, "user", TextPart("x")), message(2, "assistant", CALL), message(3, "tool", RESULT)
    )
    thread.withdraw({2, 3})
    assert [e.position for e in thread.entries] == [1]
    assert (thread.tokens, thread.from_position) == (10, 1)


def test_a_call_id_of_the_window_is_known_and_a_part_of_one_is_not() -> None:
    thread = loaded(message(1, "assistant", CALL), message(2, "tool", RESULT))
    assert thread.has_call("call-1")
    assert not thread.has_call("call-")
    assert not thread.has_call("conversation_search!")


def test_steering_that_came_too_late_is_taken_before_what_waits() -> None:
    thread = Thread(conversation())
    thread.mailbox.put(waiting(1))
    thread.steering.append(waiting(2))
    assert thread.busy
    taken = [thread.take(), thread.take()]
    assert [w.seq for w in taken if w] == [2, 1]
    assert thread.take() is None
    assert not thread.busy


def test_a_command_is_removed_wherever_it_waits() -> None:
    thread = Thread(conversation())
    thread.mailbox.put(waiting(1))
    thread.steering.append(waiting(2))
    assert thread.remove("run-2") is not None
    assert thread.remove("run-1") is not None
    assert thread.remove("run-1") is None


def test_commands_that_had_joined_a_turn_before_are_taken_together() -> None:
    thread = Thread(conversation())
    for command in (waiting(1, applied=True), waiting(2), waiting(3, applied=True)):
        thread.mailbox.put(command)
    assert [w.seq for w in thread.take_applied()] == [1, 3]
    assert [w.seq for w in thread.mailbox] == [2]


def test_a_crash_before_any_turn_is_blamed_on_the_command_that_is_next() -> None:
    thread = Thread(conversation())
    assert thread.in_hand() == set()
    thread.mailbox.put(waiting(4))
    thread.mailbox.put(waiting(5))
    assert thread.in_hand() == {4}
    thread.steering.append(waiting(6))
    assert thread.in_hand() == {6}


def test_the_prompt_shows_the_blocks_and_grows_with_them() -> None:
    thread = loaded()
    text = compile_for(agent(), [new_block("human", "Likes tea")], thread, at=BORN, line_numbers=False)
    assert "Likes tea" in text
    before = thread.size_bytes
    thread.set_system("message-0", text, 50)
    assert thread.size_bytes > before
    assert thread.system_tokens == 50
    assert text_parts(text) == (TextPart(text),)


def test_a_conversations_own_settings_win_key_by_key() -> None:
    agents = ModelSettings(temperature=1.0, max_output_tokens=9, reasoning_effort="low", extra={"top_p": 1})
    thread = Thread(conversation())
    assert thread.model_settings(agents) is agents
    own = {"provider_type": "openai", "temperature": 0.5, "strict": None, "seed": 7}
    thread.conversation = replace(thread.conversation, model_settings=own)
    assert thread.model_settings(agents) == replace(agents, temperature=0.5, extra={"top_p": 1, "seed": 7})
    own = {"reasoning": {"reasoning_effort": "high"}, "parallel_tool_calls": False}
    thread.conversation = replace(thread.conversation, model_settings=own)
    assert thread.model_settings(agents) == replace(
        agents, reasoning_effort="high", parallel_tool_calls=False
    )


def test_a_window_is_encoded_anew_for_a_model_of_another_dialect() -> None:
    stored = [
        message(0, "system", TextPart("You are a test.")),
        message(1, "summary", TextPart("earlier")),
        message(2, "user", TextPart("hi")),
        message(3, "assistant", CALL),
        message(4, "tool", RESULT),
    ]
    thread = loaded(*stored[1:])
    chat, tokens = [e.wire for e in thread.view], thread.tokens
    thread.recode(stored, Dialect(api="responses"))
    kinds = [msgspec.json.decode(e.wire).get("type", "message") for e in thread.view]
    assert kinds == ["message", "message", "function_call", "function_call_output"]
    assert (thread.tokens, thread.system_text) == (tokens, "You are a test.")
    thread.append([message(5, "user", TextPart("and?")), message(6, "assistant", CALL)])
    assert msgspec.json.decode(thread.entries[-1].wire)["type"] == "function_call"
    thread.recode(stored, CHAT)
    assert [e.wire for e in thread.view] == chat
