"""Fetches a page of the web, within bounds, and never from a network that only this server can reach."""

import codecs
import re
from contextlib import suppress

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver
from msgspec import Struct
from yarl import URL

from actors.public_addresses import NotPublicError, PublicResolver, is_numeric, is_public
from actors.tools.page_reader import PageReader, UnreadableError
from actors.tools.results import ToolError

SECONDS = 30.0  # for a page with all its redirects
CONNECT_SECONDS = 10.0
MAX_BYTES = 2 * 1024 * 1024  # of a page, decompressed; what is longer is read so far
MAX_REDIRECTS = 5
MAX_URL_CHARS = 8192
AT_ONCE = 16  # pages that are fetched at the same time; further ones wait within their own time

_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    "accept": "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.8,*/*;q=0.1",
    "user-agent": "Mozilla/5.0 (compatible; wakeful; fetch_webpage)",
}
_MARKUP = ("text/html", "application/xhtml+xml")
_TEXTUAL = re.compile(r"text/.+|application/(?:.+\+)?(?:json|xml|yaml|toml|javascript|x-ndjson)")
_DECLARED = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
# What pages are written in; Python knows other codes as well, of which some take for ever.
_CHARSET = re.compile(
    r"(?:utf|iso|windows|cp|latin|(?:us-)?ascii|koi8|gb|hz|big5|euc|shift|sjis|ks|tis|mac)[\w.:-]{0,30}",
    re.IGNORECASE | re.ASCII,
)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_PRIVATE = (
    "{host} is not on the public internet; pages of this machine and of private networks are not fetched. "
    "Use a public address, or ask the person who runs this server to set WAKEFUL_FETCH_PRIVATE=on"
)


class Page(Struct, frozen=True, kw_only=True):
    """What came of a page. `cut` says that it goes on behind `body`."""

    url: str
    content_type: str
    charset: str | None
    body: bytes
    cut: bool


class Pages:
    """Fetches pages for the tools of one process. `private` lets it into networks that are not public."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        self._reader = PageReader()

    async def text_of(self, address: str) -> str:
        """Return the text of a page, HTML as Markdown. Cancelling loses nothing.

        Raises:
            ToolError: The address cannot be used or is private, or no readable page came in time.
        """
        url = checked(address)
        try:
            with anyio.fail_after(SECONDS):
                async with self._slots:
                    return await self._read(await self._fetch(url))
        except TimeoutError as error:
            raise ToolError(
                f"{url.host} did not send the page within {SECONDS:.0f} s; try again later, or another page"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ToolError(_broken(error, url)) from error

    async def is_public(self, address: str) -> bool:
        """Say whether somebody else may be told this address: it leads to no private network.

        An address is not told while the name service that would know it does not answer.

        Raises:
            ToolError: The address cannot be used, or it is private and private ones may not be fetched.
        """
        url = checked(address)
        host = url.host or ""
        public = not is_numeric(host) or is_public(host)
        if public:
            try:
                with anyio.fail_after(CONNECT_SECONDS):
                    await PublicResolver().resolve(host, url.port or 0)
            except NotPublicError:
                public = False
            except TimeoutError:
                return False  # whoever knows the name has not said: it may be one of ours
            except (OSError, UnicodeError):
                pass  # no name service here knows it, or can: so that it leads to nothing of ours
        if not public and not self._private:
            raise ToolError(_PRIVATE.format(host=host))
        return public

    async def _fetch(self, url: URL) -> Page:
        """Follow redirects, each checked like the first address, to a page."""
        async with self._session() as session:
            for _ in range(MAX_REDIRECTS + 1):
                came = await self._get(session, url)
                if isinstance(came, Page):
                    return came
                url = came
        raise ToolError(f"the page redirects more than {MAX_REDIRECTS} times; use the address it leads to")

    def _session(self) -> aiohttp.ClientSession:
        resolver: AbstractResolver | None = None if self._private else PublicResolver()
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            trust_env=False,  # a proxy would resolve names where we cannot look
            headers=_HEADERS,
        )

    async def _get(self, session: aiohttp.ClientSession, url: URL) -> Page | URL:
        """Return the page, or the address that it says to go to."""
        if not self._private and is_numeric(url.host or "") and not is_public(url.host or ""):
            raise ToolError(_PRIVATE.format(host=url.host))
        async with session.get(url, allow_redirects=False) as response:
            target = response.headers.get("location")
            if response.status not in _REDIRECTS or target is None:
                return await _received(url, response)
            return checked(str(url.join(URL(target))))

    async def _read(self, page: Page) -> str:
        text = _text(page)
        if _is_markup(page, text):
            try:
                text = await self._reader.markdown(text, url=page.url)
            except UnreadableError as error:
                raise ToolError("the page is too long or too deep to be read; use another source") from error
        if not text.strip():
            raise ToolError(
                "the page holds no text that can be read: it may be made by scripts, or only of images. "
                "Look for the same thing elsewhere"
            )
        return text + (f"\n\n[The page is longer than the {MAX_BYTES} bytes read.]" if page.cut else "")


def checked(address: str) -> URL:
    """Return an address that may be fetched, as far as one sees without asking anybody.

    Raises:
        ToolError: It is no http or https address with a host, or it holds credentials.
    """
    remedy = "send the whole address of a page, such as https://example.com/page"
    address = address.strip()
    if len(address) > MAX_URL_CHARS:
        raise ToolError(f"the address has {len(address)} characters, {MAX_URL_CHARS} at most; {remedy}")
    try:
        url = URL(address)
        usable = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
        named = url.raw_user is not None or url.raw_password is not None
    except ValueError:
        usable = named = False
    else:
        if named:
            raise ToolError("the address holds a user name or a password, which are not sent; leave them out")
        if usable and not any(c.isspace() or c in "\\%" for c in url.raw_host or ""):
            return url.with_fragment(None)
    raise ToolError(f"{address[:200]!r} is no http or https address; {remedy}")


async def _received(url: URL, response: aiohttp.ClientResponse) -> Page:
    if response.status >= 400:
        raise ToolError(f"{url.host} answered {response.status} {response.reason or ''}: {_meant(response)}")
    kind = response.content_type if "content-type" in response.headers else ""
    if kind and kind not in _MARKUP and not _TEXTUAL.fullmatch(kind):
        raise ToolError(f"the page is of the type {kind}, and only text can be read; look for a text version")
    body = bytearray()
    while len(body) <= MAX_BYTES and (part := await response.content.readany()):
        body += part
    cut = len(body) > MAX_BYTES
    return Page(
        url=str(url),
        content_type=kind,
        charset=response.charset,
        body=bytes(body[:MAX_BYTES]),
        cut=cut,
    )


def _meant(response: aiohttp.ClientResponse) -> str:
    match response.status:
        case 404 | 410:
            return "there is no such page; check the address, or search for it"
        case 401 | 403 | 407 | 451:
            return "it does not show this page to everybody; use another source"
        case 429 | 503:
            return "it wants no more requests for now; try again later"
        case status if status >= 500:
            return "it is out of order; try again later, or another page"
        case _:
            return "it does not give this page; use another source"


def _text(page: Page) -> str:
    """Return what a page holds, as text."""
    if b"\0" in page.body[:1024] and not page.body.startswith(tuple(mark for mark, _ in _MARKS)):
        raise ToolError("the page is not text but something binary; look for a text version")
    return decoded(page.body, page.charset)


def _is_markup(page: Page, text: str) -> bool:
    return page.content_type in _MARKUP or (not page.content_type and text.lstrip().startswith("<"))


def decoded(body: bytes, charset: str | None) -> str:
    """Return a body as text, in the first of these that can be: its mark, `charset`, what it declares itself,
    UTF-8, and the code page that browsers fall back to. What cannot be read becomes U+FFFD."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    found = _DECLARED.search(body[:4096])
    declared = found[1].decode("ascii") if found is not None else None
    for name in (charset, declared):
        if name is not None and _CHARSET.fullmatch(name.strip()):
            with suppress(LookupError, UnicodeError):  # no such code, or none for this text
                return body.decode(name.strip(), "replace")
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body)  # a page may be cut within a character
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace")


def _broken(error: Exception, url: URL) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError() if isinstance(error.os_error, NotPublicError):
            return _PRIVATE.format(host=url.host)
        case aiohttp.ClientConnectorDNSError():
            what = "has no address: the name is not known"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            what = "cannot be trusted: its certificate is not valid"
        case aiohttp.ClientConnectorError():
            what = "cannot be reached"
        case _:
            what = "did not answer as a web server does"
    return f"{url.host} {what}; check the address, or use another page"
