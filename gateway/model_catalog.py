"""The models of one process, as its settings and its environment name them."""

from collections.abc import Iterable, Mapping

from actors.llm.catalog import Catalog
from actors.llm.habits import Preferences
from actors.llm.providers import Provider
from actors.llm.wire import Timeouts, Wire
from gateway.config import Settings


def open_catalog(
    settings: Settings, providers: Iterable[Provider], env: Mapping[str, str], timeouts: Timeouts
) -> Catalog:
    """Return the catalog of these providers and of the model servers that are found; close it at the end."""
    return Catalog(
        providers,
        wire=Wire(env, timeouts=timeouts),
        default_handle=settings.model,
        default_base_url=settings.default_base_url,
        own_ports={settings.port} if settings.discover == "on" else None,
        chosen=preferences(settings),
    )


def preferences(settings: Settings) -> Preferences:
    """Return how models are to be spoken to, from the settings that are lists of patterns."""
    responses = _patterns(settings.responses_api)
    return Preferences(
        json_tools=_patterns(settings.json_tools),
        responses=tuple(pattern for pattern in responses if not pattern.startswith("!")),
        chat=tuple(pattern[1:] for pattern in responses if pattern.startswith("!")),
    )


def _patterns(text: str | None) -> tuple[str, ...]:
    return tuple(pattern for part in (text or "").split(",") if (pattern := part.strip()))
