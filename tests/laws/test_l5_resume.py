"""L5: whoever comes back has every event exactly once, or is told once and honestly that it has not."""

import asyncio
import random
from collections.abc import Callable

import pytest

from actors.channels import Channel, Logs
from actors.events import Event
from bench.provider import Provider
from gateway.feeds.conversation import ConversationFeed
from gateway.feeds.subscriptions import Subscribed, Subscription
from gateway.realtime.protocol import Subscribe
from storage.pool import Pool
from tests.actors.worlds import world
from tests.gateway.feeding import run_of
from tests.laws.resuming import cut_everywhere, log_of, replayed

pytestmark = [pytest.mark.law, pytest.mark.timeout(240)]

SEED = 5
CUTS = 300
FULL_CUTS = 10_000
SEARCH = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}]}
REMEMBER = {"tool_calls": [{"name": "memory_insert", "arguments": {"label": "human", "new_string": "Ada"}}]}


async def recorded(pool: Pool, provider: Provider) -> list[list[Event]]:
    """Return runs as agents really tell them: with thoughts, tools, edits of memory, and a failure."""
    runs: list[list[Event]] = []
    async with world(pool, provider) as here:
        for replies in (
            [{"text": "one two three four five six"}],
            [{"text": "let me see", **SEARCH}, {"reasoning": "hm, well", "text": "there it is"}],
            [REMEMBER, {"text": "noted"}],
            [{"status": 400}],
        ):
            await provider.script(replies)
            agent_id = await here.agent()
            await here.ask(agent_id, "do it")
            runs.append(log_of(here.host.logs.channels[agent_id]))
    assert all(len(run) > 3 for run in runs)
    return runs


async def test_a_cut_at_any_event_loses_nothing_and_repeats_nothing(pool: Pool, provider: Provider) -> None:
    for run in await recorded(pool, provider):
        assert await cut_everywhere(run) == []


@pytest.mark.parametrize("trimmed", [False, True])
async def test_cuts_at_random_events_lose_nothing_while_more_is_said(
    pool: Pool, provider: Provider, trimmed: bool
) -> None:
    chance = random.Random(SEED)
    runs = await recorded(pool, provider)
    found, cuts, lost = await replayed([e for run in runs for e in run], chance, cuts=CUTS, trimmed=trimmed)
    assert found == []
    assert cuts >= CUTS
    assert bool(lost) is trimmed


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("trimmed", [False, True])
async def test_ten_thousand_cuts_lose_nothing(pool: Pool, provider: Provider, trimmed: bool) -> None:
    runs = await recorded(pool, provider)
    log = [e for run in runs for e in run]
    cuts = 0
    while cuts < FULL_CUTS:
        found, made, _ = await replayed(log, random.Random(cuts), cuts=500, trimmed=trimmed)
        assert found == []
        cuts += made


# --- a law that misses its bug is no law ---------------------------------------------------------


def read_from(patch: pytest.MonkeyPatch, place: Callable[[Channel, int], int]) -> None:
    """Let logs be read from another place than the one that is asked for."""
    since = Channel.since

    def shifted(self: Channel, offset: int, most: int | None = None) -> list[tuple[int, Event]] | None:
        return since(self, place(self, offset), most)

    patch.setattr(Channel, "since", shifted)


def one_too_few(patch: pytest.MonkeyPatch) -> None:
    """What was missed is read from one event too late."""
    read_from(patch, lambda channel, offset: min(offset + 1, channel.next - 1))


def one_too_many(patch: pytest.MonkeyPatch) -> None:
    """What was missed is read from one event too early."""
    read_from(patch, lambda _, offset: max(offset - 1, 0))


def told_before_logged(patch: pytest.MonkeyPatch) -> None:
    """Subscribers are told of an event a moment before it is in the log."""
    publish, tell = Channel.publish, Logs.tell_listeners
    patch.setattr(Logs, "tell_listeners", lambda *_: None)
    late: dict[Channel, list[Event]] = {}

    def early(self: Channel, *events: Event) -> None:
        held = late.pop(self, [])
        if held:
            publish(self, *held)
        self.next += len(events)
        tell(self.logs, self, events)
        self.next -= len(events)
        late[self] = list(events)

    patch.setattr(Channel, "publish", early)


def read_before_joining(patch: pytest.MonkeyPatch) -> None:
    """The log is read first, and live delivery begins a moment later."""
    join = ConversationFeed.join

    def late(self: ConversationFeed, member: Subscription, request: Subscribe) -> Subscribed:
        answer = join(self, member, request)
        del self.audience._members[member]

        def begin() -> None:
            self.audience._members[member] = None
            self.audience._stale = True

        asyncio.get_running_loop().call_soon(begin)
        return answer

    patch.setattr(ConversationFeed, "join", late)


def part_of_it_is_enough(patch: pytest.MonkeyPatch) -> None:
    """Of a gap that is forgotten in part, the rest is called everything."""
    since = Channel.since

    def lax(self: Channel, offset: int, most: int | None = None) -> list[tuple[int, Event]] | None:
        found = since(self, offset, most)
        if found is None and 0 <= offset < self.next and self.segments:
            return since(self, self.segments[0].start - 1, most)
        return found

    patch.setattr(Channel, "since", lax)


@pytest.mark.parametrize("bug", [one_too_few, one_too_many, told_before_logged, read_before_joining])
async def test_the_law_notices_its_bugs(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = run_of("conv", ["a", "b", "c", "d"], thought="hm")
    bug(monkeypatch)
    found, _, _ = await replayed(events * 3, random.Random(SEED), cuts=CUTS)
    assert found


async def test_the_law_notices_a_recovery_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    events = run_of("conv", ["a", "b", "c", "d"], thought="hm")
    part_of_it_is_enough(monkeypatch)
    found, _, _ = await replayed(events * 3, random.Random(SEED), cuts=CUTS, trimmed=True)
    assert found
