"""Has a page read by a process of its own, so that no page, however it is made, holds up the server.

Parsers of HTML need time by the square of how deep a page is nested, and hold Python's lock meanwhile: two
megabytes of `<div>` would stop every agent for minutes. A process can be killed, and has bounds of its own.
"""

import contextlib
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path

import anyio

CPU_SECONDS = 10  # a long page takes half a second
STOP_SECONDS = 2.0
READERS = 2  # processes at the same time; further pages wait within their callers' deadlines

_CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from actors.tools import page_child
page_child.main(int(sys.argv[2]), sys.argv[3])
"""
# Not the server's environment: that holds keys of other services.
_ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C.UTF-8"}


class UnreadableError(Exception):
    """The page could not be read within the bounds of a page; another try would end alike."""


class PageReader:
    """Reads pages, a few at a time."""

    def __init__(self) -> None:
        self._slots = anyio.CapacityLimiter(READERS)

    async def markdown(self, html: str, *, url: str) -> str:
        """Return the text of a page; see `page_text.markdown`. Cancelling leaves no process behind.

        Raises:
            UnreadableError: It takes too much time or memory.
            OSError: The machine has no room for a process.
        """
        root = str(Path(__file__).parents[2])
        async with self._slots:
            process = await create_subprocess_exec(
                *(sys.executable, "-I", "-c", _CODE, root, str(CPU_SECONDS), url),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C at the terminal is for the server, which then stops it
            )
            try:
                text, _ = await process.communicate(html.encode("utf-8", "replace"))
            finally:
                await _end(process)
        if process.returncode != 0:
            raise UnreadableError
        return text.decode("utf-8", "replace")


async def _end(process: Process) -> None:
    if process.returncode is None:
        with anyio.move_on_after(STOP_SECONDS, shield=True), contextlib.suppress(ProcessLookupError):
            process.kill()
            await process.communicate()
