"""Routes of what comes with the package: the OpenAPI document, the pages, and modules for browsers."""

import html
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from markdown_it import MarkdownIt
from starlette.responses import Response

from gateway import openapi
from gateway.app import Context, Endpoint, Route
from gateway.docs import FOLDER
from gateway.rest.health import release
from storage.errors import NotFoundError

# Pages hold text and nothing that runs; whatever a page may quote stays text.
_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}

_FRAME = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
p, li {{ overflow-wrap: anywhere }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
td, th {{ border: 1px solid #8888; padding: .2rem .5rem; text-align: left; vertical-align: top }}
td:last-child {{ min-width: 12rem }}
pre, code {{ background: #8882; border-radius: .2rem }}
pre {{ overflow: auto; padding: .6rem .8rem }}
pre code {{ background: none }}
</style></head><body>
{body}
</body></html>
"""

_markdown = MarkdownIt("js-default")  # tables, no raw HTML


async def index(ctx: Context) -> Response:
    """List the pages, each with its first sentence."""
    del ctx
    items = "\n".join(_entry(path) for path in sorted(FOLDER.glob("*.md")))
    document = '<li><a href="/openapi.json">openapi.json</a>: every route with its exact types.</li>'
    return _page("wakeful", f"<h1>wakeful</h1>\n<ul>\n{items}\n{document}\n</ul>")


def _entry(path: Path) -> str:
    """Return the entry of a page, which begins with its title and a paragraph."""
    title, _, text = path.read_text(encoding="utf-8").partition("\n\n")
    sentence = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".:")
    link = f'<a href="/docs/{path.stem}">{_markdown.renderInline(title.removeprefix("# "))}</a>'
    return f"<li>{link}: {_markdown.renderInline(sentence)}.</li>"


async def page(ctx: Context) -> Response:
    """Return one page as HTML."""
    name = ctx.params["page"]
    path = FOLDER / f"{name}.md"
    if not path.is_file():
        raise NotFoundError("page", name)
    text = path.read_text(encoding="utf-8")
    title = text.partition("\n")[0].removeprefix("# ").replace("`", "")
    return _page(title, f'<p><a href="/docs">wakeful</a></p>\n{_markdown.render(text)}')


def _page(title: str, body: str) -> Response:
    text = _FRAME.format(title=html.escape(title), body=body)
    return Response(text, media_type="text/html", headers=_HEADERS)


async def script(ctx: Context) -> Response:
    """Return an ES module or its types, to pages of any site: they hold nothing that is not published."""
    name = ctx.params["script"]
    path = FOLDER.parent / name
    if not path.is_file():
        raise NotFoundError("script", name)
    content = path.read_bytes()
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "public, no-cache", "access-control-allow-origin": "*"}
    known = ctx.headers.get(b"if-none-match", b"").decode("latin-1")
    if tag in known:
        return Response(status_code=304, headers=headers)
    kind = "text/javascript" if path.suffix == ".js" else "text/plain"
    return Response(content, media_type=kind, headers=headers)


def routes_of(routes: Callable[[], Sequence[Route]]) -> tuple[Route, ...]:
    """Return the routes of the documentation; `routes` gives the whole table, these included."""
    return (
        Route(
            method="GET",
            path="/openapi.json",
            endpoint=_document(routes),
            operation_id="openapi",
            summary="The OpenAPI document of this server",
            tags=("docs",),
        ),
        Route(
            method="GET",
            path="/docs",
            endpoint=index,
            operation_id="list_pages",
            summary="The pages of the documentation",
            tags=("docs",),
        ),
        Route(
            method="GET",
            path="/docs/{page}",
            endpoint=page,
            operation_id="retrieve_page",
            summary="One page of the documentation",
            tags=("docs",),
        ),
        Route(
            method="GET",
            path="/static/{script}",
            endpoint=script,
            operation_id="retrieve_script",
            summary="An ES module for browsers, wakeful.js, and its types, wakeful.d.ts",
            tags=("docs",),
            public=True,
        ),
    )


def _document(routes: Callable[[], Sequence[Route]]) -> Endpoint:
    made: list[bytes] = []

    async def document(ctx: Context) -> Response:
        """Return the document, made when it is first asked for."""
        del ctx
        if not made:
            made.append(msgspec.json.encode(openapi.document(routes(), version=release())))
        return Response(made[0], media_type="application/json")

    return document
