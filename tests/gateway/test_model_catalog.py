"""How settings say which models there are and how they are spoken to."""

from actors.llm.habits import Preferences
from gateway.config import Settings
from gateway.model_catalog import preferences


def test_patterns_say_how_models_are_spoken_to() -> None:
    assert preferences(Settings()) == Preferences()
    chosen = Settings(json_tools="ollama/gemma*, vllm/x", responses_api="xai/*,,!openai/gpt-5*")
    assert preferences(chosen) == Preferences(
        json_tools=("ollama/gemma*", "vllm/x"), responses=("xai/*",), chat=("openai/gpt-5*",)
    )
