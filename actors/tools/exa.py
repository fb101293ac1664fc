"""Exa, a search engine: searches the web, and reads pages. https://docs.exa.ai/reference/search (2026)."""

from typing import Any

import aiohttp
import anyio
import msgspec
from msgspec import Struct
from yarl import URL

from actors.llm.wire import Wire, read_body
from actors.tools.results import ToolError
from storage.records import JsonObject

SECONDS = 45.0  # a search with summaries takes a few; live pages take longer
ANSWER_BYTES = 16 * 1024 * 1024
DEFAULT_RESULTS = 10
MAX_RESULTS = 100
PASSAGE_CHARS = 600  # of the passages of one page together
RESULT_CHARS = 40_000  # of all texts together: what a result may take of the model's window
NO_KEY = (
    "web_search needs a key of the search engine Exa, and EXA_API_KEY is not set where this server runs. "
    "Ask the person who runs it to get one at https://exa.ai and set it; until then do without searching"
)

_FILTERS = {
    "category": "category",
    "include_domains": "includeDomains",
    "exclude_domains": "excludeDomains",
    "start_published_date": "startPublishedDate",
    "end_published_date": "endPublishedDate",
    "user_location": "userLocation",
}


class _Found(Struct, frozen=True, rename="camel"):
    """One page that Exa knows; it leaves out what it does not know."""

    title: str | None = None
    url: str | None = None
    published_date: str | None = None
    author: str | None = None
    text: str | None = None
    highlights: list[str] | None = None
    summary: str | None = None


class _Answer(Struct, frozen=True):
    results: list[_Found] = []


class Exa:
    """Speaks to Exa with one key, over the connections and proxies that models are called through."""

    def __init__(self, wire: Wire, *, api_key: str, base_url: str) -> None:
        self._wire = wire
        self._api_key = api_key
        self._base_url = base_url.rstrip("/")

    async def search(self, arguments: JsonObject) -> str:
        """Return what was found as JSON; `arguments` have passed `arguments.parse`. Safe to repeat.

        Raises:
            ToolError: The query is empty, or Exa does not answer it.
        """
        query = arguments["query"].strip()
        if not query:
            raise ToolError("query is empty; describe what you look for")
        limit = min(max(arguments.get("num_results", DEFAULT_RESULTS), 1), MAX_RESULTS)
        whole = bool(arguments.get("include_text"))
        share = RESULT_CHARS // limit
        contents: JsonObject = {
            "highlights": {"query": query, "maxCharacters": PASSAGE_CHARS},
            "summary": {"query": f"What this says of: {query}"},
        }
        if whole:
            contents["text"] = {"maxCharacters": share}
        filters = {theirs: arguments[ours] for ours, theirs in _FILTERS.items() if arguments.get(ours)}
        asked = {"query": query, "type": "auto", "numResults": limit, **filters, "contents": contents}
        found = await self._ask("/search", asked)
        results = [_result(page, share=share, whole=whole) for page in found[:limit]]
        return msgspec.json.encode({"query": query, "results": results}).decode()

    async def page(self, url: str, *, limit_chars: int) -> str | None:
        """Return a page as JSON with its title, date, author and text; None where Exa has not got it.

        Raises:
            ToolError: Exa does not answer.
        """
        found = await self._ask("/contents", {"urls": [url], "text": {"maxCharacters": limit_chars}})
        if not found or not found[0].text:
            return None
        page = found[0]
        shown = {
            "title": page.title,
            "published_date": page.published_date,
            "author": page.author,
            "text": _cut(page.text, limit_chars),
        }
        return msgspec.json.encode(shown).decode()

    async def _ask(self, path: str, question: JsonObject) -> list[_Found]:
        url = URL(self._base_url + path)
        try:
            with anyio.fail_after(SECONDS):
                async with self._wire.session.post(
                    url,
                    json=question,
                    headers={"x-api-key": self._api_key},
                    proxy=self._wire.proxy_for(url),
                    allow_redirects=False,
                ) as response:
                    body = await read_body(response, ANSWER_BYTES)
        except TimeoutError as error:
            raise ToolError(f"Exa did not answer within {SECONDS:.0f} s; try again") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise ToolError(f"the search engine at {url.host} cannot be reached; try again later") from error
        if response.status != 200:
            raise ToolError(self._refusal(response.status, body))
        try:
            return msgspec.json.decode(body, type=_Answer).results
        except msgspec.DecodeError as error:
            raise ToolError("Exa answered with something that is no search result; try again") from error

    def _refusal(self, status: int, body: bytes) -> str:
        why = _reason(body).replace(self._api_key, "***")
        match status:
            case 401 | 403:
                return (
                    f"Exa refuses the key ({status}): EXA_API_KEY has to be corrected where this server runs"
                )
            case 402:
                return (
                    "the account at Exa has no credit left; the person who runs this server has to see to it"
                )
            case 429:
                return "Exa wants no more searches for now; wait a little and try again"
            case _ if status >= 500:
                return f"Exa is out of order ({status}); try again later"
            case _:
                return f"Exa refuses this search ({status}): {why}; change the arguments it names"


def _reason(body: bytes) -> str:
    try:
        said: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "no reason given"
    reason = said.get("error") or said.get("message") if isinstance(said, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] -- JSON of another server
    return reason[:300] if isinstance(reason, str) else "no reason given"


def _result(page: _Found, *, share: int, whole: bool) -> JsonObject:
    result: JsonObject = {
        "title": _cut(page.title, share),
        "url": page.url,
        "published_date": page.published_date,
        "author": _cut(page.author, share),
    }
    if whole and page.text:
        result["text"] = _cut(page.text, share)
    if page.highlights:
        result["highlights"] = [_cut(one, share) for one in page.highlights[:MAX_RESULTS]]
    if page.summary:
        result["summary"] = _cut(page.summary, share)
    return result


def _cut(text: str | None, limit_chars: int) -> str | None:
    if text is None or len(text) <= limit_chars:
        return text
    return f"{text[:limit_chars]}... [{len(text)} characters]"
