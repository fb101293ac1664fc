"""What refusals say that a model lacks, in the words of those who refuse."""

import pytest

from actors.llm.errors import classify, read_refusal

TOOLS = [
    (400, {"error": "registry.ollama.ai/library/gemma:2b does not support tools"}),
    (
        400,
        {
            "object": "error",
            "message": '"auto" tool choice requires --enable-auto-tool-choice to be set',
        },
    ),
    (500, {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}),
    (404, {"error": {"message": "No endpoints found that support tool use.", "code": 404}}),
    (400, {"error": {"message": "Function calling is not enabled for this model", "code": 3051}}),
    (400, {"error": {"message": "Unsupported parameter: 'tools' is not supported with this model."}}),
    (400, {"error": {"message": "`tool calling` is not supported with this model", "param": "tools"}}),
    (422, {"error": {"message": "x is not supported by this model", "param": "tool_choice"}}),
]
IMAGES = [
    (500, {"error": {"message": "image input is not supported - hint: you may need to provide the mmproj"}}),
    (404, {"error": {"message": "No endpoints found that support image input", "code": 404}}),
    (400, {"error": {"message": "Invalid content type. image_url is only supported by certain models."}}),
    (400, {"error": {"message": "Failed to deserialize: unknown variant `image_url`, expected `text`"}}),
    (400, {"message": "google/gemma-2-2b-it is not a multimodal model"}),
    (400, {"message": "At most 0 image(s) may be provided in one prompt."}),
    (400, {"error": {"message": "messages[1].content must be a string"}}),
    (400, {"error": "this model is missing data required for image input"}),
    (400, {"error": {"message": "This model does not support vision"}}),
]
FORMATS = [
    (400, {"error": {"message": "This response_format type is unavailable now"}}),
    (400, {"error": "'response_format.type' must be 'json_object' or 'text'"}),
    (400, {"error": {"message": "json_schema is not supported by this model", "param": "response_format"}}),
    (400, {"error": {"message": "model does not support structured outputs"}}),
]
SETTINGS = [
    ("temperature", 400, "Unsupported value: 'temperature' does not support 0.2 with this model."),
    ("max_tokens", 400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
    (
        "reasoning.summary",
        400,
        "Your organization must be verified. Unsupported value: 'reasoning.summary'",
    ),
]
NOTHING = [
    (400, {"error": {"message": "maximum context length is 8192 tokens, however you requested 9000 tools"}}),
    (400, {"error": {"message": "Invalid 'messages[1].content'", "param": "messages.[1].content"}}),
    (400, {"error": {"message": "Your messages are wrong"}}),
    (429, {"error": {"message": "Rate limit: tools are not available now"}}),
    (401, {"error": {"message": "Invalid API key"}}),
    (400, {"error": {"message": "image exceeds 5 MB maximum"}}),
]


@pytest.mark.parametrize(
    ("lacks", "status", "body"),
    [
        *(("tools", *case) for case in TOOLS),
        *(("images", *case) for case in IMAGES),
        *(("response_format", *case) for case in FORMATS),
        *((name, status, {"error": {"message": text}}) for name, status, text in SETTINGS),
        *(("", *case) for case in NOTHING),
    ],
)
def test_a_refusal_says_what_is_lacking(lacks: str, status: int, body: object) -> None:
    assert classify(read_refusal(body, status), "test").lacks == lacks


@pytest.mark.parametrize(("status", "body"), IMAGES)
def test_images_that_cannot_be_seen_leave_the_history(status: int, body: object) -> None:
    error = classify(read_refusal(body, status), "test")
    assert (error.refused_content, error.retryable) == (True, False)


@pytest.mark.parametrize(("status", "body"), [*TOOLS, *FORMATS])
def test_what_is_no_fault_of_the_messages_leaves_them(status: int, body: object) -> None:
    error = classify(read_refusal(body, status), "test")
    assert (error.refused_content, error.retryable) == (False, False)
