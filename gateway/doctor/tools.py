"""What the doctor sees of the tools that reach beyond this system: which of them work here."""

from collections.abc import Iterator

from actors.llm.providers import showable
from actors.tools import sandbox
from gateway.config import Settings
from gateway.doctor.findings import Finding, ok, warning

_SAYS_SO = "not set up, which agents are told that call it: "


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each tool. Nobody is asked: searches and sandboxes cost money."""
    yield _fetch_webpage(settings)
    yield _web_search(settings)
    yield _run_code(settings)


def _fetch_webpage(settings: Settings) -> Finding:
    where = (
        "from here"
        if settings.exa_api_key is None
        else f"by {showable(settings.exa_base_url)}, else from here"
    )
    if settings.fetch_private == "on":
        return warning(
            "fetch_webpage",
            f"pages are read {where}, those of private networks too: whoever talks to an agent reaches them",
            remedy="set WAKEFUL_FETCH_PRIVATE=off unless that is wanted",
        )
    return ok("fetch_webpage", f"public pages are read {where}")


def _web_search(settings: Settings) -> Finding:
    if settings.exa_api_key is None:
        return ok("web_search", f"{_SAYS_SO}set EXA_API_KEY, a key of https://exa.ai")
    return ok("web_search", f"searches at {showable(settings.exa_base_url)} with the key that is set")


def _run_code(settings: Settings) -> Finding:
    if settings.e2b_api_key is None:
        wanted = "set E2B_API_KEY, a key of https://e2b.dev"
        return ok("run_code", f"{_SAYS_SO}{wanted}; code is never run on this machine")
    if not sandbox.installed():
        return warning(
            "run_code",
            "E2B_API_KEY is set, but E2B's library is not installed",
            remedy=f"pip install 'wakeful[{sandbox.EXTRA}]'",
        )
    return ok("run_code", "code runs in sandboxes of E2B, with the key that is set")
