"""Pages are fetched within bounds, and only from where everybody may."""

import asyncio
import gzip
import socket
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from actors.tools import page_reader, pages
from actors.tools.pages import MAX_BYTES, Pages, checked, decoded
from actors.tools.results import ToolError
from tests.actors.tools.web_pages import Site, site

NOT_PUBLIC = [
    "http://127.0.0.1:1/",
    "http://127.1:1/",
    "http://2130706433:1/",
    "http://0x7f000001:1/",
    "http://0.0.0.0:1/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1/",
    "http://[::1]:1/",
    "http://[::ffff:127.0.0.1]:1/",
    "http://[fd00::1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://localhost:1/",
    "http://LOCALHOST:1/",
    "http://127。0。0。1:1/",
]
NO_ADDRESSES = [
    "",
    "example.com",
    "/path",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://",
    "http:///x",
    "http://example.com:99999/",
    "http://example.com:x/",
    "http://[::1/",
    "http://exa mple.com/",
    "http://example.com\\@127.0.0.1/",
    "https://example.com/" + "a" * 9000,
]


@pytest.fixture
async def web_site() -> AsyncGenerator[Site]:
    async with site() as running:
        yield running


async def read(address: str) -> str:
    with anyio.fail_after(15):
        return await Pages(private=True).text_of(address)


async def refusal(address: str, *, private: bool = True) -> str:
    with pytest.raises(ToolError) as refused, anyio.fail_after(15):
        await Pages(private=private).text_of(address)
    return str(refused.value)


# --- pages ----------------------------------------------------------------------------------------


async def test_a_page_is_read_as_markdown(web_site: Site) -> None:
    url = web_site.page("/tea", "<nav>menu</nav><h1>Tea</h1><p>Boil <a href=water>water</a>.")
    assert await read(f" {url}#top ") == f"# Tea\n\nBoil [water]({web_site.url}/water)."
    (request,) = web_site.asked
    assert "wakeful" in request.headers["user-agent"]
    assert "cookie" not in request.headers


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", "a  <b>\n c", "a  <b>\n c"),
        ("application/json; charset=utf-8", '{"a": "ö"}', '{"a": "ö"}'),
        ("application/ld+json", "{}", "{}"),
        ("text/markdown", "# a", "# a"),
        ("application/rss+xml", "<rss/>", "<rss/>"),
        ("application/xhtml+xml", "<html><body><p>a</p></body></html>", "a"),
    ],
)
async def test_text_of_other_kinds_is_read_as_it_is(
    web_site: Site, content_type: str, body: str, text: str
) -> None:
    assert await read(web_site.page("/x", body, content_type=content_type)) == text


@pytest.mark.parametrize(("body", "text"), [(b"  <p>a", "a"), (b"just text", "just text"), (b"\0\1", None)])
async def test_a_page_of_no_type_is_looked_at(body: bytes, text: str | None) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if text is None:
            assert "binary" in await refusal(url)
        else:
            assert await read(url) == text


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/pdf", "application/octet-stream", "video/mp4"]
)
async def test_what_is_no_text_is_refused_without_being_read(web_site: Site, content_type: str) -> None:
    assert content_type in await refusal(web_site.page("/x", b"\0" * 10, content_type=content_type))


@pytest.mark.parametrize("content_type", ["text/html", "text/plain"])
async def test_what_only_says_that_it_is_text_is_refused(web_site: Site, content_type: str) -> None:
    url = web_site.page("/x", b"PK\x03\x04\0\0\0\xff", content_type=content_type)
    assert "binary" in await refusal(url)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html; charset=iso-8859-1", "<p>Köln".encode("latin-1")),
        ("text/html", '<meta charset="latin1"><p>Köln'.encode("latin-1")),
        (
            "text/html",
            '<meta http-equiv=content-type content="text/html; charset=cp1252"><p>Köln'.encode("cp1252"),
        ),
        ("text/html; charset=no-such-thing", "<p>Köln".encode()),
        ("text/html; charset=base64", "<p>Köln".encode()),
        ("text/html; charset=punycode", "<p>Köln".encode()),
        ("text/html", "<p>Köln".encode("cp1252")),
        ("text/html; charset=latin-1", b"\xef\xbb\xbf" + "<p>Köln".encode()),
        ("text/html", b"\xff\xfe" + "<p>Köln".encode("utf-16-le")),
    ],
)
async def test_pages_in_other_character_sets_are_read(web_site: Site, content_type: str, body: bytes) -> None:
    assert await read(web_site.page("/x", body, content_type=content_type)) == "Köln"


@given(
    st.binary(max_size=200),
    st.none() | st.text(max_size=12) | st.sampled_from(("utf-16", "utf-7", "iso-2022-jp")),
)
def test_whatever_the_bytes_they_become_text(body: bytes, charset: str | None) -> None:
    assert isinstance(decoded(body, charset), str)


async def test_a_page_without_text_is_refused_with_what_to_do(web_site: Site) -> None:
    assert "Look for the same thing elsewhere" in await refusal(web_site.page("/x", "<script>app()</script>"))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "no such page"),
        (403, "another source"),
        (429, "try again later"),
        (500, "try again later"),
        (418, "418"),
    ],
)
async def test_a_page_that_the_server_refuses_is_an_error(web_site: Site, status: int, words: str) -> None:
    assert words in await refusal(web_site.page("/x", "<p>sorry", status=status))


# --- bounds ---------------------------------------------------------------------------------------


async def test_of_a_huge_page_the_beginning_is_read(web_site: Site) -> None:
    text = await read(web_site.page("/x", "<p>begin</p>" + "<p>a line of text</p>" * 200_000))
    assert text.startswith("begin")
    assert text.endswith(f"[The page is longer than the {MAX_BYTES} bytes read.]")


@pytest.mark.timeout(60)
async def test_a_page_that_swells_when_it_is_unpacked_is_bounded_too(web_site: Site) -> None:
    packed = gzip.compress(b"<p>begin</p>" + b" " * (200 * 1024 * 1024))
    url = web_site.page("/x", packed, headers={"content-encoding": "gzip"})
    assert (await read(url)).startswith("begin")


@pytest.mark.timeout(60)
async def test_a_page_that_is_nested_without_end_does_not_hold_up_the_server(
    web_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_reader, "CPU_SECONDS", 1)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            begun = asyncio.get_running_loop().time()
            await anyio.sleep(0.01)
            longest = max(longest, asyncio.get_running_loop().time() - begun)

    url = web_site.page("/x", "<div>" * 400_000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        assert "too long or too deep" in await refusal(url)
        tasks.cancel_scope.cancel()
    assert longest < 5  # seconds; read here it would take minutes


@pytest.mark.parametrize("head", [False, True])
async def test_a_slow_page_is_given_up(web_site: Site, monkeypatch: pytest.MonkeyPatch, head: bool) -> None:
    monkeypatch.setattr(pages, "SECONDS", 0.5)
    url = web_site.stall("/x", head=head)
    assert "did not send the page" in await refusal(url)
    with anyio.fail_after(15):
        await web_site.gone.wait()


async def test_a_fetch_that_is_cancelled_closes_its_connection(web_site: Site) -> None:
    url = web_site.stall("/x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Pages(private=True).text_of, url)
        with anyio.fail_after(15):
            await web_site.stalled.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(15):
        await web_site.gone.wait()


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(web_site: Site, status: int) -> None:
    web_site.page("/b/c", "<a href=d>x</a>")
    url = web_site.redirect("/a", "/b/c", status=status)
    assert await read(url) == f"[x]({web_site.url}/b/d)"


async def test_a_redirect_loop_ends(web_site: Site) -> None:
    web_site.redirect("/b", "/a")
    assert "redirects more than 5 times" in await refusal(web_site.redirect("/a", "/b"))
    assert len(web_site.asked) == 6


@pytest.mark.parametrize(
    "target", ["ftp://example.com/", "file:///etc/passwd", "http://", "http://u:p@example.com/"]
)
async def test_a_redirect_to_what_cannot_be_fetched_is_an_error(web_site: Site, target: str) -> None:
    assert "address" in await refusal(web_site.redirect("/a", target))


async def test_a_redirect_into_a_private_network_is_refused(
    web_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page is public as far as can be seen; where it leads to is not."""
    web_site.page("/secret", "<p>secret")
    port = web_site.url.rpartition(":")[2]
    public(monkeypatch, "public.example")
    for target in (f"{web_site.url}/secret", f"http://localhost:{port}/secret"):
        url = web_site.redirect("/a", target).replace("127.0.0.1", "public.example")
        assert "is not on the public internet" in await refusal(url, private=False)
    assert [request.path for request in web_site.asked] == ["/a", "/a"]


def public(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let one name lead to this machine and count as public."""
    ours = pages.PublicResolver

    class Resolver(ours):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            if host != name:
                return await super().resolve(host, port, family)
            kind, flags = socket.AF_INET, socket.AI_NUMERICHOST
            return [
                {
                    "hostname": host,
                    "host": "127.0.0.1",
                    "port": port,
                    "family": kind,
                    "proto": 6,
                    "flags": flags,
                }
            ]

    monkeypatch.setattr(pages, "PublicResolver", Resolver)


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    said = await refusal(address, private=False)
    assert "is not on the public internet" in said
    assert "WAKEFUL_FETCH_PRIVATE" in said
    with pytest.raises(ToolError, match="not on the public internet"):
        await Pages(private=False).is_public(address)


async def test_a_private_server_is_never_connected_to(web_site: Site) -> None:
    url = web_site.page("/x", "<p>secret")
    await refusal(url, private=False)
    await refusal(url.replace("127.0.0.1", "localhost"), private=False)
    assert web_site.asked == []
    assert await read(url) == "secret"
    assert not await Pages(private=True).is_public(url)


@pytest.mark.parametrize("address", NO_ADDRESSES)
async def test_what_is_no_address_of_the_web_is_refused_with_an_example(address: str) -> None:
    assert "https://example.com/page" in await refusal(address)


async def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    said = await refusal("https://ada:secret@example.com/")
    assert "user name" in said
    assert "secret" not in said


@given(st.text(max_size=60) | st.text(max_size=40).map("http://{}".format))
def test_whatever_the_text_it_is_an_address_or_a_refusal(text: str) -> None:
    try:
        url = checked(text)
    except ToolError:
        return
    assert url.scheme in ("http", "https")
    assert url.host


async def test_a_server_that_is_away_or_speaks_no_http_is_an_error() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-server\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "did not answer as a web server does" in await refusal(f"http://127.0.0.1:{port}/")
    server.close()
    await server.wait_closed()
    assert "cannot be reached" in await refusal(f"http://127.0.0.1:{port}/")
    assert "name is not known" in await refusal("http://nobody.invalid/")


async def test_endless_headers_are_refused(web_site: Site) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"x-much": "x" * 100_000})

    web_site.pages["/x"] = handle
    assert "did not answer as a web server does" in await refusal(f"{web_site.url}/x")
