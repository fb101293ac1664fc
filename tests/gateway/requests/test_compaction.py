import pytest

from actors import summary
from actors.llm.model import ModelRef
from actors.summary import CompactionSettings
from gateway.errors import InvalidRequestError
from gateway.requests import compaction as requests


def ref(endpoint: str) -> ModelRef:
    return ModelRef(
        handle="openai/big",
        name="big",
        provider="openai",
        provider_type="openai",
        endpoint=endpoint,
        context_window_tokens=1000,
    )


LOCAL, OPENAI = ref("http://127.0.0.1:8080/v1"), ref("https://api.openai.com/v1")


def test_what_was_not_chosen_is_shown_as_it_is_in_force_and_not_kept() -> None:
    assert requests.stored(None) is None
    assert requests.stored(CompactionSettings()) == {}
    assert requests.stored(CompactionSettings(mode="all")) == {"mode": "all"}
    shown = requests.shown({"mode": "all"}, LOCAL)
    assert (shown["mode"], shown["model"], shown["clip_chars"]) == ("all", "openai/big", 50_000)
    assert shown["prompt"] == summary.PROMPTS["all"]


def test_what_was_shown_can_be_sent_back() -> None:
    shown = requests.shown(None, LOCAL)
    sent = CompactionSettings(prompt=shown["prompt"], clip_chars=shown["clip_chars"])
    assert requests.stored(sent) == {}
    assert requests.stored(CompactionSettings(prompt="mine")) == {"prompt": "mine"}


def test_a_small_model_sums_up_only_where_its_provider_serves_it() -> None:
    assert requests.shown(None, OPENAI)["model"] == "openai/gpt-5-mini"
    assert requests.shown(None, LOCAL)["model"] == "openai/big"


@pytest.mark.parametrize(
    "settings",
    [
        CompactionSettings(model="no-slash"),
        CompactionSettings(prompt="  "),
        CompactionSettings(model_settings={"temperature": 9}),
    ],
)
def test_what_no_compaction_can_use_is_refused(settings: CompactionSettings) -> None:
    with pytest.raises(InvalidRequestError):
        requests.stored(settings)
