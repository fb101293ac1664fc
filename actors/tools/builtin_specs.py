"""The tools that look at the web or run code: their names and arguments are those of Letta's server."""

from actors.tools.spec import ToolSpec, arguments_of

CATEGORIES = (
    "company",
    "research paper",
    "news",
    "pdf",
    "github",
    "tweet",
    "personal site",
    "linkedin profile",
    "financial report",
)
LANGUAGES = ("python", "js", "ts", "r", "java")

WEB_SEARCH = ToolSpec(
    name="web_search",
    description=(
        "Search the web. Each result has its title, address, date and author, a summary, and the passages "
        "that fit the query best. Describe what you look for in a sentence; fetch_webpage, where you have "
        "it, reads a whole page."
    ),
    parameters=arguments_of(
        ("query",),
        query={"type": "string", "description": "What you look for, in your own words."},
        num_results={
            "type": "integer",
            "description": "How many results to return: 10 when left out, never more than 100.",
        },
        category={
            "type": "string",
            "enum": list(CATEGORIES),
            "description": "Only pages of this kind. Left out: of every kind.",
        },
        include_text={
            "type": "boolean",
            "description": (
                "Whether to return the text of the pages, too. It takes much room; summary and passages "
                "usually do."
            ),
        },
        include_domains={
            "type": "array",
            "items": {"type": "string"},
            "description": "Only pages of these domains, such as arxiv.org.",
        },
        exclude_domains={
            "type": "array",
            "items": {"type": "string"},
            "description": "No pages of these domains.",
        },
        start_published_date={
            "type": "string",
            "description": "Only pages published from this day on: an ISO 8601 date such as 2026-03-31.",
        },
        end_published_date={
            "type": "string",
            "description": "Only pages published up to this day: an ISO 8601 date.",
        },
        user_location={
            "type": "string",
            "description": "The country to search from, as two letters such as US.",
        },
    ),
    tool_type="letta_builtin",
    kind="read",
    cut_result=False,
)

FETCH_WEBPAGE = ToolSpec(
    name="fetch_webpage",
    description=(
        "Read a page of the web: its text comes as Markdown, without menus and decoration. Images, videos "
        "and other files cannot be read."
    ),
    parameters=arguments_of(
        ("url",),
        url={"type": "string", "description": "The whole address of the page, with https://."},
    ),
    tool_type="letta_builtin",
    kind="read",
)

RUN_CODE = ToolSpec(
    name="run_code",
    description=(
        "Run code in a sandbox of its own and see what it prints, the value of its last line, and its "
        "errors. Nothing stays from one call to the next: import and define again what you need."
    ),
    parameters=arguments_of(
        ("code", "language"),
        code={"type": "string", "description": "The code to run."},
        language={
            "type": "string",
            "enum": list(LANGUAGES),
            "description": "The language that the code is written in.",
        },
    ),
    tool_type="letta_builtin",
    kind="call",
    effects="outside",
)

BUILTIN_SPECS = (WEB_SEARCH, FETCH_WEBPAGE, RUN_CODE)
