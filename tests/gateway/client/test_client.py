"""The client against a server that follows a script, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import Response
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from gateway.client import (
    Client,
    DeniedError,
    EndedError,
    Gap,
    LostError,
    Patience,
    Publication,
    Subscription,
    connect,
)
from gateway.client import link as client_link
from gateway.client import subscription as client_subscription
from gateway.client.events import TextDelta, Unknown
from tests.gateway.scripted_server import Peer, Talk, pub, push, scripted

QUICK = Patience(first_seconds=0.01, longest_seconds=0.05, away_seconds=10)
CHANNEL = "conv:c"


@asynccontextmanager
async def client_of(*talks: Talk, **more: Any) -> AsyncGenerator[Client]:
    """Yield a client of a server that follows these scripts, all of which must be followed."""
    with anyio.fail_after(15):
        async with (
            scripted(*talks, refuse=more.pop("refuse", ())) as (url, wrong),
            connect(url, **{"patience": QUICK, **more}) as client,
        ):
            yield client
        assert wrong == []


async def take(items: Subscription, count: int) -> list[int]:
    """Return the next items: offsets, and minus the offset of a gap."""
    taken: list[int] = []
    for _ in range(count):
        item = await anext(items)
        taken.append(-item.offset if isinstance(item, Gap) else item.offset)
    return taken


async def test_the_servers_welcome_is_found_wherever_it_stands() -> None:
    async def talk(peer: Peer) -> None:
        command = await peer.next("connect")
        await peer.socket.send("")
        await peer.say({})
        answer = {"id": command["id"], "connect": {"client": "c", "version": "1", "ping": 25, "pong": True}}
        await peer.say({}, answer, push(CHANNEL, 1))
        await peer.accept(offset=1)
        await peer.publish(CHANNEL, 2)
        await peer.gone()

    async with client_of(talk) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 1) == [2]


async def test_what_is_published_is_handed_over_with_its_types() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept(publications=[pub(1)], offset=1)
        strange = {"offset": 2, "data": {"type": "NOBODY_KNOWS", "a": [1]}}
        await peer.say({"push": {"channel": CHANNEL, "pub": strange}}, {}, push("conv:other", 9))
        await peer.publish(CHANNEL, 3)
        await peer.gone()

    async with client_of(talk) as client, client.subscribe(CHANNEL) as items:
        first = await anext(items)
        assert first == Publication(1, TextDelta("m", "1"), {"run": "run-1"})
        strange = await anext(items)
        assert isinstance(strange, Publication)
        assert isinstance(strange.event, Unknown)
        assert bytes(strange.event.data) == b'{"type":"NOBODY_KNOWS","a":[1]}'
        assert await take(items, 1) == [3]


async def test_the_token_goes_in_the_first_frame() -> None:
    greeted: list[dict[str, Any]] = []

    async def talk(peer: Peer) -> None:
        greeted.append(await peer.greet(session="s-1"))
        await peer.gone()

    async with client_of(talk, token="key", name="test") as client:
        assert (await client.hello()).session == "s-1"
    assert greeted[0]["token"] == "key"
    assert greeted[0]["name"] == "test"


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3001, 3008, 3012, 4000, 4499])
async def test_after_a_close_it_comes_back_and_each_publication_is_seen_once(code: int) -> None:
    asked: list[dict[str, Any]] = []

    async def first(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish(CHANNEL, 1, 2)
        await peer.close(code)

    async def second(peer: Peer) -> None:
        await peer.greet()
        asked.append(await peer.accept(publications=[pub(3)], offset=3, was_recovering=True, recovered=True))
        await peer.publish(CHANNEL, 3, 4)  # one of them again
        await peer.gone()

    async with client_of(first, second) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 4) == [1, 2, 3, 4]
    assert (asked[0]["recover"], asked[0]["epoch"], asked[0]["offset"]) == (True, "e1", 2)


async def test_a_connection_that_is_cut_without_a_word_is_made_again() -> None:
    async def first(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        peer.socket.transport.abort()

    async def second(peer: Peer) -> None:
        await peer.greet()
        await peer.accept(was_recovering=True, recovered=True)
        await peer.publish(CHANNEL, 1)
        await peer.gone()

    async with client_of(first, second) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 1) == [1]


@pytest.mark.parametrize("epoch", ["e1", "e2"])
async def test_what_the_server_forgot_is_told_as_a_gap(epoch: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish(CHANNEL, 1, 2)
        await peer.close(1012)

    async def second(peer: Peer) -> None:
        await peer.greet()
        await peer.accept(epoch=epoch, offset=7, was_recovering=True, recovered=False)
        await peer.publish(CHANNEL, 8)
        await peer.gone()

    async with client_of(first, second) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 2) == [1, 2]
        assert await anext(items) == Gap(epoch, 7)
        assert await take(items, 1) == [8]


@pytest.mark.parametrize("code", [3500, 3501, 3999, 4500, 4999, 1009])
async def test_a_terminal_close_ends_the_client(code: int) -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish(CHANNEL, 1)
        await peer.close(code, "not you")

    async with client_of(talk) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 1) == [1]
        with pytest.raises(EndedError, match="not you") as ended:
            await anext(items)
        assert ended.value.code == code
        with pytest.raises(EndedError):
            await client.rpc("any", {}, dict)


async def test_a_token_that_is_refused_ends_the_client() -> None:
    async def talk(peer: Peer) -> None:
        await peer.next("connect")
        await peer.close(3500, "invalid token")

    async with client_of(talk, token="wrong") as client:
        with pytest.raises(EndedError, match="invalid token"):
            await client.hello()


async def test_an_expired_token_is_made_anew() -> None:
    made = iter(["old", "new"])

    async def token() -> str:
        return next(made)

    async def first(peer: Peer) -> None:
        command = await peer.next("connect")
        assert command["connect"]["token"] == "old"
        await peer.reply(command, error={"code": 109, "message": "token expired", "temporary": True})
        await peer.gone()

    async def second(peer: Peer) -> None:
        assert (await peer.greet())["token"] == "new"
        await peer.gone()

    async with client_of(first, second, token=token) as client:
        await client.hello()


async def test_a_token_is_renewed_before_it_ends() -> None:
    renewed = anyio.Event()
    made = iter(["first", "second"])

    async def token() -> str:
        return next(made)

    async def talk(peer: Peer) -> None:
        await peer.greet(expires=True, ttl=0)
        command = await peer.next("refresh")
        assert command["refresh"]["token"] == "second"
        await peer.reply(command, refresh={"expires": False})
        renewed.set()
        await peer.gone()

    async with client_of(talk, token=token):
        await renewed.wait()


def refusal(status: int, body: str = "") -> Response:
    return Response(status, HTTPStatus(status).phrase, Headers(), body.encode())


async def test_a_server_that_has_no_room_is_asked_again() -> None:
    away: list[LostError] = []

    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.gone()

    refuse = (refusal(429), refusal(503), None)
    async with client_of(talk, refuse=refuse, on_away=away.append) as client:
        await client.hello()
    assert [str(error)[-3:] for error in away] == ["429", "503"]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refused_handshake_ends_the_client_and_says_why(status: int) -> None:
    refuse = (refusal(status, '{"error":{"message":"go away"}}'),)
    async with client_of(refuse=refuse) as client:
        with pytest.raises(EndedError, match="go away") as ended:
            await client.hello()
        assert ended.value.code == status


async def test_a_server_that_stays_away_is_given_up() -> None:
    away: list[LostError] = []
    patience = Patience(first_seconds=0.01, longest_seconds=0.02, away_seconds=1.5)
    async with connect("http://127.0.0.1:1", patience=patience, on_away=away.append) as client:
        with pytest.raises(EndedError, match="nothing answers"), anyio.fail_after(10):
            await client.hello()
    assert len(away) > 1


async def test_what_may_be_repeated_is_asked_again_after_a_cut_and_what_may_not_is_not() -> None:
    async def first(peer: Peer) -> None:
        await peer.greet()
        await peer.next("rpc")
        await peer.close(1012)

    async def second(peer: Peer) -> None:
        await peer.greet()
        command = await peer.next("rpc")
        assert command["rpc"] == {"method": "double", "data": {"n": 2}}
        await peer.reply(command, rpc={"data": {"n": 4}})
        await peer.next("rpc")
        await peer.close(1012)

    async def third(peer: Peer) -> None:
        await peer.greet()
        await peer.gone()

    async with client_of(first, second, third) as client:
        assert await client.rpc("double", {"n": 2}, dict[str, int], repeat=True) == {"n": 4}
        with pytest.raises(LostError):
            await client.rpc("add", {"n": 2}, dict[str, int])
        await client.hello()


async def test_what_may_be_repeated_is_given_up_when_the_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    async def deaf(peer: Peer) -> None:
        await peer.greet()
        monkeypatch.setattr(client_link, "REPLY_SECONDS", 0.1)
        with contextlib.suppress(ConnectionClosed):
            while True:
                asked.append(await peer.next("rpc"))

    patience = Patience(first_seconds=0.01, longest_seconds=0.05, away_seconds=1.5)
    async with client_of(deaf, patience=patience) as client:
        with pytest.raises(LostError, match="did not answer in time"):
            await client.rpc("any", {}, dict, repeat=True)
    assert len(asked) > 1


async def test_a_message_is_sent_under_one_id_however_often() -> None:
    sent: list[dict[str, Any]] = []

    async def first(peer: Peer) -> None:
        await peer.greet()
        sent.append((await peer.next("rpc"))["rpc"]["data"])
        peer.socket.transport.abort()

    async def second(peer: Peer) -> None:
        await peer.greet()
        command = await peer.next("rpc")
        sent.append(command["rpc"]["data"])
        place = {"channel": "conv:a", "epoch": "e", "offset": 3}
        result = {"accepted": True, "disposition": "queued", "run": "run-1", "appliedThrough": place}
        await peer.reply(command, rpc={"data": result})
        await peer.gone()

    async with client_of(first, second) as client:
        done = await client.send("agent-1", "hello")
    assert (done.run, done.disposition) == ("run-1", "queued")
    assert done.applied_through is not None
    assert done.applied_through.offset == 3
    assert sent[0] == sent[1]
    assert sent[0]["messages"] == [{"role": "user", "content": "hello"}]
    assert sent[0]["clientMessageId"]


async def test_errors_come_back_with_their_code() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        command = await peer.next("rpc")
        await peer.reply(command, error={"code": 409, "message": "run already finished", "temporary": False})
        await peer.gone()

    async with client_of(talk) as client:
        with pytest.raises(DeniedError, match="run already finished") as denied:
            await client.cancel("run-1")
        assert denied.value.code == 409


async def test_a_channel_that_may_not_be_followed_is_refused_once() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        command = await peer.next("subscribe")
        await peer.reply(command, error={"code": 103, "message": "permission denied"})
        await peer.gone()

    async with client_of(talk) as client:
        with pytest.raises(DeniedError, match="permission denied"):
            async with client.subscribe(CHANNEL):
                pass


async def test_a_subscription_that_cannot_be_had_just_now_is_asked_for_again() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        command = await peer.next("subscribe")
        await peer.reply(command, error={"code": 111, "message": "too many requests", "temporary": True})
        await peer.accept()
        await peer.publish(CHANNEL, 1)
        await peer.gone()

    async with client_of(talk) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 1) == [1]


async def test_a_subscription_that_is_never_answered_is_asked_for_on_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patience = client_link.REPLY_SECONDS

    async def deaf(peer: Peer) -> None:
        monkeypatch.setattr(client_link, "REPLY_SECONDS", 0.1)  # of what is asked once it is greeted
        await peer.greet()
        await peer.next("subscribe")
        monkeypatch.setattr(client_link, "REPLY_SECONDS", patience)
        await peer.socket.wait_closed()

    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish(CHANNEL, 1)
        await peer.gone()

    async with client_of(deaf, talk) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 1) == [1]


async def test_a_subscription_that_was_given_up_before_its_answer_may_be_begun_again() -> None:
    asked, given_up = anyio.Event(), anyio.Event()

    async def talk(peer: Peer) -> None:
        await peer.greet()
        command = await peer.next("subscribe")
        asked.set()
        await given_up.wait()
        await peer.reply(command, subscribe={"recoverable": True, "epoch": "e1", "offset": 0})
        await peer.reply(await peer.next("unsubscribe"), unsubscribe={})
        await peer.accept()
        await peer.publish(CHANNEL, 1)
        await peer.gone()

    async def give_up(scope: anyio.CancelScope) -> None:
        await asked.wait()
        scope.cancel()
        given_up.set()

    async with client_of(talk) as client:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(give_up, scope)
                async with client.subscribe(CHANNEL):
                    raise AssertionError("it was not answered yet")
        async with client.subscribe(CHANNEL) as items:
            assert await take(items, 1) == [1]


@pytest.mark.parametrize("code", [2500, 2501])
async def test_a_subscription_that_the_server_ended_is_taken_up_again(code: int) -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish(CHANNEL, 1)
        await peer.say({"push": {"channel": CHANNEL, "unsubscribe": {"code": code, "reason": "again"}}})
        asked = await peer.accept(publications=[pub(2)], offset=2, was_recovering=True, recovered=True)
        assert asked["offset"] == 1
        await peer.gone()

    async with client_of(talk) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 2) == [1, 2]


async def test_a_subscription_that_the_server_ended_for_good_says_why() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish(CHANNEL, 1)
        await peer.say({"push": {"channel": CHANNEL, "unsubscribe": {"code": 2000, "reason": "deleted"}}})
        await peer.gone()

    async with client_of(talk) as client, client.subscribe(CHANNEL) as items:
        assert await take(items, 1) == [1]
        with pytest.raises(DeniedError, match="deleted"):
            await anext(items)


async def test_leaving_the_block_ends_the_subscription_and_it_may_be_begun_again() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        for _ in range(2):
            assert (await peer.accept())["recover"] is False
            await peer.reply(await peer.next("unsubscribe"), unsubscribe={})
        await peer.gone()

    async with client_of(talk) as client:
        for _ in range(2):
            async with client.subscribe(CHANNEL):
                with pytest.raises(ValueError, match="followed already"):
                    await client.subscribe(CHANNEL).__aenter__()


async def test_a_reader_that_is_behind_is_let_go_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_subscription, "WAITING", 4)
    told = anyio.Event()

    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.publish(CHANNEL, *range(1, 9))
        command = await peer.next("unsubscribe")
        await peer.publish(CHANNEL, 9)
        await peer.reply(command, unsubscribe={})
        told.set()
        asked = await peer.accept(
            publications=[pub(offset) for offset in range(5, 10)],
            offset=9,
            was_recovering=True,
            recovered=True,
        )
        assert asked["offset"] == 4
        await peer.gone()

    async with client_of(talk) as client, client.subscribe(CHANNEL) as items:
        await told.wait()
        assert await take(items, 9) == list(range(1, 10))


async def test_a_silent_server_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_link, "QUIET_SECONDS", -0.8)
    ponged = anyio.Event()

    async def silent(peer: Peer) -> None:
        await peer.greet(ping=1)
        await peer.gone()

    async def lively(peer: Peer) -> None:
        await peer.greet(ping=25)
        await peer.say({})
        assert await peer.socket.recv() == "{}"
        ponged.set()
        await peer.gone()

    async with client_of(silent, silent, lively):
        await ponged.wait()


async def test_a_server_of_another_kind_is_noticed() -> None:
    async def talk(peer: Peer) -> None:
        await peer.socket.recv()
        await peer.socket.send("<html>")
        await peer.gone()

    async with client_of(talk) as client:
        with pytest.raises(EndedError, match="does not speak like a wakeful server"):
            await client.hello()


async def test_a_failure_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with connect("http://127.0.0.1:1"):
            raise KeyError("mine")


async def test_a_block_that_is_cancelled_ends() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.accept()
        await peer.gone()

    async with client_of(talk) as client:
        with anyio.move_on_after(0.1) as scope:
            async with client.subscribe(CHANNEL) as items:
                await asyncio.sleep(0)
                await anext(items)
        assert scope.cancelled_caught


@pytest.mark.parametrize("url", ["nowhere", "ftp://x", "http://", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is urllib's for some
        async with connect(url):
            pass


async def test_history_is_read() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        command = await peer.next("history")
        assert command["history"]["limit"] == 2
        found = {"publications": [pub(4), pub(5)], "epoch": "e1", "offset": 5}
        await peer.reply(command, history=found)
        await peer.gone()

    async with client_of(talk) as client:
        past = await client.history(CHANNEL, limit=2)
    assert [one.offset for one in past.publications] == [4, 5]
    assert (past.epoch, past.offset) == ("e1", 5)
