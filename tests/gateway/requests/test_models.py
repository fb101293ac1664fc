"""What clients may ask of an agent's model."""

from typing import Any

import pytest

from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.letta import models as letta_models
from gateway.requests import models as requests
from gateway.requests.models import LLMConfigRequest, ModelRequest
from storage.records import ModelSettings


@pytest.mark.parametrize(
    ("fields", "handle"),
    [
        ({}, None),
        ({"model": "openai/gpt-4o"}, "openai/gpt-4o"),
        ({"model": "openrouter/a/b"}, "openrouter/a/b"),
        ({"llm_config": LLMConfigRequest(handle="x/y", model="z")}, "x/y"),
        ({"llm_config": LLMConfigRequest(model="m", provider_name="p", model_endpoint_type="t")}, "p/m"),
        ({"llm_config": LLMConfigRequest(model="m", model_endpoint_type="t")}, "t/m"),
        ({"llm_config": LLMConfigRequest(model="m")}, "openai/m"),
        ({"llm_config": LLMConfigRequest(temperature=1.0)}, None),
    ],
)
def test_the_model_is_found_in_all_its_forms(fields: dict[str, Any], handle: str | None) -> None:
    assert requests.handle_of(ModelRequest(**fields)) == handle


@pytest.mark.parametrize("handle", ["gpt", "/x", "x/", ""])
def test_a_handle_without_provider_or_name_makes_no_sense(handle: str) -> None:
    with pytest.raises(BadArgumentError):
        requests.handle_of(ModelRequest(model=handle))


def test_a_new_agents_settings_are_what_was_given() -> None:
    assert requests.new_settings(ModelRequest()) == ModelSettings()
    given = {"temperature": 1, "top_p": 0.3, "reasoning": {"reasoning_effort": "minimal"}}
    assert requests.new_settings(ModelRequest(model_settings=given, max_tokens=5)) == ModelSettings(
        temperature=1.0, reasoning_effort="minimal", max_output_tokens=5, extra={"top_p": 0.3}
    )


def test_model_settings_replace_and_single_fields_change_them() -> None:
    current = ModelSettings(temperature=0.5, max_output_tokens=9, extra={"seed": 1})
    only = requests.changed_settings(ModelRequest(max_tokens=7), current)
    assert only == ModelSettings(temperature=0.5, max_output_tokens=7, extra={"seed": 1})
    given = requests.changed_settings(ModelRequest(model_settings={"temperature": 1, "top_p": 0.3}), current)
    assert given == ModelSettings(temperature=1.0, extra={"top_p": 0.3})
    config = LLMConfigRequest(max_tokens=3, verbosity="low")
    assert requests.changed_settings(ModelRequest(llm_config=config), current) == ModelSettings(
        max_output_tokens=3, extra={"verbosity": "low"}
    )


def test_what_was_shown_and_comes_back_chooses_nothing() -> None:
    ref = letta_models.unresolved("openai/gpt-4o-mini")
    shown = letta_models.model_settings(ModelSettings(), ref)
    back = requests.changed_settings(ModelRequest(model_settings={**shown, "strict": True}), ModelSettings())
    assert (back.temperature, back.reasoning_effort, back.strict) == (None, None, True)
    chosen = ModelSettings(temperature=0.2, reasoning_effort="high")
    shown = letta_models.model_settings(chosen, ref)
    back = requests.changed_settings(ModelRequest(model_settings=shown), chosen)
    assert (back.temperature, back.reasoning_effort) == (0.2, "high")


def test_wrong_settings_are_refused_by_their_place() -> None:
    with pytest.raises(InvalidRequestError) as error:
        requests.new_settings(ModelRequest(model_settings={"reasoning": {"reasoning_effort": "a lot"}}))
    assert error.value.param == "/model_settings/reasoning/reasoning_effort"


def test_the_context_window_comes_from_its_own_field_first() -> None:
    config = LLMConfigRequest(context_window=5)
    assert requests.window_tokens(ModelRequest()) is None
    assert requests.window_tokens(ModelRequest(llm_config=config)) == 5
    assert requests.window_tokens(ModelRequest(llm_config=config, context_window_limit=7)) == 7


FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


@pytest.mark.parametrize("form", [{"type": "text"}, {"type": "json_object"}, FORM])
def test_a_form_of_answers_is_kept(form: dict[str, Any]) -> None:
    assert requests.new_settings(ModelRequest(response_format=form)).response_format == form
    given = {"response_format": form, "tool_mode": "json_schema"}
    settings = requests.new_settings(ModelRequest(model_settings=given))
    assert (settings.response_format, settings.extra) == (form, {"tool_mode": "json_schema"})


@pytest.mark.parametrize(
    "form",
    [{}, {"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": 7}}],
)
def test_a_form_that_no_provider_knows_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        requests.new_settings(ModelRequest(response_format=form))
    with pytest.raises(InvalidRequestError):
        requests.check_settings({"response_format": form})


def test_an_unknown_tool_mode_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        requests.new_settings(ModelRequest(model_settings={"tool_mode": "magic"}))
