"""L10: whatever a model's provider does, a run has one end and the agent answers the next message."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from actors import modelcall
from actors.events import RunFinished
from actors.llm import retry
from actors.turn import TurnRunner
from bench.provider import Provider
from storage.pool import Pool
from tests.actors.worlds import World
from tests.laws.watching import STOP_REASONS, Client, hasty_clock, impatient_world, refused

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

MOST_REQUESTS = 1 + retry.RETRIES
OVERFLOW = {
    "error": {
        "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
    }
}
BAD_KEY = {"error": {"message": "Incorrect API key provided: sk-test", "code": "invalid_api_key"}}
NO_MODEL = {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}
NO_MONEY = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
SEARCH = {"name": "conversation_search", "arguments": {"query": "x"}}
FIVE = "one two three four five"


class Fault(Struct, frozen=True, kw_only=True):
    """A script, and what must become of the run that meets it. `requests` None: any number within bounds."""

    name: str
    replies: tuple[dict[str, Any], ...] = ()
    requests: int | None = None
    ends: tuple[str, ...] = ("end_turn",)
    waited: float = 0.0
    model: str = "openai/echo"
    max_steps: int = 8


def faults() -> list[Fault]:
    """Return every fault, with its end."""
    ok: dict[str, Any] = {"text": "fine"}

    def forever(**reply: Any) -> tuple[dict[str, Any], ...]:
        return ({**reply, "repeat": "forever"},)

    error, garbled = ("llm_api_error",), ("invalid_llm_response",)
    tries = MOST_REQUESTS
    found = [
        Fault(
            name="429 with Retry-After, then fine",
            replies=({"status": 429, "headers": {"retry-after": "7"}}, ok),
            requests=2,
            waited=7.0,
        ),
        Fault(name="429 forever", replies=forever(status=429), requests=tries, ends=error),
        Fault(
            name="429 forever with an hour of Retry-After",
            replies=forever(status=429, headers={"retry-after": "3600"}),
            requests=tries,
            ends=error,
        ),
        Fault(
            name="no credit",
            replies=({"status": 429, "body": NO_MONEY},),
            requests=1,
            ends=("insufficient_credits",),
        ),
        Fault(name="wrong key", replies=({"status": 401, "body": BAD_KEY},), requests=1, ends=error),
        Fault(name="no such model", replies=({"status": 404, "body": NO_MODEL},), requests=1, ends=error),
        Fault(name="no provider of this name", model="nowhere/x", requests=0, ends=error),
        Fault(name="cannot be resolved", model="nodns/x", requests=0, ends=error),
        Fault(name="connection refused", model="hungup/x", requests=0, ends=error),
        Fault(name="hangs before the first token", replies=forever(fault="hang"), requests=tries, ends=error),
        Fault(
            name="hangs in mid-answer",
            replies=({"text": FIVE, "fault": "hang_after", "tokens": 2},),
            requests=1,
            ends=error,
        ),
        Fault(
            name="cut before text, then fine", replies=({"fault": "cut_after", "tokens": 0}, ok), requests=2
        ),
        Fault(
            name="cut before text, forever",
            replies=forever(fault="cut_after", tokens=0),
            requests=tries,
            ends=error,
        ),
        Fault(
            name="cut after text",
            replies=({"text": FIVE, "fault": "cut_after", "tokens": 2}, ok),
            requests=1,
            ends=error,
        ),
        Fault(
            name="reset after text",
            replies=({"text": FIVE * 9, "fault": "rst_after", "tokens": 10}, ok),
            ends=(*error, "end_turn"),
        ),  # a reset may overtake the text that was sent before it
        Fault(
            name="cut in reasoning",
            replies=({"reasoning": FIVE, "text": "x", "fault": "cut_after", "tokens": 2},),
            requests=1,
            ends=error,
        ),
        Fault(
            name="cut in a call's arguments",
            replies=({"tool_calls": [SEARCH], "fault": "cut_after", "tokens": 2}, ok),
            requests=1,
            ends=error,
        ),
        Fault(name="half headers, then fine", replies=({"fault": "half_headers"}, ok), requests=2),
        Fault(name="empty body, then fine", replies=({"fault": "empty_200"}, ok), requests=2),
        Fault(name="empty body, forever", replies=forever(fault="empty_200"), requests=tries, ends=garbled),
        Fault(name="empty text", replies=({"text": ""},), requests=1),
        Fault(name="garbage, then fine", replies=({"fault": "garbage"}, ok), requests=2),
        Fault(name="garbage, forever", replies=forever(fault="garbage"), requests=tries, ends=garbled),
        Fault(
            name="half JSON after text",
            replies=({"text": FIVE, "fault": "bad_json_event", "tokens": 2}, ok),
            requests=1,
            ends=garbled,
        ),
        Fault(
            name="an error as an event after text",
            replies=({"text": FIVE, "fault": "error_event", "tokens": 2}, ok),
            requests=1,
            ends=(*error, *garbled),
        ),
        Fault(name="no end mark", replies=({"text": FIVE, "fault": "no_done"},), requests=1),
        Fault(
            name="no finish reason",
            replies=({"text": FIVE, "fault": "no_finish"},),
            requests=1,
            ends=("end_turn", *error),
        ),
        Fault(
            name="stopped by the content filter",
            replies=({"text": FIVE, "finish_reason": "content_filter"},),
            requests=1,
            ends=error,
        ),
        Fault(
            name="out of tokens",
            replies=({"text": FIVE, "finish_reason": "length"},),
            requests=1,
            ends=("max_tokens_exceeded",),
        ),
        Fault(
            name="out of tokens in a call",
            replies=(
                {
                    "tool_calls": [{"name": "memory_insert", "arguments": '{"label": "hum'}],
                    "finish_reason": "length",
                },
                ok,
            ),
            requests=2,
        ),
        Fault(name="unknown tool", replies=({"tool_calls": [{"name": "no_such_tool"}]}, ok), requests=2),
        Fault(
            name="unknown tool, forever",
            replies=forever(tool_calls=[{"name": "no_such_tool"}]),
            requests=3,
            ends=("invalid_tool_call",),
        ),
        Fault(
            name="the id of a past call, and of one of the same answer",
            replies=(
                {"tool_calls": [{**SEARCH, "id": "call-1"}]},
                {"tool_calls": [{**SEARCH, "id": "call-1"}]},
                {"tool_calls": [{**SEARCH, "id": "call-2"}, {**SEARCH, "id": "call-2"}]},
                ok,
            ),
            requests=4,
        ),
        Fault(
            name="endless tool loop", replies=forever(tool_calls=[SEARCH]), requests=8, ends=("max_steps",)
        ),
        Fault(  # between the two the model is asked for a summary of what leaves
            name="longer than its window, once", replies=({"status": 400, "body": OVERFLOW}, ok), requests=3
        ),
        Fault(name="longer than its window, forever", replies=forever(status=400, body=OVERFLOW), ends=error),
        Fault(name="refuses the content", replies=({"status": 400},), requests=1, ends=error),
        Fault(
            name="refuses the content of a second step",
            replies=({"tool_calls": [SEARCH]}, {"status": 400}),
            requests=2,
            ends=error,
        ),
        Fault(
            name="fails in a second step, then fine",
            replies=({"tool_calls": [SEARCH]}, {"status": 503}, ok),
            requests=3,
        ),
        Fault(
            name="redirects",
            replies=({"status": 302, "headers": {"location": "http://127.0.0.1:9/"}},),
            requests=1,
            ends=error,
        ),
    ]
    for status in (500, 502, 503, 504, 529):
        found.append(Fault(name=f"{status}, then fine", replies=({"status": status}, ok), requests=2))
        found.append(
            Fault(name=f"{status} forever", replies=forever(status=status), requests=tries, ends=error)
        )
    return found


async def violations(world: World, fault: Fault, slept: list[float]) -> list[str]:
    """Return what of the law does not hold for a fresh agent that meets the fault."""
    provider = world.provider
    agent_id = await world.agent(model=fault.model)
    client, found = Client(), []
    if "window" in fault.name:  # something that can be left out
        await provider.reset()
        for i in range(4):
            client.take(await world.ask(agent_id, f"before {i} " * 30, model="openai/echo"))
    await provider.reset()
    slept.clear()
    await provider.script(list(fault.replies))
    events = await world.ask(agent_id, "do it", max_steps=fault.max_steps)
    client.take(events)
    found += _end_is_right(fault, events)
    records = await provider.log()
    if fault.requests is not None and len(records) != fault.requests:
        found.append(f"{len(records)} requests, not {fault.requests}")
    calls = Counter(r.headers.get("idempotency-key", str(r.number)) for r in records)
    shrunk = modelcall.MAX_SHRINKS if "window" in fault.name else 0
    found += [f"{n} requests for one call" for n in calls.values() if n > MOST_REQUESTS + shrunk]
    if sum(slept) < fault.waited:
        found.append(f"waited {sum(slept)} s where the provider asked for {fault.waited} s")
    found += refused(records)
    await provider.reset()
    again = await world.ask(agent_id, "still there?", model="openai/echo")
    client.take(again)
    if [e.status for e in again if isinstance(e, RunFinished)] != ["completed"]:
        found.append("the next message was not answered")
    found += refused(await provider.log())
    found += client.disagreements(await world.messages(agent_id))
    return [f"{fault.name}: {what}" for what in found]


def _end_is_right(fault: Fault, events: list[Any]) -> list[str]:
    ends = [e for e in events if isinstance(e, RunFinished)]
    if len(ends) != 1 or events[-1] is not ends[0]:
        return [f"{len(ends)} terminal events"]
    end = ends[0]
    found: list[str] = []
    if end.stop_reason not in STOP_REASONS:
        found.append(f"stop reason {end.stop_reason!r} is none of the 13")
    if end.stop_reason not in fault.ends:
        found.append(f"ended {end.stop_reason!r}, not {fault.ends}")
    by_itself = end.stop_reason in (
        "max_tokens_exceeded",
        "invalid_tool_call",
    )  # says it all
    if (end.status == "failed") != (end.error is not None) and not by_itself:
        found.append(f"status {end.status} with error {end.error}")
    return found


def the_fault(name: str) -> Fault:
    return next(f for f in faults() if f.name == name)


@pytest.mark.timeout(240)
async def test_every_fault_of_a_provider_has_one_defined_end(pool: Pool, provider: Provider) -> None:
    found: list[str] = []
    with hasty_clock() as hasty:
        async with impatient_world(pool, provider) as world:
            for fault in faults():
                found += await violations(world, fault, hasty.slept)
    assert not found, "\n".join(found)


CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "llm_cases.json").read_text(encoding="utf-8")
)


@pytest.mark.timeout(240)
async def test_every_recorded_oddity_of_an_answer_leaves_a_usable_agent(
    pool: Pool, provider: Provider
) -> None:
    found: list[str] = []
    ends = tuple(STOP_REASONS)
    with hasty_clock() as hasty:
        async with impatient_world(pool, provider) as world:
            for case in CASES:
                reply = {"sse": case["body"], "repeat": "forever"}
                fault = Fault(name=case["id"], replies=(reply,), ends=ends, max_steps=5)
                found += await violations(world, fault, hasty.slept)
    assert not found, "\n".join(found)


# --- planted bugs ---------------------------------------------------------------------------------


async def _found(pool: Pool, provider: Provider, name: str) -> list[str]:
    with hasty_clock() as hasty:
        async with impatient_world(pool, provider) as world:
            return await violations(world, the_fault(name), hasty.slept)


async def test_a_repetition_after_text_was_shown_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(modelcall.Answer):
        shown = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]

    monkeypatch.setattr("actors.turn.Answer", Forgetful)
    assert await _found(pool, provider, "cut after text") != []


async def test_a_fourth_repetition_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRIES", 9)
    assert await _found(pool, provider, "429 forever") != []


async def test_a_deaf_ear_for_retry_after_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LONGEST_RETRY_AFTER", 0.0)
    assert await _found(pool, provider, "429 with Retry-After, then fine") != []


async def test_partial_text_that_is_dropped_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = TurnRunner._draft

    def without_answer(self: TurnRunner, answer: Any, prepared: Any, status: Any, refused: Any) -> Any:
        return draft(self, answer if self.error is None else None, prepared, status, refused)

    monkeypatch.setattr(TurnRunner, "_draft", without_answer)
    assert await _found(pool, provider, "cut after text") != []


async def test_a_window_that_never_shrinks_is_caught(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelcall, "MAX_SHRINKS", 0)
    assert await _found(pool, provider, "longer than its window, once") != []
