from msgspec.structs import replace

from actors import prompt, summary
from actors.summary import CompactionStats
from gateway.letta import context as letta_context
from storage.records import TextPart, ToolCallPart, ToolReturnPart
from tests.actors.pieces import BORN, agent, conversation, message
from tests.actors.worlds import new_block

STATS = CompactionStats(trigger="manual", context_window=9, messages_count_before=4, messages_count_after=2)


def words(text: str) -> int:
    return len(text.split())


def test_every_part_of_a_window_is_counted_once() -> None:
    text = prompt.compile_system(
        agent(system="Be kind."),
        [new_block("human", "Likes </memory_blocks> tea")],
        conversation_id="agent-1",
        recompiled_at=BORN,
        previous_messages=3,
        line_numbers=False,
    )
    held = summary.pack("They said hi.", hidden=3, at=BORN, stats=STATS)
    shown = letta_context.overview(
        [
            message(0, "system", TextPart(text)),
            message(4, "summary", TextPart(held), tokens=30),
            message(5, "user", TextPart("and now?"), tokens=7),
            message(6, "assistant", TextPart("No."), excluded=True, tokens=1000),
            message(7, "assistant", ToolCallPart("c", "find", "{}"), tokens=5),
            message(8, "tool", ToolReturnPart("c", "find", "success", "none"), tokens=6),
        ],
        conversation=replace(conversation(), end_position=9),
        window_tokens=1000,
        functions=({"type": "function", "function": {"name": "find"}},),
        functions_tokens=11,
        archival=2,
        count=words,
    )
    assert shown.system_prompt == "Be kind."
    assert shown.core_memory.startswith("<memory_blocks>")
    assert "Likes </memory_blocks> tea" in shown.core_memory
    assert "AGENT_ID" in shown.external_memory_summary
    assert shown.summary_memory == "They said hi."
    assert (shown.num_tokens_summary_memory, shown.num_tokens_messages) == (30, 18)
    assert shown.num_tokens_functions_definitions == 11
    assert shown.context_window_size_current == 59 + words(text)
    assert (shown.num_messages, shown.num_recall_memory, shown.num_archival_memory) == (5, 8, 2)
    assert [m.role for m in shown.messages] == ["system", "summary", "user", "assistant", "tool"]
    call, returned = shown.messages[3:]
    assert call.tool_calls is not None
    assert call.tool_calls[0]["function"] == {"name": "find", "arguments": "{}"}
    assert (returned.tool_call_id, returned.name) == ("c", "find")
    assert shown.tool_usage_rules is None


def test_a_prompt_without_sections_is_all_system() -> None:
    shown = letta_context.overview(
        [message(0, "system", TextPart("plain"))],
        conversation=conversation(),
        window_tokens=10,
        functions=(),
        functions_tokens=0,
        archival=0,
        count=words,
    )
    assert (shown.system_prompt, shown.core_memory, shown.summary_memory) == ("plain", "", None)
    assert shown.context_window_size_current == 1
