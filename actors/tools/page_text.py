"""Turns the HTML of a page into what a person would read of it, as Markdown. Pure."""

import re
from collections.abc import Iterator
from urllib.parse import urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_LINK_CHARS = 500  # of an address; longer ones carry data, not a place
_MAIN_SHARE = 0.25  # of the page's text: what a main element holds at least if it is taken for the page

# What is not read by anybody, and what surrounds the text of a page.
_SILENT = (
    "script, style, noscript, template, svg, canvas, iframe, object, embed, audio, video, button, input, "
    "select, textarea, [hidden], [aria-hidden='true']"
)
_AROUND = (
    "nav, aside, footer, body > header, dialog, [role='navigation'], [role='banner'], "
    "[role='contentinfo'], [role='search'], [role='dialog'], [role='alert'], [role='menu']"
)
_BLOCKS = frozenset((
    "address", "article", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hr", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot",
    "thead", "tr", "ul",
))  # fmt: skip
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_WRAPS = {"strong": "**", "b": "**", "em": "*", "i": "*", "del": "~~", "s": "~~"}
_BLANKS = re.compile(r"[ \t\r\f\v\u00a0]+")
_SPACE = re.compile(r"\s+")


def markdown(html: str, *, url: str) -> str:
    """Return the text of a page, its title first; links are made whole with `url`. Empty where it has none.

    Menus, footers and the like are left out, unless nothing else is there. The work is linear in the
    page's length and does not recurse, however deep the page is nested.
    """
    text = _render(html, url, without=f"{_SILENT}, {_AROUND}")
    return text or _render(html, url, without=_SILENT)


def _render(html: str, url: str, *, without: str) -> str:
    tree = LexborHTMLParser(html)
    title = _title(tree)
    body = tree.body
    if body is None:
        return ""
    for node in body.css(without):
        if node.mem_id != body.mem_id:
            node.decompose()
    page = _Page(url)
    page.walk(_main(body))
    if not page.blocks:
        page.walk(body)
    if not page.blocks:
        return ""
    if title and not any(block.startswith("# ") for block in page.blocks):
        page.blocks.insert(0, f"# {title}")
    return page.text()


def _title(tree: LexborHTMLParser) -> str:
    found = tree.css_first("head > title") or tree.css_first("title")
    return _SPACE.sub(" ", found.text()).strip() if found is not None else ""


def _main(body: LexborNode) -> LexborNode:
    """Return the element that holds the page's text: the one that says so, where it holds enough of it."""
    found = body.css("main, [role='main']") or body.css("article")
    if len(found) == 1 and _length(found[0]) >= _MAIN_SHARE * _length(body):
        return found[0]
    return body


def _length(node: LexborNode) -> int:
    """Return how many characters of a text are seen: templates indent much that is empty."""
    return len(_SPACE.sub("", node.text()))


class _Page:
    """The Markdown of one page while it is walked through."""

    def __init__(self, url: str) -> None:
        self.blocks: list[str] = []
        self._url = url
        self._inline: list[str] = []
        self._marks: list[int] = []  # where open links and emphases begin in `_inline`
        self._lead = ""  # what the next block begins with
        self._lists: list[int | None] = []  # of each open list the number of its last item; None: bullets
        self._quotes = 0
        self._tables: list[_Table] = []

    def text(self) -> str:
        """Return the whole text: blocks apart, items and rows together."""
        parts: list[str] = []
        for before, block in zip(["", *self.blocks], self.blocks, strict=False):
            if parts:
                parts.append("\n" if _is_line(before) and _is_line(block) else "\n\n")
            parts.append(block)
        return "".join(parts)

    def walk(self, root: LexborNode) -> None:
        """Render an element and everything in it."""
        for node, enters in _steps(root):
            tag = node.tag or ""
            if tag == "-text":
                self._inline.append(_spaced(node.text_lexbor()))
            elif enters:
                self._enter(node, tag)
            else:
                self._leave(node, tag)
        self._flush()

    # --- elements ---------------------------------------------------------------------------------

    def _enter(self, node: LexborNode, tag: str) -> None:
        if tag in _BLOCKS:
            self._break()
        match tag:
            case "br":
                self._inline.append(" " if self._in_row else "\n")
            case "hr":
                self.blocks.append("---")
            case "pre" | "code":
                self._code(node, tag)
            case "ul" | "ol":
                self._lists.append(0 if tag == "ol" else None)
            case "li":
                self._lead = self._item()
            case "blockquote":
                self._quotes += 1
            case "table":
                if self._tables:  # a table in a table: the outer one only places things
                    self._tables[-1].places = True
                    self._flush()
                self._tables.append(_Table())
            case "td" | "th":
                self._cell()
            case "a":
                self._marks.append(len(self._inline))
            case _ if tag in _WRAPS:
                self._marks.append(len(self._inline))
            case _:
                self._lead = _HEADINGS.get(tag, self._lead)

    def _leave(self, node: LexborNode, tag: str) -> None:
        match tag:
            case "a":
                self._link(node)
            case "tr" if self._in_row:
                self._row()
            case _ if tag in _WRAPS:
                self._wrap(_WRAPS[tag])
            case _ if tag in _BLOCKS:
                self._break()
            case _:
                pass
        match tag:
            case "ul" | "ol" if self._lists:
                self._lists.pop()
            case "li":
                self._lead = ""
            case "blockquote":
                self._quotes -= 1
            case "table":
                self._tables.pop()
            case _:
                pass

    def _item(self) -> str:
        depth = max(0, len(self._lists) - 1)
        last = self._lists[-1] if self._lists else None
        if last is None:
            return "  " * depth + "- "
        self._lists[-1] = last + 1
        return "  " * depth + f"{last + 1}. "

    def _code(self, node: LexborNode, tag: str) -> None:
        text = node.text()
        if tag == "code" or self._in_row:
            if text := _SPACE.sub(" ", text).strip():
                self._inline.append(f"`{text}`")
        elif text := text.strip("\n").rstrip():
            self.blocks.append(f"```\n{text}\n```")

    def _link(self, node: LexborNode) -> None:
        text = self._taken()
        target = (node.attributes.get("href") or "").strip()
        try:
            address = urljoin(self._url, target)
        except ValueError:
            address = ""
        shown = text.strip()
        linked = shown and target and not target.startswith("#") and len(address) <= MAX_LINK_CHARS
        if linked and address.startswith(("http://", "https://")) and "\n" not in shown:
            text = text.replace(shown, f"[{shown}]({address})", 1)
        self._inline.append(text)

    def _wrap(self, mark: str) -> None:
        text = self._taken()
        shown = text.strip()
        if shown and "\n" not in shown:
            text = text.replace(shown, f"{mark}{shown}{mark}", 1)
        self._inline.append(text)

    def _taken(self) -> str:
        """Take what was said since the last open mark out of the line."""
        begin = self._marks.pop() if self._marks else len(self._inline)
        text = "".join(self._inline[begin:])
        del self._inline[begin:]
        return text

    # --- tables -----------------------------------------------------------------------------------

    @property
    def _in_row(self) -> bool:
        """Whether what comes now stands in a cell, on one line with its row."""
        return bool(self._tables) and self._tables[-1].cells > 0 and not self._tables[-1].places

    def _cell(self) -> None:
        if not self._tables or self._tables[-1].places:
            self._flush()
            return
        table = self._tables[-1]
        self._inline.append(" | " if table.cells else "| ")
        table.cells += 1

    def _row(self) -> None:
        table = self._tables[-1]
        count, table.cells = table.cells, 0
        self._inline.append(" |")
        before = len(self.blocks)
        self._flush()
        if len(self.blocks) > before and not table.rows:
            self.blocks.append("|" + " --- |" * count)
        table.rows += 1

    # --- lines ------------------------------------------------------------------------------------

    def _break(self) -> None:
        if self._in_row:
            self._inline.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        """End the block that is being written."""
        lines = (_BLANKS.sub(" ", line).strip() for line in "".join(self._inline).split("\n"))
        text = "\n".join(line for line in lines if line)
        self._inline.clear()
        self._marks = [0] * len(self._marks)
        if not text.strip("|- *~\n"):
            return
        lead, quote = self._lead, "> " * self._quotes
        self._lead = " " * len(lead) if lead.lstrip().startswith(("-", *"0123456789")) else ""
        self.blocks.append("\n".join(quote + (lead if n == 0 else " " * len(lead)) + line
                                     for n, line in enumerate(text.split("\n"))))  # fmt: skip


class _Table:
    """A table that is open. `places` says that it is there for the layout, so that its rows are blocks."""

    def __init__(self) -> None:
        self.cells = 0  # of the open row
        self.rows = 0
        self.places = False


def _steps(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Yield each node in order, elements twice: when they begin (True) and when they end (False)."""
    node: LexborNode | None = root
    while node is not None:
        yield node, True
        below = None if node.tag in ("pre", "code") else node.first_child
        while below is None and node is not None:
            if node.tag != "-text":
                yield node, False
            if node.mem_id == root.mem_id:
                return
            below, node = node.next, node.parent
        node = below


def _spaced(text: str) -> str:
    """Return a text with its white space as a browser shows it."""
    return _SPACE.sub(" ", text)


_LINE = re.compile(r"(?:> )*\s*(?:[-|]|\d+\.) ?")


def _is_line(block: str) -> bool:
    return "\n" not in block and _LINE.match(block) is not None
