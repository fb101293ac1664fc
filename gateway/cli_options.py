"""Options that several commands share: where the server is, and its key."""

import os
from typing import Annotated

import typer

from gateway import config

Url = Annotated[
    str | None,
    typer.Option(help="Address of the server. Left out: where WAKEFUL_HOST and WAKEFUL_PORT say it is."),
]
ApiKey = Annotated[
    str | None, typer.Option(help="Key of the server. (WAKEFUL_API_KEY or LETTA_SERVER_PASSWORD)")
]
Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]


def server(url: str | None, api_key: str | None) -> tuple[str, str | None]:
    """Return address and key of the server that a command is to ask.

    Raises:
        SettingsError: A variable cannot be used.
    """
    settings = config.load(os.environ, {"api_key": api_key})
    return url or config.url(settings), settings.api_key
