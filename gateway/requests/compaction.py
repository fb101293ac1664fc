"""What clients may ask of compactions: settings of an agent, and one compaction. Pure."""

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from actors import summary
from actors.llm.model import ModelRef
from actors.summary import PROMPTS, CompactionSettings
from gateway.errors import InvalidRequestError
from gateway.requests import models
from storage.records import JsonObject


class CompactRequest(Struct, frozen=True, kw_only=True):
    """One compaction. Its settings win over the agent's as a whole. `agent_id` goes with the id `default`."""

    compaction_settings: CompactionSettings | None = None
    agent_id: str | None = None


def check(settings: CompactionSettings) -> CompactionSettings:
    """Return the settings, if a compaction can be made with them.

    Raises:
        InvalidRequestError: Names the field that is not allowed.
    """
    if settings.model is not None and not all(settings.model.partition("/")):
        raise InvalidRequestError(
            "the model of a summary is written provider/name", param="/compaction_settings/model"
        )
    if settings.prompt is not None and not settings.prompt.strip():
        raise InvalidRequestError("the prompt must not be empty", param="/compaction_settings/prompt")
    if settings.model_settings is not None:
        models.check_settings(settings.model_settings)
    return settings


def stored(given: CompactionSettings | None) -> JsonObject | None:
    """Return what is to be kept of an agent's settings: only what was chosen, since defaults get better.

    Raises:
        InvalidRequestError: A field is not allowed.
    """
    if given is None:
        return None
    settings = check(given)
    if settings.prompt == PROMPTS[settings.mode]:  # sent back as it was shown
        settings = replace(settings, prompt=None)
    usual = msgspec.to_builtins(CompactionSettings())
    return {name: value for name, value in msgspec.to_builtins(settings).items() if value != usual[name]}


def shown(kept: JsonObject | None, ref: ModelRef) -> JsonObject:
    """Return the settings of an agent whose model is `ref`, with what holds where nothing was chosen."""
    settings = summary.settings_of(kept)
    model = settings.model or summary.default_model(ref)
    return msgspec.to_builtins(replace(settings, model=model, prompt=settings.text))
