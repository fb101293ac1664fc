"""What a person would read of a page."""

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tools.page_text import MAX_LINK_CHARS, markdown

URL = "https://example.com/a/b"


def read(body: str, *, head: str = "") -> str:
    return markdown(f"<!doctype html><html><head>{head}</head><body>{body}</body></html>", url=URL)


def test_headings_paragraphs_and_emphasis_become_markdown() -> None:
    text = read(
        "<h1>Tea</h1><p>Green  tea\n is <b>hot</b> and <em>bitter</em>.</p><h2>Water</h2><p>Boil it.<br>Wait."
    )
    assert text == "# Tea\n\nGreen tea is **hot** and *bitter*.\n\n## Water\n\nBoil it.\nWait."


def test_the_title_stands_first_where_the_page_has_no_heading_of_its_own() -> None:
    assert read("<p>Text", head="<title> The\n title </title>") == "# The title\n\nText"
    assert read("<h1>Own</h1><p>Text", head="<title>The title</title>") == "# Own\n\nText"


def test_links_are_made_whole_and_those_that_lead_nowhere_are_text() -> None:
    text = read(
        '<p><a href="../c?d=e">one</a> <a href="#f">two</a> <a href="javascript:g()">three</a>'
        f' <a href="/{"h" * MAX_LINK_CHARS}">four</a> <a href="http://[i">five</a> <a href="/j"></a>'
        ' <a name="k">six</a></p>'
    )
    assert text == "[one](https://example.com/c?d=e) two three four five six"


def test_lists_nest_and_count() -> None:
    text = read("<ul><li>a<ol><li>b</li><li>c</li></ol></li><li><p>d</p><p>e</p></li></ul>")
    assert text == "- a\n  1. b\n  2. c\n- d\n\n  e"


def test_a_table_has_a_line_for_each_row() -> None:
    text = read(
        "<table><tr><th>City<th>People</tr><tr><td><p>Graz</p><td><a href=/g>300,000</a></tr></table>"
        "<p>after</p>"
    )
    assert text == dedent(
        """\
        | City | People |
        | --- | --- |
        | Graz | [300,000](https://example.com/g) |

        after"""
    )


def test_a_table_that_only_places_things_is_read_as_blocks() -> None:
    text = read(
        "<table><tr><td><p>menu<table><tr><td>x<td>y</tr></table><p>one<p>two</td><td>three</td></tr></table>"
    )
    assert text.split("\n\n")[-3:] == ["one", "two", "three"]
    assert "| x | y |" in text


def test_code_keeps_its_lines() -> None:
    assert read("<p>Run <code>ls  -l</code>:</p><pre><code>a\n  b &lt; c\n</code></pre>") == (
        "Run `ls -l`:\n\n```\na\n  b < c\n```"
    )


def test_a_quotation_is_marked() -> None:
    assert read("<blockquote><p>To be<br>or not</p><p>to be</blockquote><p>he said") == (
        "> To be\n> or not\n\n> to be\n\nhe said"
    )


def test_menus_scripts_and_what_is_hidden_are_left_out() -> None:
    text = read(
        "<header>logo</header><nav><a href=/>home</a></nav><script>alert(1)</script><style>p{}</style>"
        "<div role=navigation>more</div><div hidden>secret</div><svg><text>drawn</text></svg>"
        "<article><header><h1>Heading</h1></header><p>The text.</p><button>Like</button></article>"
        "<aside>related</aside><footer>imprint</footer><noscript>Enable JavaScript</noscript>"
    )
    assert text == "# Heading\n\nThe text."


def test_the_main_element_is_the_page_where_it_holds_enough_of_it() -> None:
    around = "<div>Buy our <a href=/x>things</a>.</div>"
    assert read(f"{around}<main><p>{'word ' * 50}</p></main>") == ("word " * 50).strip()
    text = read(f"<main><p>Loading</p></main><div>{'word ' * 50}</div>")
    assert text.startswith("Loading\n\nword word")
    assert read(f"<main>{' ' * 500}<p>Loading</p></main><div>{'word ' * 50}</div>") == text
    assert read("<main>----</main><p>word</p>") == "word"


def test_a_page_that_is_nothing_but_a_menu_is_shown_as_it_is() -> None:
    assert read("<nav><a href=/a>A</a></nav>") == "[A](https://example.com/a)"


@pytest.mark.parametrize(
    "body", ["", "<div><img src=x><br></div>", "<script>app()</script><div id=root></div>"]
)
def test_a_page_without_text_is_empty(body: str) -> None:
    assert read(body, head="<title>App</title>") == ""


TAGS = (
    "p",
    "a",
    "b",
    "ul",
    "ol",
    "li",
    "table",
    "tr",
    "td",
    "pre",
    "code",
    "blockquote",
    "h1",
    "div",
)
PIECES = [
    *(f"<{tag}>" for tag in (*TAGS, "br", "hr", "th", "i")),
    *(f"</{tag}>" for tag in TAGS),
    *("word", "two\nlines", "  ", "<!-- c -->", "&amp;", "\x00", "<a href='/x'>"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_whatever_the_markup_every_word_is_there_and_nothing_fails(fragments: list[str]) -> None:
    text = read("".join(fragments))
    assert text.count("word") == fragments.count("word")
    assert not text.startswith("\n")


@given(st.lists(st.sampled_from([*PIECES, "<main>", "</main>"]), max_size=60))
def test_whatever_says_to_be_the_main_element_no_word_is_there_twice_and_nothing_fails(
    fragments: list[str],
) -> None:
    text = read("".join(fragments))
    words = fragments.count("word")
    assert text.count("word") <= words
    assert text or not words
    assert not text.startswith("\n")


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 5_000 + "deep",
        "<table><tr><td>" * 5_000 + "deep",
        "<b><p>" * 3_000 + "deep",
        "<ul><li>" * 2_000 + "deep",
    ],
)
def test_a_page_that_is_nested_without_end_is_read(html: str) -> None:
    assert "deep" in read(html)
