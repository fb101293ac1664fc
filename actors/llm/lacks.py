"""Reads from a refusal what a model or its server cannot do. Pure."""

import re

# By the words of those that say so, as seen in their source and issue trackers (November 2026): Ollama, vLLM,
# llama.cpp, LM Studio, OpenRouter, OpenAI, Groq, DeepSeek and Mistral.
_CANNOT = (
    r"((not |n.t |un)(be )?(support|available|allowed|enabled|permitted|recogni[sz]ed|known)"
    r"|unavailable|invalid)"
)
_IMAGES = re.compile(
    rf"(image|vision|multi-?modal)[\w ,_-]{{0,40}}({_CANNOT}|only supported by certain models)"
    r"|(do(es)? not|doesn.t|don.t|cannot) (support|accept|process|handle)[\w ]{0,20} (image|vision|multi)"
    r"|supports? image input|not a multimodal model|mmproj|unknown variant .{0,3}image_url"
    r"|image_url.{0,60}only supported|at most 0 image|data required for image input|content must be a string",
    re.IGNORECASE,
)
_FORMATS = re.compile(
    rf"(response.?format|json_?schema|structured.?outputs?)[\w .'\"`:-]{{0,40}}({_CANNOT}|must be)"
    r"|(not|n.t) support[\w ]{0,20} (response.?format|json_?schema|structured.?output)"
    r"|unrecognized request argument[\w ]*: response_format",
    re.IGNORECASE,
)
_TOOLS = re.compile(
    r"(does not|doesn.t|do not|not) support[\w ]{0,12} (tools?|functions?)\b|support tool use"
    rf"|\b(tool|function)[ _-]?(use|calls?|calling|choice)?s? (is |are )?{_CANNOT}"
    r"|enable-auto-tool-choice|tools param requires|unrecognized request argument[\w ]*: tools",
    re.IGNORECASE,
)
# Azure, where the version or the region has no `/responses` (openclaw/openclaw#82025).
_RESPONSES = re.compile(
    r"responses api (is |does )?(enabled only|not)|api version not supported", re.IGNORECASE
)
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|does not support|unrecognized|extra_forbidden|must be verified", re.IGNORECASE
)
# OpenAI, and those that answer like it, name the setting in quotes.
_NAMED = re.compile(r"unsupported (?:parameter|value)s?: ['\"`]([\w.]+)['\"`]", re.IGNORECASE)
_CONTENT = re.compile(r"messages|input\b|content|prompt\b", re.IGNORECASE)
_STATUSES = frozenset({None, 400, 404, 405, 415, 422, 500, 501})


def lacking(status: int | None, words: str, param: str) -> str:
    """Return what is lacking: `images`, `response_format`, `tools`, `responses`, a setting, or nothing.

    `words` is all that the provider said, `param` what it blames.
    """
    if status not in _STATUSES:
        return ""
    if _RESPONSES.search(words):
        return "responses"
    if _IMAGES.search(words):
        return "images"
    if _FORMATS.search(words):
        return "response_format"
    if _TOOLS.search(words):
        return "tools"
    named = _NAMED.search(words)
    setting = named[1] if named is not None else param if _UNSUPPORTED.search(words) else ""
    if _CONTENT.match(setting):
        return ""
    if setting in ("tools", "tool_choice", "functions"):
        return "tools"
    return "response_format" if setting.startswith(("response_format", "text.format")) else setting
