"""How models are spoken to, and what refusals change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.llm import habits
from actors.llm.dialects import CHAT, Dialect
from actors.llm.habits import DROPPABLE, Habits, Preferences
from actors.llm.model import ModelRef
from storage.records import ModelSettings
from tests.actors.llm.streams import ref


def of(provider: str, name: str, **more: Any) -> ModelRef:
    return ref(handle=f"{provider}/{name}", provider=provider, provider_type=provider, name=name, **more)


def dialect(model: ModelRef, chosen: Preferences = Preferences()) -> Dialect:  # noqa: B008 - frozen
    return habits.dialect_of(model, habits.first(model, chosen))


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        ("openai", "gpt-4o-mini", CHAT),
        ("openai", "gpt-5-mini", Dialect(api="responses", thoughts="encrypted", signer="openai/gpt-5-mini")),
        ("openai", "o3", Dialect(api="responses", thoughts="encrypted", signer="openai/o3")),
        ("anthropic", "claude-haiku-4-5", CHAT),
        ("google_ai", "gemini-2.5-flash", CHAT),
        (
            "google_ai",
            "gemini-3-pro-preview",
            Dialect(thoughts="thought_signature", signer="google_ai/gemini-3-pro-preview"),
        ),
        (
            "deepseek",
            "deepseek-reasoner",
            Dialect(thoughts="reasoning_content", signer="deepseek/deepseek-reasoner", images=False),
        ),
        ("openrouter", "a/b", Dialect(thoughts="reasoning_details", signer="openrouter/a/b")),
        ("llamacpp", "Qwen2.5-Coder-1.5B-Instruct", Dialect(calls="text")),
        ("vllm", "google/gemma-2-9b-it", Dialect(calls="text")),
        ("vllm", "qwen3-8b", CHAT),
        ("ollama", "llama3.2", CHAT),
        ("somebody", "gpt-5", CHAT),
    ],
)
def test_each_kind_of_model_has_its_dialect(provider: str, name: str, expected: Dialect) -> None:
    assert dialect(of(provider, name)) == expected


def test_what_the_server_says_beats_what_the_name_tells() -> None:
    assert dialect(of("ollama", "llama3", native_tools=False, images=False)) == Dialect(
        calls="text", images=False
    )
    assert dialect(of("llamacpp", "qwen2.5-coder", native_tools=True)) == CHAT
    assert dialect(of("deepseek", "new", images=True)).images


def test_a_person_chooses_for_whole_groups() -> None:
    chosen = Preferences(json_tools=("ollama/gemma*",), responses=("xai/*",), chat=("openai/gpt-5*",))
    assert dialect(of("ollama", "gemma9"), chosen) == Dialect(calls="text")
    assert dialect(of("ollama", "qwen3"), chosen) == CHAT
    assert dialect(of("xai", "grok-4"), chosen).api == "responses"
    assert dialect(of("openai", "gpt-5"), chosen) == CHAT


def test_an_agent_chooses_its_tool_mode() -> None:
    native = Habits()
    assert habits.chosen(native, ModelSettings(extra={"tool_mode": "json_schema"})).tools == "json_schema"
    assert habits.chosen(native, ModelSettings(extra={"tool_mode": "magic"})) is native
    told = Habits(tools="json_schema", responses=True)
    assert habits.dialect_of(of("openai", "o3"), told) == Dialect(calls="text")


LACKS = st.sampled_from(
    ["tools", "images", "response_format", "responses", "nonsense", "", *sorted(DROPPABLE)]
)


@given(st.lists(LACKS), st.booleans())
def test_learning_comes_to_an_end(lacks: list[str], asked_tools: bool) -> None:
    known, changes = Habits(responses=True), 0
    for lack in lacks * 3:
        after = habits.learn(known, lack, asked_tools=asked_tools)
        changes += after != known
        known = after
        assert habits.learn(known, lack, asked_tools=asked_tools) == known or lack == "response_format"
    assert changes <= 4 + len(DROPPABLE)
