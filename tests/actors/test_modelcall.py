from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import clock, modelcall
from actors.answer import Answer
from actors.channels import Logs
from actors.errors import DrainingError, ModelError
from actors.events import Event, TextDelta, WindowMoved
from actors.llm.dialects import CHAT, Dialect
from actors.llm.model import Finished, ModelRef, Piece, Request, Take, TextPiece
from actors.modelcall import ModelCall
from actors.thread import Thread
from actors.tokens import Calibration, Counter
from storage.records import Message, ModelSettings, TextPart, ToolCallPart, ToolReturnPart
from tests.actors.pieces import conversation, message
from tests.laws.watching import hasty_clock, malformed

Reply = list[list[Piece] | ModelError]
FINE: Reply = [[TextPiece("fine")], [Finished("stop")]]


class Scripted:
    """A model that gives these replies, one per call, and keeps the requests.

    With `hands` all but the last of an answer goes to whoever takes it, as from a socket.
    """

    hands = False

    def __init__(self, *replies: Reply) -> None:
        self.ref = ModelRef(
            handle="t/m", name="m", provider="t", provider_type="t", endpoint="", context_window_tokens=1000
        )
        self.replies = list(replies)
        self.requests: list[Request] = []

    def dialect(self, settings: ModelSettings) -> Dialect:
        return CHAT

    async def stream(self, request: Request, take: Take | None = None) -> AsyncGenerator[list[Piece], None]:
        self.requests.append(request)
        for batch in self.replies.pop(0):
            if isinstance(batch, ModelError):
                raise batch
            if take is not None and self.hands and not isinstance(batch[-1], Finished):
                take(batch)
            else:
                yield batch


@pytest.fixture(params=["yielded", "handed"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pieces of every test come in one way, then in the other."""
    monkeypatch.setattr(Scripted, "hands", request.param == "handed")


class Setting:
    """A call on a thread with these messages, with everything around it that it uses."""

    def __init__(self, *replies: Reply, stored: Sequence[Message] = (), window: int = 100_000) -> None:
        self.model = Scripted(*replies)
        self.thread = Thread(conversation())
        list(self.thread.loading([message(0, "system", TextPart("s")), *stored]))
        self.channel = Logs(1 << 20).channel("agent-1", "agent-1")
        self.lease_ends = False
        self.spawned: list[object] = []
        self.answer = Answer("run-1", "message-x", taken=lambda _: False, fresh=lambda: "c")
        actor = SimpleNamespace(
            toolbox=SimpleNamespace(wire=None, tokens=0),
            calibration=Calibration(),
            agent=SimpleNamespace(
                settings=SimpleNamespace(model_settings=ModelSettings(max_output_tokens=10))
            ),
            commons=SimpleNamespace(check_lease=self._check, counter=Counter(), spawn=self._spawn),
        )
        self.call = ModelCall(
            actor=actor,  # type: ignore[arg-type]
            thread=self.thread,
            channel=self.channel,
            model=self.model,
            window_tokens=window,
            inputs=(message(99, "user", TextPart("now")),),
            system=None,
            run_id="run-1",
            key="step-1.1",
        )

    def _spawn(self, function: object) -> None:
        self.spawned.append(function)

    def _check(self) -> None:
        if self.lease_ends:
            raise DrainingError

    def said(self) -> list[Event]:
        return [e for s in self.channel.segments for e in s.read(s.start)]

    def bodies(self) -> list[list[dict[str, Any]]]:
        return [[msgspec.json.decode(w) for w in r.messages] for r in self.model.requests]


def failed(*, requests: int = 1, **facts: Any) -> ModelError:
    error = ModelError("no", **{"retryable": True, **facts})
    error.requests = requests
    return error


def pair(position: int, *, tokens: int = 50) -> list[Message]:
    call_id = f"c{position}"
    return [
        message(position, "user", TextPart("u"), tokens=tokens),
        message(position + 1, "assistant", ToolCallPart(call_id, "f", "{}"), tokens=tokens),
        message(position + 2, "tool", ToolReturnPart(call_id, "f", "success", "r"), tokens=tokens),
    ]


async def test_an_answer_is_streamed_and_its_end_is_said() -> None:
    s = Setting(FINE)
    await s.call.run(s.answer)
    assert [type(e).__name__ for e in s.said()] == ["TextStarted", "TextDelta", "TextEnded"]
    assert s.bodies()[0][-1]["content"] == "now"


async def test_a_failure_before_anything_was_shown_is_repeated_three_times_at_most() -> None:
    s = Setting(*[[failed()]] * 9)
    with hasty_clock() as hasty, pytest.raises(ModelError):
        await s.call.run(s.answer)
    assert len(s.model.requests) == 4
    assert len(hasty.slept) == 3
    assert s.said() == []


async def test_requests_that_a_failed_attempt_made_count_towards_the_bound() -> None:
    s = Setting(*[[failed(requests=2)]] * 9)
    with hasty_clock(), pytest.raises(ModelError):
        await s.call.run(s.answer)
    assert len(s.model.requests) == 2


async def test_nothing_is_repeated_once_something_was_shown() -> None:
    s = Setting([[TextPiece("one")], failed()], FINE)
    with hasty_clock(), pytest.raises(ModelError):
        await s.call.run(s.answer)
    assert len(s.model.requests) == 1
    assert [e.text for e in s.said() if isinstance(e, TextDelta)] == ["one"]


async def test_what_cannot_cure_itself_is_not_repeated() -> None:
    s = Setting([failed(retryable=False)], FINE)
    with pytest.raises(ModelError):
        await s.call.run(s.answer)
    assert len(s.model.requests) == 1


async def test_a_content_filter_refuses_the_content() -> None:
    s = Setting([[TextPiece("bad")], [Finished("content_filter")]])
    with pytest.raises(ModelError) as caught:
        await s.call.run(s.answer)
    assert caught.value.refused_content


async def test_a_host_without_a_lease_says_nothing() -> None:
    s = Setting(FINE)
    s.lease_ends = True
    with pytest.raises(DrainingError):
        await s.call.run(s.answer)
    assert s.said() == []


async def test_a_request_that_is_too_long_is_made_shorter_until_it_fits() -> None:
    overflow = failed(retryable=False, overflow=True, refused_content=True)
    s = Setting([overflow], [overflow], FINE, stored=pair(1) + pair(4) + pair(7))
    await s.call.run(s.answer)
    lengths = [len(b) for b in s.bodies()]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == 3
    assert all(malformed(b) == [] for b in s.bodies())
    assert sum(isinstance(e, WindowMoved) for e in s.said()) == 2


async def test_a_request_is_shortened_no_more_often_than_is_allowed() -> None:
    overflow = failed(retryable=False, overflow=True)
    stored = [m for i in range(1, 200, 3) for m in pair(i)]
    s = Setting(*[[overflow]] * 9, stored=stored)
    with pytest.raises(ModelError):
        await s.call.run(s.answer)
    assert len(s.model.requests) == 1 + modelcall.MAX_SHRINKS


async def test_the_last_step_of_a_turn_is_never_cut_away() -> None:
    overflow = failed(retryable=False, overflow=True)
    s = Setting([overflow], stored=pair(1), window=60)
    call = msgspec.structs.replace(s.call, inputs=())
    with pytest.raises(ModelError):
        await call.run(s.answer)
    assert len(s.bodies()) == 1
    assert malformed(s.bodies()[0]) == []


@given(st.lists(st.integers(1, 80), max_size=12), st.integers(1, 1200))
async def test_whatever_fits_the_request_is_well_formed_and_keeps_the_input(
    sizes: list[int], window: int
) -> None:
    stored = [m for i, size in enumerate(sizes) for m in pair(1 + 3 * i, tokens=size)]
    s = Setting(FINE, stored=stored, window=window)
    await s.call.run(s.answer)
    (body,) = s.bodies()
    assert malformed(body) == []
    assert body[-1]["content"] == "now"
    inputs = 10
    room = window - min(10, window // 4) - inputs - s.thread.system_tokens
    assert s.thread.tokens <= max(0, room)


def test_the_clock_is_the_machine_s_again() -> None:
    with hasty_clock() as hasty:
        assert clock.replace(hasty) is hasty
    assert clock.monotonic() > 0


async def test_tokens_are_counted_exactly_once_the_window_is_half_full() -> None:
    small = Setting(FINE, stored=pair(1), window=100_000)
    await small.call.run(small.answer)
    assert small.spawned == []
    full = Setting(FINE, stored=pair(1), window=250)
    await full.call.run(full.answer)
    assert len(full.spawned) == 1
