"""Looks at everything that a server needs, without changing any of it: machine, database, tools, models."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from actors.llm.providers import Provider, provider_for, providers_from_env
from gateway.config import Settings
from gateway.doctor import database as doctor_database
from gateway.doctor import machine as doctor_machine
from gateway.doctor import models as doctor_models
from gateway.doctor import server as doctor_server
from gateway.doctor import tools as doctor_tools
from gateway.doctor.findings import Finding, Redacted, Show, error
from storage.dsn import password

PROBE_SECONDS = 60.0


def examine(
    settings: Settings,
    env: Mapping[str, str],
    show: Show,
    *,
    with_models: bool = True,
    deadline: float = PROBE_SECONDS,
) -> None:
    """Look at everything in turn and show each finding. For the main thread, without an event loop.

    A server that runs is not disturbed: its database is read through its own socket. `with_models` asks
    the models real questions, each for at most `deadline` seconds.
    """
    providers, problem = _providers(settings, env)
    secrets = [settings.api_key, settings.embedding_api_key, password(settings.database_url)]
    secrets += [settings.exa_api_key, settings.e2b_api_key]
    secrets += [secret for provider in providers for secret in provider.secrets]
    show = Redacted(show, [secret for secret in secrets if secret])
    for finding in doctor_machine.findings(settings):
        show.found(finding)
    with asyncio.Runner() as runner:
        _look(runner, show, "the server's address", doctor_server.findings(settings))
        with doctor_database.visited(settings, show) as dsn:
            if dsn is not None:
                ours = settings.database_url is None
                _look(runner, show, "the database", doctor_database.findings(dsn, ours=ours))
        for finding in doctor_tools.findings(settings):
            show.found(finding)
        if problem is not None:
            show.found(problem)
        elif with_models:
            runner.run(doctor_models.examine(settings, providers, env, show, deadline=deadline))


def _look(
    runner: asyncio.Runner, show: Show, what: str, findings: Coroutine[Any, Any, Iterable[Finding]]
) -> None:
    show.looking(what)
    for finding in runner.run(findings):
        show.found(finding)


def _providers(settings: Settings, env: Mapping[str, str]) -> tuple[tuple[Provider, ...], Finding | None]:
    try:
        providers = providers_from_env(env)
        if settings.default_base_url is not None:
            provider_for("default", settings.default_base_url)
    except ValueError as problem:
        return (), error(
            "model providers", str(problem), remedy="give a base URL like http://127.0.0.1:11434/v1"
        )
    return providers, None
