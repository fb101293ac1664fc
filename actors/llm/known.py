"""What is known about each model provider: how the environment names it, where it listens, how it speaks."""

import re
from typing import Literal

from msgspec import Struct

from actors.llm.dialects import Thoughts

# A native API beside the compatible one, which says more about a server's models.
Native = Literal["none", "ollama", "lmstudio", "llamacpp"]


class Quirks(Struct, frozen=True, kw_only=True):
    """Where a provider's dialect differs from OpenAI's. Unknown fields are an error to some of them.

    `responses` are the models that are written to in the responses dialect, `thoughts_of` those that
    get their earlier thoughts back as `thoughts` says, `text_calls` those that cannot call tools
    natively, and `blind` those that cannot look at images. `checks_calls` says that the provider's own
    models never write a call as text, so that their answers need not be watched for one.
    """

    max_tokens_field: str = "max_tokens"
    stream_options: bool = True
    parallel_tool_calls: bool = True
    fixed_temperature: re.Pattern[str] | None = None
    effort_of: re.Pattern[str] | None = None
    short_call_ids: bool = False
    responses: re.Pattern[str] | None = None
    thoughts: Thoughts = "none"
    thoughts_of: re.Pattern[str] | None = None
    text_calls: re.Pattern[str] | None = None
    blind: re.Pattern[str] | None = None
    checks_calls: bool = False


class Known(Struct, frozen=True):
    """A provider as the environment names it. The first variable that is set counts.

    A hosted provider needs a key; a local one needs its base URL, or listens on its usual loopback
    port (`port`); OpenAI takes either. Loopback servers may also say what they are (`owners`: their
    word in `owned_by`).
    """

    name: str
    keys: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    base_url: str = ""
    default_model: str | None = None
    port: int | None = None
    aliases: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    native: Native = "none"
    quirks: Quirks = Quirks()

    @property
    def local(self) -> bool:
        """Whether people run it themselves."""
        return self.port is not None


# OpenAI's reasoning models refuse any temperature but 1 (platform.openai.com/docs/guides/reasoning), and
# think across tool calls only where their reasoning items come back, which chat completions cannot do.
_REASONING = re.compile(r"(o\d|gpt-5|codex)")
_OPENAI = Quirks(
    max_tokens_field="max_completion_tokens",
    fixed_temperature=_REASONING,
    effort_of=_REASONING,
    responses=_REASONING,
    thoughts="encrypted",
    thoughts_of=_REASONING,
    checks_calls=True,
)
_ALL = re.compile("")

# Families whose chat templates know no tools; Ollama says it itself of those that it lists.
_NO_TOOLS = re.compile(
    r"(.*/)?(gemma-(2b|7b|2-|3-|3n-)|gemma[23]?n?:|llama-?2|phi-?[23]\b|smollm|tinyllama)", re.IGNORECASE
)

KNOWN = (
    Known(
        "openai",
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        "https://api.openai.com/v1",
        "gpt-4o-mini",
        quirks=_OPENAI,
    ),
    Known(
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        ("ANTHROPIC_BASE_URL",),
        "https://api.anthropic.com/v1",
        "claude-haiku-4-5",
        # Its compatible endpoint returns no thinking and no signatures, so none go back
        # (docs.anthropic.com/en/api/openai-sdk).
        quirks=Quirks(checks_calls=True),
    ),
    Known(
        "google_ai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GEMINI_BASE_URL",),
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-2.5-flash",
        aliases=("gemini", "google"),
        # It refused parallel_tool_calls with 400 "Unknown name" (jackmpcollins/magentic#382). From
        # Gemini 3 on, a call comes back with its signature or is refused
        # (ai.google.dev/gemini-api/docs/thought-signatures).
        quirks=Quirks(
            parallel_tool_calls=False,
            thoughts="thought_signature",
            thoughts_of=re.compile(r"gemini-(?![12]\b)"),
            checks_calls=True,
        ),
    ),
    Known(
        "openrouter",
        ("OPENROUTER_API_KEY",),
        ("OPENROUTER_BASE_URL",),
        "https://openrouter.ai/api/v1",
        "openai/gpt-4o-mini",
        # openrouter.ai/docs/use-cases/reasoning-tokens: the list goes back unchanged.
        quirks=Quirks(thoughts="reasoning_details", thoughts_of=_ALL),
    ),
    Known(
        "groq",
        ("GROQ_API_KEY",),
        ("GROQ_BASE_URL",),
        "https://api.groq.com/openai/v1",
        "llama-3.3-70b-versatile",
        quirks=Quirks(max_tokens_field="max_completion_tokens"),
    ),
    Known(
        "deepseek",
        ("DEEPSEEK_API_KEY",),
        ("DEEPSEEK_BASE_URL",),
        "https://api.deepseek.com/v1",
        "deepseek-chat",
        # api-docs.deepseek.com/guides/thinking_mode: 400 where reasoning_content does not come back.
        quirks=Quirks(thoughts="reasoning_content", thoughts_of=_ALL, blind=_ALL),
    ),
    Known(
        "mistral",
        ("MISTRAL_API_KEY",),
        ("MISTRAL_BASE_URL",),
        "https://api.mistral.ai/v1",
        "mistral-small-latest",
        # It reports usage unasked and refuses fields that it does not know (422 extra_forbidden).
        quirks=Quirks(stream_options=False, short_call_ids=True),
    ),
    Known(
        "xai",
        ("XAI_API_KEY",),
        ("XAI_BASE_URL",),
        "https://api.x.ai/v1",
        "grok-4",
        quirks=Quirks(max_tokens_field="max_completion_tokens"),
    ),
    Known(
        "together",
        ("TOGETHER_API_KEY",),
        ("TOGETHER_BASE_URL",),
        "https://api.together.xyz/v1",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    ),
    Known(
        "fireworks",
        ("FIREWORKS_API_KEY",),
        ("FIREWORKS_BASE_URL",),
        "https://api.fireworks.ai/inference/v1",
        "accounts/fireworks/models/llama-v3p3-70b-instruct",
    ),
    Known("cerebras", ("CEREBRAS_API_KEY",), ("CEREBRAS_BASE_URL",), "https://api.cerebras.ai/v1"),
    Known(
        "deepinfra", ("DEEPINFRA_API_KEY",), ("DEEPINFRA_BASE_URL",), "https://api.deepinfra.com/v1/openai"
    ),
    Known(
        "moonshot",
        ("MOONSHOT_API_KEY",),
        ("MOONSHOT_BASE_URL",),
        "https://api.moonshot.ai/v1",
        aliases=("kimi",),
        # platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model: thoughts go back within a turn.
        quirks=Quirks(thoughts="reasoning_content", thoughts_of=re.compile(r".*think|kimi-k2\.[5-9]")),
    ),
    Known(
        "ollama",
        ("OLLAMA_API_KEY",),
        ("OLLAMA_BASE_URL",),
        port=11434,
        owners=("library",),
        native="ollama",
        quirks=Quirks(parallel_tool_calls=False),
    ),
    Known(
        "vllm",
        ("VLLM_API_KEY",),
        ("VLLM_API_BASE", "VLLM_BASE_URL"),
        port=8000,
        owners=("vllm",),
        quirks=Quirks(text_calls=_NO_TOOLS),
    ),
    Known(
        "lmstudio",
        ("LMSTUDIO_API_KEY",),
        ("LMSTUDIO_BASE_URL",),
        port=1234,
        aliases=("lmstudio_openai", "lm_studio"),
        owners=("organization_owner",),
        native="lmstudio",
        quirks=Quirks(text_calls=_NO_TOOLS),
    ),
    Known(
        "llamacpp",
        ("LLAMACPP_API_KEY",),
        ("LLAMACPP_BASE_URL", "LLAMACPP_API_BASE"),
        port=8080,
        aliases=("llama_cpp", "xllamacpp", "llamafile"),
        owners=("llamacpp",),
        native="llamacpp",
        # Qwen2.5-Coder writes calls without the tag that llama.cpp looks for: none of 20 came through
        # natively, all of them as a JSON schema (measured with 0.5B and 1.5B, November 2026).
        quirks=Quirks(text_calls=re.compile(_NO_TOOLS.pattern + r"|.*qwen2\.5-?coder", re.IGNORECASE)),
    ),
    Known("sglang", ("SGLANG_API_KEY",), ("SGLANG_BASE_URL",), port=30000, owners=("sglang",)),
)

ALIASES = {alias: known.name for known in KNOWN for alias in known.aliases}

_PLAIN = Quirks()
_QUIRKS = {known.name: known.quirks for known in KNOWN} | {"azure": _OPENAI}


def quirks_of(provider_type: str) -> Quirks:
    """Return how a type of provider speaks; unknown ones speak as OpenAI did."""
    return _QUIRKS.get(provider_type, _PLAIN)


def native_of(provider_type: str) -> Native:
    """Return which native API stands beside a type of provider's compatible one."""
    for known in KNOWN:
        if known.name == provider_type:
            return known.native
    return "none"
