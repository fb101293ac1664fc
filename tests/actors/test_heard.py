import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors import heard
from actors.heard import Heard
from storage.records import Message, TextPart
from tests.actors.pieces import message


def said(otid: str | None, run_id: str | None = "run-1") -> Message:
    return replace(message(1, "user", TextPart("hi")), otid=otid, run_id=run_id)


def test_messages_are_known_by_their_otids_with_their_runs() -> None:
    known = Heard([("a", "run-0")])
    known.take([said("b", "run-1"), said("c", "run-2")])
    assert known.among(["c", "z", "a"]) == {"c": "run-2", "a": "run-0"}


def test_what_has_no_otid_or_no_run_is_not_heard() -> None:
    known = Heard()
    known.take([said(None), said("a", None)])
    assert known.among(["a"]) == {}
    assert known.size_bytes == 0


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_the_latest_stay_and_there_are_never_more_than_so_many(otids: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heard, "RECENT", 4)
        known = Heard()
        for place, otid in enumerate(otids):
            known.take([said(otid, f"run-{place}")])
    last = {otid: f"run-{place}" for place, otid in enumerate(otids)}
    latest = sorted(last, key=lambda otid: -otids[::-1].index(otid))[-4:]
    assert known.among("abcdefgh") == {otid: last[otid] for otid in latest}
    assert known.size_bytes == heard.BYTES * len(latest)
