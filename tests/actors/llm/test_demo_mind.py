"""What the demo decides to do next."""

from actors.llm.demo_mind import CAPABILITIES, MemoryBlock, Reply, ToolUse, View, reply, sum_up

HUMAN = MemoryBlock("human", "I live in Lisbon")
PERSONA = MemoryBlock("persona", "My name is Ferdinand.")
TOOLS = frozenset({"memory_insert", "conversation_search"})


def test_a_statement_is_noted_in_the_human_block() -> None:
    said = reply(View("My name is Ana. I like figs.", (PERSONA, HUMAN), TOOLS))
    assert said.tool == "memory_insert"
    assert said.arguments == {"label": "human", "new_string": "My name is Ana.\nI like figs."}
    assert said.thought
    assert not said.text


def test_the_first_writable_block_serves_where_there_is_no_human_one() -> None:
    blocks = (MemoryBlock("rules", "", read_only=True), PERSONA)
    assert reply(View("I like figs", blocks, TOOLS)).arguments["label"] == "persona"


def test_what_was_noted_is_said_and_not_noted_again() -> None:
    done = (ToolUse("memory_insert", "I live in Lisbon\nI like figs"),)
    assert reply(View("I like figs", (HUMAN,), TOOLS, done)).text == "I'll remember \u201cI like figs\u201d."
    known = reply(View("I live in lisbon!", (HUMAN,), TOOLS))
    assert not known.tool
    assert "remember that already" in known.text


def test_a_note_that_failed_is_admitted() -> None:
    for result in (
        "Error executing function memory_insert: read-only",
        '{"status": "Failed"}',
        "[ToolConstraintError] no",
    ):
        said = reply(View("I like figs", (HUMAN,), TOOLS, (ToolUse("memory_insert", result),)))
        assert "could not note" in said.text
        assert not said.tool


def test_a_missing_tool_or_block_is_said_in_words() -> None:
    assert "memory_insert" in reply(View("I like figs", (HUMAN,))).text
    assert "no memory block" in reply(View("I like figs", (), TOOLS)).text
    assert "conversation_search" in reply(View("What is my name?", ())).text
    assert reply(View("Where do I live?", (HUMAN,))).text == "You told me: \u201cI live in Lisbon\u201d."


def test_the_older_tool_s_argument_has_its_own_name() -> None:
    said = reply(View("I like figs", (HUMAN,), frozenset({"core_memory_append"})))
    assert said.arguments == {"label": "human", "content": "I like figs"}


def test_a_question_is_looked_up_and_answered_by_quoting() -> None:
    view = View("Where do I live?", (HUMAN,), TOOLS)
    assert reply(view) == Reply(
        "A question about live; I search what was said.", "", "conversation_search", {"query": "live"}
    )
    found = View(
        view.said, (), TOOLS, (ToolUse("conversation_search", "…"),), ("Where do I live?", "I live in Rome.")
    )
    assert reply(found).text == "You told me: \u201cI live in Rome\u201d."


def test_what_is_nowhere_is_not_known() -> None:
    done = (ToolUse("conversation_search", "{}"),)
    assert reply(View("What is my shoe size?", (HUMAN,), TOOLS, done)).text == "I don't know that yet."


def test_a_statement_and_a_question_are_both_served() -> None:
    view = View("I like figs. Where do I live?", (HUMAN,), TOOLS)
    assert reply(view).tool == "memory_insert"
    noted = ToolUse("memory_insert", "ok")
    assert reply(View(view.said, (HUMAN,), TOOLS, (noted,))).tool == "conversation_search"
    searched = ToolUse("conversation_search", "{}")
    said = reply(View(view.said, (HUMAN,), TOOLS, (noted, searched))).text
    assert "I'll remember" in said
    assert "Lisbon" in said


def test_anything_else_gets_what_it_can_do() -> None:
    for said in ("Hello!", "", "Thanks", "\ud83d", "🙂"):
        assert reply(View(said, (HUMAN,), TOOLS)).text == CAPABILITIES
    assert CAPABILITIES in reply(View("What can you do?", (HUMAN,), TOOLS)).text
    assert "Ferdinand" in reply(View("What is your name?", (HUMAN, PERSONA), TOOLS)).text


def test_a_summary_keeps_what_was_stated_once_and_what_was_kept_before() -> None:
    piece = "user: I like figs. Is it late?\nassistant: I like nothing.\nuser: My cat is Miu."
    assert sum_up("I like figs.", piece).text == "I like figs.\nMy cat is Miu."
    assert sum_up("", "user: What time is it?").text == "Nothing was stated that should be kept."
