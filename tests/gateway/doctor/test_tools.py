"""What the doctor says of the tools that reach beyond this system."""

import re

import pytest

from actors.tools import sandbox
from gateway.config import Settings
from gateway.doctor import tools
from gateway.doctor.findings import Finding


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in tools.findings(settings)}


def test_tools_that_are_not_set_up_name_their_keys() -> None:
    shown = found(Settings())
    assert {finding.level for finding in shown.values()} == {"ok"}
    assert "EXA_API_KEY" in shown["web_search"].text
    assert "E2B_API_KEY" in shown["run_code"].text
    assert "public pages are read from here" in shown["fetch_webpage"].text


def test_tools_that_are_set_up_say_where_they_lead() -> None:
    shown = found(Settings(exa_api_key="k" * 20, exa_base_url="http://exa.test", e2b_api_key="e" * 20))
    assert {finding.level for finding in shown.values()} == {"ok"}
    assert "http://exa.test" in shown["web_search"].text
    assert "http://exa.test, else from here" in shown["fetch_webpage"].text
    assert "sandboxes of E2B" in shown["run_code"].text


def test_what_a_url_may_hide_is_not_shown() -> None:
    hidden = "https://ada:secret@exa.test/v1?token=hidden"
    shown = found(Settings(exa_api_key="k" * 20, exa_base_url=hidden))
    for check in ("web_search", "fetch_webpage"):
        assert "https://exa.test/v1" in shown[check].text
        assert not {"ada", "secret", "hidden"} & set(re.findall(r"\w+", shown[check].text))


def test_a_key_without_its_library_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MODULE", "no_such_library")
    assert found(Settings(e2b_api_key="e" * 20))["run_code"].remedy == "pip install 'wakeful[e2b]'"


def test_private_networks_that_agents_may_read_are_a_warning() -> None:
    finding = found(Settings(fetch_private="on"))["fetch_webpage"]
    assert finding.level == "warning"
    assert "WAKEFUL_FETCH_PRIVATE=off" in str(finding.remedy)
