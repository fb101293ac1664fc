"""What the commands share that ask a running server: a connection, errors with remedies, tables and text."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from gateway.chat.client import AwayError, ChatError, Client, RefusedError
from gateway.chat.view import one_line, printable

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


def ask(url: str, api_key: str | None, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` on a connection to the server and return what it returns.

    Raises:
        ChatError: It failed; the message names the remedy.
    """

    async def connected() -> T:
        async with Client(url, api_key) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except AwayError as error:
        raise ChatError(f"{error}; start a server with: wakeful serve") from error
    except RefusedError as error:
        raise ChatError(f"the server refuses: {error}") from error


def print_json(value: object) -> None:
    """Write a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode(), flush=True)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows: a table on a terminal, else tab-separated lines without heads."""
    console = terminal()
    if console is None:
        for row in rows:
            print("\t".join(one_line(cell) for cell in row))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(table)


def print_heading(text: str) -> None:
    """Write a line that stands above others."""
    console = terminal()
    if console is None:
        print(printable(text))
    else:
        console.out(printable(text), style="bold", highlight=False)


def print_text(text: str) -> None:
    """Write text as it is, but for what would steer a terminal."""
    print(printable(text))


def terminal() -> "Console | None":
    """Return a console where standard output is a terminal."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console(width=shutil.get_terminal_size().columns)
