"""The table from a provider's words to what they mean."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from actors.llm import errors
from actors.llm.errors import Refusal, classify, read_refusal, redact, retry_after

AUTH = {"kind": "llm_authentication", "retryable": False, "refused_content": False}
RATE = {"kind": "llm_rate_limit", "retryable": True}
CREDIT = {"kind": "llm_error", "stop_reason": "insufficient_credits", "retryable": False}
REFUSED = {"kind": "llm_error", "refused_content": True, "overflow": False, "retryable": False}
SETTING = {"kind": "llm_error", "refused_content": False, "overflow": False, "retryable": False}
OVERFLOW = {"kind": "llm_error", "refused_content": True, "overflow": True, "retryable": False}
LATER = {"kind": "llm_error", "retryable": True, "refused_content": False}
LATE = {"kind": "llm_timeout", "retryable": True}
NEVER = {"kind": "llm_error", "retryable": False, "refused_content": False}


def said(message: str = "", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


TABLE: list[tuple[int | None, object, dict[str, Any]]] = [
    (400, said("Invalid 'messages[1].content'", param="messages.[1].content"), REFUSED),
    (400, said("something is wrong"), REFUSED),
    (400, said("Unsupported parameter: 'temperature'", param="temperature"), SETTING),
    (400, said("The response was filtered", code="content_filter", param="prompt"), REFUSED),
    (400, said("maximum context length is 8192 tokens", code="context_length_exceeded"), OVERFLOW),
    (400, said("prompt is too long: 210000 tokens > 200000 maximum"), OVERFLOW),
    (400, said("The input token count (1100000) exceeds the maximum number of tokens allowed"), OVERFLOW),
    (400, said("the request exceeds the available context size. try increasing it"), OVERFLOW),
    (413, "Payload Too Large", REFUSED),
    (413, said("Please reduce the length of the messages"), OVERFLOW),
    (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"]}]}, REFUSED),
    (500, said("context length exceeded"), OVERFLOW),
    (400, [said("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT")], AUTH),
    (400, said("Incorrect API key provided: xa***yz"), AUTH),
    (400, said("Your credit balance is too low to access the API"), CREDIT),
    (400, said("Model 'x' does not exist", code="invalid_model"), NEVER),
    (401, said("Incorrect API key provided", code="invalid_api_key"), AUTH),
    (403, said("Country not supported", code="unsupported_country_region_territory"), AUTH),
    (403, said("Your input was flagged", code=403), REFUSED),
    (402, {"error": {"message": "Insufficient Balance"}}, CREDIT),
    (429, said("You exceeded your current quota", code="insufficient_quota"), CREDIT),
    (429, said("Rate limit reached", code="rate_limit_exceeded"), RATE),
    (404, said("The model `x` does not exist", code="model_not_found"), NEVER),
    (404, "404 page not found", NEVER),
    (307, "", NEVER),
    (405, "", NEVER),
    (408, "", LATE),
    (504, "<html>Gateway Timeout</html>", LATE),
    (409, "", LATER),
    (500, "", LATER),
    (503, said("overloaded"), LATER),
    (529, said("Overloaded", type="overloaded_error"), LATER),
    (None, said("Rate limit", code="rate_limit_exceeded"), RATE),
    (None, said("bad", type="invalid_request_error"), REFUSED),
    (None, said("boom", type="server_error"), LATER),
    (None, {"error": {"code": 429, "message": "slow down"}}, RATE),
    (None, {"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, REFUSED),
]


@pytest.mark.parametrize(("status", "body", "expected"), TABLE)
def test_what_a_provider_says_is_classified(
    status: int | None, body: object, expected: dict[str, Any]
) -> None:
    error = classify(read_refusal(body, status), "test", retry_after=3)
    assert {name: getattr(error, name) for name in expected} == expected
    assert error.retry_after == (3 if error.retryable else None)
    assert str(error).startswith("model provider 'test' ")


kinds = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(st.none(), max_size=2)
)


@given(
    st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "param", "detail"]),
        kinds | st.dictionaries(st.sampled_from(["message", "code", "type", "param"]), kinds),
    )
    | kinds,
    st.integers(300, 599) | st.none(),
)
def test_no_error_body_breaks_the_table(body: object, status: int | None) -> None:
    error = classify(read_refusal(body, status), "test")
    assert str(error)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-proj-abc123DEF456. See https://x.y/keys", "abc123DEF456"),
        ("header was Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc", "eyJhbGci"),
        ("cannot reach http://user:hunter2@host:1234/v1", "hunter2"),
        ("GET https://host/v1/models?key=AIzaSyABCDEFG failed", "AIzaSyABCDEFG"),
        ('{"api_key": "topsecretvalue"}', "topsecretvalue"),
        ("password=swordfish1", "swordfish1"),
        ("key 0123456789abcdef0123456789abcdef is revoked", "0123456789abcdef0123456789abcdef"),
        ("gsk_abcdefghijklmnop is wrong", "abcdefghijklmnop"),
        ("my own odd one is wrong", "my own odd one"),
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str, secret: str) -> None:
    shown = redact(text, ("my own odd one",))
    assert secret not in shown
    assert "[removed]" in shown or "user" not in shown


def test_a_useful_message_stays_as_it_is() -> None:
    text = "The model `meta-llama/Llama-3.3-70B-Instruct-Turbo` supports at most 16384 completion tokens"
    assert redact(text) == text
    assert redact("See https://platform.openai.com/account/api-keys.").endswith("api-keys.")


def test_a_long_message_is_cut_and_kept_on_one_line() -> None:
    shown = redact("line\r\n\0 line " * 500)
    assert len(shown) == errors.MESSAGE_CHARS
    assert "\n" not in shown
    assert "\0" not in shown


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "12"}, 0.25),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:20 GMT"}, 20),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "99999"}, 3600),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], expected: float | None) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert retry_after(CIMultiDict(headers), now) == expected


def test_the_run_error_names_the_kind_and_the_text() -> None:
    error = classify(Refusal(status=401, message="no"), "test")
    assert error.as_run_error().type == "llm_authentication"
    assert error.as_run_error().message == "model provider 'test' rejected the API key (401): no"
