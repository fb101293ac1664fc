"""The process that reads one page: HTML in, Markdown out, and nothing else happens in it."""

import contextlib
import resource
import sys

MEMORY_BYTES = 1 << 30
MAX_CHARS = 1_000_000  # of the text that is given back


def main(cpu_seconds: int, url: str) -> None:
    """Read a page from the standard input, and write its text to the standard output."""
    _bound(resource.RLIMIT_CPU, cpu_seconds)
    _bound(resource.RLIMIT_AS, MEMORY_BYTES)
    _bound(resource.RLIMIT_FSIZE, 0)
    _bound(resource.RLIMIT_CORE, 0)
    html = sys.stdin.buffer.read().decode("utf-8", "replace")
    from actors.tools.page_text import markdown

    text = markdown(html, url=url)[:MAX_CHARS]
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.buffer.flush()


def _bound(what: int, limit: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # not every system knows every limit
        resource.setrlimit(what, (limit, limit))
