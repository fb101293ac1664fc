"""How much models can read, in the words of each server."""

from typing import Any

import pytest

from actors.llm import windows
from actors.llm.windows import DEFAULT_WINDOW_TOKENS, WINDOW_CAP_TOKENS, Said, Window


def test_the_servers_word_beats_the_table_and_the_table_a_guess() -> None:
    assert windows.window("gpt-4o", 16_000) == Window(16_000, None, "server")
    assert windows.window("gpt-4o", None) == Window(128_000, 16_384, "table")
    assert windows.window("never-heard-of", None) == Window(DEFAULT_WINDOW_TOKENS, None, "default")
    assert windows.window("never-heard-of", 10**7) == Window(WINDOW_CAP_TOKENS, None, "server")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"id": "m", "max_model_len": 8_192}, Said(window_tokens=8_192)),
        ({"id": "m", "meta": {"n_ctx_train": 4_096}}, Said(window_tokens=4_096)),
        (
            {
                "context_length": 200_000,
                "architecture": {"input_modalities": ["text", "image"]},
                "supported_parameters": ["tools", "temperature"],
            },
            Said(window_tokens=200_000, native_tools=True, images=True),
        ),
        ({"supported_parameters": ["temperature"]}, Said(native_tools=False)),
        (
            {
                "max_context_length": 32_768,
                "capabilities": {"completion_chat": True, "function_calling": False, "vision": False},
            },
            Said(window_tokens=32_768, native_tools=False, images=False),
        ),
        ({"capabilities": {"completion_chat": False}}, Said(chats=False)),
        ({"context_length": "many", "meta": 7, "architecture": [], "capabilities": "all"}, Said()),
        ({"context_length": True}, Said()),
        ({"context_length": -1, "context_window": 9}, Said(window_tokens=9)),
    ],
)
def test_a_listed_model_says_what_it_can(entry: dict[str, Any], expected: Said) -> None:
    assert windows.listed(entry) == expected


def test_ollama_is_believed_what_it_loads_and_not_what_was_trained() -> None:
    show = {
        "capabilities": ["completion", "tools", "vision"],
        "model_info": {"llama.context_length": 131_072},
        "parameters": "stop x\nnum_ctx                        8192",
    }
    assert windows.ollama(show, None) == Said(window_tokens=8_192, native_tools=True, images=True)
    assert windows.ollama(show, 16_384).window_tokens == 16_384
    assert windows.ollama({**show, "parameters": ""}, None).window_tokens == 4_096
    assert windows.ollama({"model_info": {"x.context_length": 2_048}}, None).window_tokens == 2_048
    assert windows.ollama({"capabilities": ["embedding"]}, None).chats is False
    assert windows.ollama({"capabilities": ["completion"]}, None).native_tools is False
    assert windows.ollama_loaded({"models": [{"name": "a", "context_length": 4_096}, {"name": 3}, 4]}) == {
        "a": 4_096
    }
    assert windows.ollama_loaded("nonsense") == {}


def test_lm_studio_is_believed_what_is_loaded() -> None:
    entry: dict[str, Any] = {"type": "vlm", "max_context_length": 131_072, "loaded_context_length": 8_192}
    assert windows.lmstudio(entry) == Said(window_tokens=8_192, images=True)
    assert windows.lmstudio({"type": "llm", "max_context_length": 131_072}) == Said(
        window_tokens=4_096, images=False
    )
    assert windows.lmstudio({"type": "embeddings"}).chats is False
    assert windows.lmstudio({"type": "llm", "capabilities": ["tool_use"]}).native_tools is True


def test_llama_cpp_is_believed_the_length_of_a_slot() -> None:
    props = {"default_generation_settings": {"n_ctx": 6_144}, "modalities": {"vision": False}}
    assert windows.llamacpp(props) == Said(window_tokens=6_144, images=False)
    assert windows.llamacpp([]) == Said()
