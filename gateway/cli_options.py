"""Options that several commands share: where the server is, and its key."""

import os
from typing import Annotated

import typer

from gateway import config

Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the server. Left out: WAKEFUL_HOST and WAKEFUL_PORT of this machine, else "
        "http://127.0.0.1:8283."
    ),
]
ApiKey = Annotated[
    str | None, typer.Option(help="Key of the server. (WAKEFUL_API_KEY or LETTA_SERVER_PASSWORD)")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


def server(url: str | None, api_key: str | None) -> tuple[str, str | None]:
    """Return address and key of the server that a command is to ask. `host:port` is taken for http.

    Raises:
        SettingsError: A variable cannot be used.
    """
    settings = config.load(os.environ, {"api_key": api_key})
    address = url or config.url(settings)
    return address if "://" in address else f"http://{address}", settings.api_key
