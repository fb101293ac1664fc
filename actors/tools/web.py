"""web_search and fetch_webpage: what agents see of the web. They look and change nothing."""

import logging

from actors.llm.wire import Wire
from actors.tools.exa import NO_KEY, Exa
from actors.tools.pages import Pages
from actors.tools.results import ToolError
from storage.records import JsonObject

log = logging.getLogger("wakeful.tools")

PAGE_CHARS = 40_000  # of a page from Exa: as JSON it stays below what a result may have


class Web:
    """The web as the agents of one process see it: through Exa where there is a key, else page by page."""

    def __init__(self, wire: Wire, *, exa_api_key: str | None, exa_base_url: str, private: bool) -> None:
        self._pages = Pages(private=private)
        self._exa = None if exa_api_key is None else Exa(wire, api_key=exa_api_key, base_url=exa_base_url)

    async def search(self, arguments: JsonObject) -> str:
        """Return what `web_search` found, as JSON. Cancelling loses nothing.

        Raises:
            ToolError: There is no key, or the search engine does not answer.
        """
        if self._exa is None:
            raise ToolError(NO_KEY)
        return await self._exa.search(arguments)

    async def fetch(self, arguments: JsonObject) -> str:
        """Return a page: JSON from Exa where it has it, else its text as Markdown. Cancelling loses nothing.

        Exa is told no address of a private network, and where it fails the page is fetched from here.

        Raises:
            ToolError: The address cannot be used, or no readable page came.
        """
        url = arguments["url"]
        if self._exa is not None and await self._pages.is_public(url):
            try:
                found = await self._exa.page(url, limit_chars=PAGE_CHARS)
            except ToolError as error:
                log.warning("page fetched without Exa", extra={"why": str(error)})
            else:
                if found is not None:
                    return found
        return await self._pages.text_of(url)
