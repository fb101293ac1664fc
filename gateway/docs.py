"""The generated pages of the documentation. `python -m gateway.docs` writes them anew."""

from collections.abc import Sequence
from pathlib import Path

from gateway import config
from gateway.app import Route
from gateway.rpc import docs as rpc_docs
from gateway.rpc.methods import METHODS

FOLDER = Path(__file__).parent / "static" / "docs"

_SETTINGS = """\
# Settings

Each setting is a flag and an environment variable; the flag wins. An empty variable counts as unset,
an unknown `WAKEFUL_` variable stops the start. This page is generated from `gateway/config.py`.

| flag | variable | type | default | meaning |
| --- | --- | --- | --- | --- |
"""

_ROUTES = """\
# Routes

Every path works with and without its final slash, and under `/latest` as under `/v1`. `/openapi.json`
has the exact types. This page is generated from the route table.

| method | path | what it does |
| --- | --- | --- |
"""


def settings_page() -> str:
    """Return the page that lists every setting."""
    rows = (
        f"| `{field.flag}` | {_variables(field)} | {field.type} | {_default(field)} | {field.description} |"
        for field in config.fields()
    )
    return _SETTINGS + "\n".join(rows) + "\n"


def _variables(field: config.Field) -> str:
    return " or ".join(f"`{name}`" for name in (field.env, *field.aliases))


def _default(field: config.Field) -> str:
    return f"`{field.default}`" if field.default else "unset"


def routes_page(routes: Sequence[Route]) -> str:
    """Return the page that lists every route, in the order of the table."""
    rows = (f"| {route.method} | `{route.path}` | {route.summary} |" for route in routes)
    return _ROUTES + "\n".join(rows) + "\n"


def pages(routes: Sequence[Route]) -> dict[str, str]:
    """Return the generated pages by file name."""
    return {
        "settings.md": settings_page(),
        "routes.md": routes_page(routes),
        "rpc.md": rpc_docs.page(METHODS),
    }


def write(routes: Sequence[Route]) -> None:
    """Write the generated pages into the package."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages(routes).items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    from gateway.rest.routes import ROUTES

    write(ROUTES)
