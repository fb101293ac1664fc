"""The websocket endpoint from outside: who gets in, what a connection may do, and how all of them end."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import jwt
import pytest

from actors import clock
from actors.events import (
    ReasoningDelta,
    ReasoningStarted,
    RunFinished,
    RunStarted,
    StepStarted,
    ToolReturned,
)
from bench.provider import Provider
from gateway.auth import Caller
from gateway.config import Settings
from gateway.feeds.channel_access import Access, Place
from gateway.feeds.channel_names import Address
from gateway.realtime import connection as realtime
from gateway.realtime import protocol, session, turns, websocket
from gateway.realtime.places import CONNECTION_BYTES
from gateway.tokens import Identity
from storage.pool import Pool
from storage.records import Usage
from tests.gateway.feeding import AT
from tests.gateway.processes import Process
from tests.gateway.raw_websocket import CLOSE, Peer, deflate_frame, dialled, frame, upgraded
from tests.gateway.rest.talking import new_agent, talking, user
from tests.laws.watching import until
from tests.serving import Served, listening, serving

CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in json.loads((Path(__file__).parents[2] / "data" / "websocket_bad_inputs.json").read_text())
}
KEY = "correct-horse"
SECRET = "battery-staple-battery-staple-battery-staple"
KEYED = Settings(api_key=KEY, jwt_secret=SECRET)


@asynccontextmanager
async def served_at(pool: Pool, settings: Settings | None = None) -> AsyncGenerator[tuple[Served, str]]:
    headers = {"authorization": f"Bearer {KEY}"} if settings is KEYED else None
    async with serving(pool, settings=settings, headers=headers) as served, listening(served.app) as url:
        yield served, url


def token(*, seconds: float = 900, **claims: Any) -> str:
    exp = clock.now().timestamp() + seconds
    return jwt.encode({"sub": "ada", "exp": exp, **claims}, SECRET, algorithm="HS256")


def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every peer be on another machine."""
    monkeypatch.setattr(websocket, "_address", lambda scope: "192.0.2.7")


# --- the handshake --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/ws", "/connection/websocket"])
@pytest.mark.parametrize("offered", [None, "wakeful.v1.json", "other, wakeful.v1.json"])
async def test_a_client_gets_the_subprotocol_it_offers_or_none(
    pool: Pool, path: str, offered: str | None
) -> None:
    headers = {} if offered is None else {"Sec-WebSocket-Protocol": offered}
    async with served_at(pool) as (_, url), upgraded(url, path, headers=headers) as peer:
        chosen = None if offered is None else "wakeful.v1.json"
        assert peer.headers.get("sec-websocket-protocol") == chosen
        answer = await peer.connect()
        assert answer["client"].startswith("cl-")
        assert answer["data"]["limits"] == {"frame": 65536, "channels": 128}


REFUSED: list[tuple[str, dict[str, str], int]] = [
    ("/v1/wss", {}, 404),
    ("/v1/agents/", {}, 404),
    ("/v1/ws", {"Sec-WebSocket-Protocol": "centrifuge-protobuf"}, 400),
    ("/v1/ws", {"Origin": "https://evil.example"}, 403),
    ("/v1/ws", {"Host": "evil.example"}, 421),
    ("/v1/ws?ticket=nonsense", {}, 401),
]


@pytest.mark.parametrize(("path", "headers", "status"), REFUSED)
async def test_who_may_not_come_in_learns_it_before_the_upgrade(
    pool: Pool, path: str, headers: dict[str, str], status: int
) -> None:
    async with served_at(pool) as (served, url), dialled(url) as peer:
        assert await peer.handshake(path, headers) == status
        assert json.loads(peer.body)["error"]["message"]
        assert not served.websockets.connections


@pytest.mark.parametrize(
    "case", [c for c in CASES.values() if c["entry"] == "ws_handshake"], ids=lambda c: c["id"]
)
async def test_a_bad_handshake_is_refused(pool: Pool, case: dict[str, Any]) -> None:
    """An origin on this machine is let in by a server without a key, as by its REST routes."""
    async with served_at(pool, KEYED) as (served, url), dialled(url) as peer:
        path, headers = case["path"], dict(case["headers"])
        if kind := headers.pop("ticket", None):
            path = f"{path}?ticket={await ticket_of(served, url, kind)}"
        expected = case["expect"]["status"]
        if case["id"] == "WSH-origin-port":
            headers["Origin"], expected = "http://127.0.0.1.evil.example:1", [101]  # its token decides
        assert await peer.handshake(path, headers) in expected
        if case["id"] == "WSH-origin-port":
            peer.say({"id": 1, "connect": {}})
            assert await peer.end() == 3500


async def ticket_of(served: Served, url: str, kind: str) -> str:
    """Return a ticket that is not good: spent, or of somebody else's server."""
    tokens = served.websockets.tokens
    identity = tokens.identify(KEY, loopback=False)
    if kind == "{used}":
        made = tokens.ticket(identity)
        async with upgraded(url, f"/v1/ws?ticket={made}"):
            return made
    if kind == "{expired}":
        return tokens.ticket(Identity(identity.caller, clock.now().timestamp() - 1))
    return "of-another-server"


async def test_a_ticket_opens_a_connection_that_needs_no_token(pool: Pool) -> None:
    async with served_at(pool, KEYED) as (served, url):
        made = served.websockets.tokens.ticket(served.websockets.tokens.identify(KEY, loopback=False))
        async with upgraded(url, f"/v1/ws?ticket={made}") as peer:
            assert (await peer.connect())["client"]


async def test_a_header_may_say_who_it_is_and_must_be_right(pool: Pool) -> None:
    async with served_at(pool, KEYED) as (_, url):
        async with upgraded(url, headers={"Authorization": f"Bearer {KEY}"}) as peer:
            assert (await peer.connect())["client"]
        for wrong in ("Bearer nonsense", "Basic Zm9vOmJhcg==", "Bearer "):
            async with dialled(url) as peer:
                assert await peer.handshake(headers={"Authorization": wrong}) == 401


async def test_a_wrong_token_in_the_first_frame_is_the_end(pool: Pool) -> None:
    async with served_at(pool, KEYED) as (_, url):
        for wrong in ("", "nonsense", token() + "x"):
            async with upgraded(url) as peer:
                peer.say({"id": 1, "connect": {"token": wrong}})
                assert await peer.end() == 3500


async def test_a_token_that_has_ended_can_be_had_anew(pool: Pool) -> None:
    async with served_at(pool, KEYED) as (_, url), upgraded(url) as peer:
        peer.say({"id": 1, "connect": {"token": token(seconds=-1)}})
        assert (await peer.next())[0]["error"]["code"] == 109
        peer.say({"id": 2, "connect": {"token": token(seconds=900)}})
        (reply,) = await peer.next()
        assert reply["connect"]["expires"] is True
        assert 800 < reply["connect"]["ttl"] <= 900


async def test_a_server_that_drains_lets_nobody_in(pool: Pool) -> None:
    async with served_at(pool) as (served, url), dialled(url) as peer:
        await served.websockets.drain(1)
        assert await peer.handshake() == 503
        assert peer.headers["retry-after"] == "1"


# --- limits ---------------------------------------------------------------------------------------


async def test_an_address_may_have_few_connections_that_do_not_say_who_they_are(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    far(monkeypatch)
    async with served_at(pool, KEYED) as (_, url), AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(upgraded(url)) for _ in range(8)]
        async with dialled(url) as refused:
            assert await refused.handshake() == 429
            assert int(refused.headers["retry-after"]) > 0
        await peers[0].connect(KEY)
        await stack.enter_async_context(upgraded(url))


async def test_a_user_may_have_so_many_connections(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    far(monkeypatch)
    async with served_at(pool, KEYED) as (served, url), AsyncExitStack() as stack:
        for _ in range(20):
            peer = await stack.enter_async_context(upgraded(url))
            await peer.connect(token())
        async with upgraded(url) as peer:
            peer.say({"id": 1, "connect": {"token": token()}})
            assert await peer.end() == 3504
        async with dialled(url) as peer:
            assert await peer.handshake(headers={"Authorization": f"Bearer {token()}"}) == 429
        async with upgraded(url) as peer:
            await peer.connect(token(sub="grace"))
        await stack.aclose()
        await until_empty(served)
        async with upgraded(url) as peer:
            await peer.connect(token())


async def test_all_connections_together_have_a_budget(pool: Pool) -> None:
    async with served_at(pool) as (served, url), upgraded(url) as peer:
        await peer.connect()
        budget = served.websockets.services.places.budget
        assert budget.used == CONNECTION_BYTES
        budget.limit_bytes = CONNECTION_BYTES
        async with dialled(url) as refused:
            assert await refused.handshake() == 429
        peer.writer.transport.abort()
        await until_empty(served)
        assert budget.used == 0


async def until_empty(served: Served) -> None:
    """Wait until nothing of any connection is left."""
    with anyio.fail_after(15):
        while served.websockets.connections:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)


async def test_more_channels_than_the_limit_are_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served_at(pool) as (served, url):
        agents = [(await served.agent())["id"] for _ in range(3)]
        monkeypatch.setattr(
            realtime, "Session", lambda **more: session.Session(**more, limits=session.Limits(channels=3))
        )
        async with upgraded(url) as peer:
            await peer.connect()
            peer.say(*(sub(2 + n, f"conv:{agent}") for n, agent in enumerate(agents)))
            replies = await peer.replies(3)
            assert [reply.get("error", {}).get("code") for _, reply in sorted(replies.items())][-1] == 106


def sub(command_id: int, channel: str, **more: Any) -> dict[str, Any]:
    return {"id": command_id, "subscribe": {"channel": channel, **more}}


# --- commands -------------------------------------------------------------------------------------


async def test_a_client_follows_a_conversation_from_the_first_event_to_the_last(
    pool: Pool, provider: Provider
) -> None:
    await provider.script([{"text": "Well, hello there."}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await new_agent(served)
        async with upgraded(url) as peer:
            await peer.connect()
            peer.say(sub(2, f"conv:{agent}"))
            assert (await peer.replies(1))[2]["subscribe"]["offset"] == 0
            data = {"agent": agent, "messages": [{"role": "user", "content": "hi"}]}
            peer.say({"id": 3, "rpc": {"method": "agent.send", "data": data}})
            kinds: list[str] = []
            offsets: list[int] = []
            while "RUN_FINISHED" not in kinds:
                for said in await peer.next():
                    assert "error" not in said
                    if "push" in said:
                        kinds.append(said["push"]["pub"]["data"]["type"])
                        offsets.append(said["push"]["pub"]["offset"])
            assert kinds[0] in ("RUN_STARTED", "CUSTOM")
            assert "TEXT_MESSAGE_CONTENT" in kinds
            assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


@pytest.mark.timeout(90)
@pytest.mark.parametrize("politely", [True, False])
async def test_a_run_outlives_the_connection_that_began_it(
    pool: Pool, provider: Provider, politely: bool
) -> None:
    await provider.script([{"text": "one two", "gate": "go", "gate_after": 1}])
    async with talking(pool, provider) as served, listening(served.app) as url:
        agent = await new_agent(served)
        async with upgraded(url) as peer:
            await peer.connect()
            peer.say(sub(2, f"conv:{agent}"))
            peer.say({"id": 3, "rpc": {"method": "agent.send", "data": {"agent": agent, **user("hi")}}})
            await provider.log(requests=1)
            if politely:
                peer.send(frame((1000).to_bytes(2, "big"), CLOSE))
                assert await peer.end() == 1000
        await until_empty(served)
        await provider.open("go")
        await until(lambda: not served.host.health().unfinished_runs)
        (run,) = await served.json("GET", "/v1/runs/", params={"agent_id": agent})
        assert run["status"] == "completed"
        listed = await served.json("GET", f"/v1/agents/{agent}/messages")
        assert listed[-1]["content"] == "one two"


async def test_everything_of_a_connection_ends_with_it(pool: Pool) -> None:
    async with served_at(pool) as (served, url):
        agent = (await served.agent())["id"]
        feeds = served.websockets.services.feeds
        async with upgraded(url) as peer:
            await peer.connect()
            peer.say(sub(2, f"conv:{agent}"))
            await peer.replies(1)
            (connection,) = served.websockets.connections
            assert connection.session.followings
        await until_empty(served)
        assert not connection.session.published(next(iter(connection.session.followings.values())), object())
        assert feeds.position(f"conv:{agent}") is not None
        assert served.websockets.services.places.budget.used == 0


async def test_a_client_that_missed_much_of_many_channels_gets_all_of_it_at_once(pool: Pool) -> None:
    async with served_at(pool) as (served, url), upgraded(url, receive_bytes=64 * 1024) as peer:
        agents = [(await served.agent())["id"] for _ in range(4)]
        for agent in agents:
            log = served.host.logs.channel(agent, agent)
            log.publish(RunStarted("run", agent, 1, ()), StepStarted("run", "step", 1, "m", "message", AT))
            log.publish(
                *[ToolReturned("run", f"call-{n}", "look", "success", "x" * 100_000) for n in range(7)]
            )
        await peer.connect()
        peer.say(*[sub(n, f"conv:{agent}") for n, agent in enumerate(agents, 2)])
        peer.say(
            *[{"id": n, "history": {"channel": f"conv:{a}", "limit": -1}} for n, a in enumerate(agents, 6)]
        )
        seen: dict[str, list[int]] = {f"conv:{agent}": [] for agent in agents}
        histories = 0
        with anyio.fail_after(60):
            while histories < 4 or any(len(offsets) < 9 for offsets in seen.values()):
                for said in await peer.next():
                    if "push" in said:
                        seen[said["push"]["channel"]].append(said["push"]["pub"]["offset"])
                    elif "subscribe" in said:
                        missed = said["subscribe"]["publications"]
                        seen[f"conv:{agents[said['id'] - 2]}"] += [pub["offset"] for pub in missed]
                        assert said["subscribe"]["offset"] == missed[-1]["offset"]
                    else:
                        histories += 1
                        assert said["history"]["publications"]
        assert list(seen.values()) == [list(range(1, 10))] * 4


async def test_a_stalled_client_that_comes_back_to_much_holds_little_of_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_at(pool) as (served, url):
        agent = (await served.agent())["id"]
        log = served.host.logs.channel(agent, agent)
        returned = [ToolReturned("run", f"call-{n}", "look", "success", "x" * 100_000) for n in range(60)]
        log.publish(RunStarted("run", agent, 1, ()), *returned)
        assert log.epoch is not None
        recover = {"recover": True, "epoch": log.epoch, "offset": 0}
        async with upgraded(url, receive_bytes=4096) as peer:
            await peer.connect()
            patience = turns.STUCK_SECONDS
            monkeypatch.setattr(turns, "STUCK_SECONDS", 0.5)
            (connection,) = served.websockets.connections
            peer.say(sub(2, f"conv:{agent}", **recover))
            most = 0
            with anyio.fail_after(30):
                while not connection.over.is_set():
                    most = max(most, connection.outbound.waiting_bytes + connection.socket.unsent())
                    log.publish(ToolReturned("run", "call", "look", "success", "live"))
                    await asyncio.sleep(0.01)
            assert 100_000 < most <= 1024 * 1024
            assert await peer.end() in (protocol.CLOSE_SLOW, 1006)
        monkeypatch.setattr(turns, "STUCK_SECONDS", patience)
        async with upgraded(url) as peer:  # one that reads gets all of it
            await peer.connect()
            peer.say(sub(2, f"conv:{agent}", **recover))
            (answer,) = (await peer.replies(1)).values()
            offsets = [pub["offset"] for pub in answer["subscribe"]["publications"]]
            top = log.position.offset
            while offsets[-1] < top:
                offsets += [said["push"]["pub"]["offset"] for said in await peer.next() if "push" in said]
            assert answer["subscribe"]["recovered"]
            assert offsets == list(range(1, top + 1))


async def test_a_log_that_is_trimmed_under_a_slow_recovery_ends_the_subscription(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_at(pool) as (served, url), upgraded(url, receive_bytes=4096) as peer:
        agent = (await served.agent())["id"]
        log = served.host.logs.channel(agent, agent)
        said = [ToolReturned("run", f"call-{n}", "look", "success", "x" * 100_000) for n in range(30)]
        log.publish(
            RunStarted("run", agent, 1, ()), *said, RunFinished("run", "completed", "end_turn", Usage())
        )
        await peer.connect()
        peer.say(sub(2, f"conv:{agent}", recover=True, epoch=log.epoch, offset=0))
        (connection,) = served.websockets.connections
        with anyio.fail_after(15):
            while not connection.socket.unsent():
                await asyncio.sleep(0.01)
        served.host.logs.budget_bytes = 0
        served.host.logs.trim()
        offsets: list[int] = []
        ended: dict[str, Any] | None = None
        while ended is None:
            for one in await peer.next():
                if "subscribe" in one:
                    offsets += [pub["offset"] for pub in one["subscribe"]["publications"]]
                elif "pub" in one.get("push", {}):
                    offsets.append(one["push"]["pub"]["offset"])
                elif "unsubscribe" in one.get("push", {}):
                    ended = one["push"]["unsubscribe"]
        assert ended["code"] == protocol.INSUFFICIENT_STATE
        assert offsets == list(range(1, len(offsets) + 1))
        assert len(offsets) < 32
        peer.say(sub(3, f"conv:{agent}", recover=True, epoch=log.epoch, offset=offsets[-1]))
        (answer,) = (await peer.replies(1)).values()
        assert not answer["subscribe"].get("recovered")
        assert not answer["subscribe"].get("publications")


async def test_a_refresh_takes_away_what_the_new_token_does_not_allow(pool: Pool) -> None:
    async with served_at(pool, KEYED) as (served, url), upgraded(url) as peer:
        mine, other = [(await served.agent())["id"] for _ in range(2)]
        await peer.connect(token())
        peer.say(sub(2, f"conv:{mine}"), sub(3, f"conv:{other}"))
        await peer.replies(2)
        peer.say({"id": 4, "refresh": {"token": token(agents=[mine])}})
        pushed, reply = (await peer.next()) + (await peer.next())
        assert pushed["push"] == {
            "channel": f"conv:{other}",
            "unsubscribe": {"code": 2501, "reason": "permission revoked"},
        }
        assert reply["refresh"]["expires"] is True
        peer.say(sub(5, f"conv:{other}"), sub(6, f"conv:{mine}"))
        replies = await peer.replies(2)
        assert replies[5]["error"]["code"] == 103
        assert replies[6]["error"]["code"] == 105  # still followed


async def test_a_refresh_narrows_what_a_fleet_and_a_user_are_shown(pool: Pool, provider: Provider) -> None:
    gated = {"type": "requires_approval", "tool_name": "conversation_search"}
    search = {"tool_calls": [{"name": "conversation_search", "arguments": {"query": "x"}}]}
    async with (
        talking(pool, provider, settings=Settings(jwt_secret=SECRET)) as served,
        listening(served.app) as url,
        upgraded(url) as peer,
    ):
        mine, other = [await new_agent(served, tool_rules=[gated]) for _ in range(2)]
        (own,) = (await peer.connect(token()))["subs"]
        peer.say(sub(2, "fleet"))
        await peer.replies(1)
        peer.say({"id": 3, "refresh": {"token": token(agents=[mine])}})
        pushed, reply = (await peer.next()) + (await peer.next())
        assert pushed["push"] == {
            "channel": "fleet",
            "unsubscribe": {"code": 2500, "reason": "permissions have changed"},
        }
        assert reply["refresh"]["expires"] is True
        for agent in (other, mine):
            await provider.script([search])
            await served.json("POST", f"/v1/agents/{agent}/messages", json=user("look"))
        (asked,) = await peer.next()
        assert asked["push"]["channel"] == own
        assert asked["push"]["pub"]["tags"]["agent"] == mine


async def test_a_refresh_narrows_what_is_being_subscribed_as_well(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database takes its time to say whose a conversation is; until it does the token is renewed."""
    looking, said = anyio.Event(), anyio.Event()
    look_up = Access._look_up

    async def slow(self: Access, caller: Caller, address: Address) -> Place:
        looking.set()
        await said.wait()
        return await look_up(self, caller, address)

    monkeypatch.setattr(Access, "_look_up", slow)
    async with served_at(pool, KEYED) as (served, url), upgraded(url) as peer:
        mine, other = [(await served.agent())["id"] for _ in range(2)]
        await peer.connect(token())
        peer.say(sub(2, f"conv:{mine}"), sub(3, f"conv:{other}"))
        await looking.wait()
        narrow = token(agents=[mine], scope="agent:read agent:send")
        peer.say({"id": 4, "refresh": {"token": narrow}})
        assert "refresh" in (await peer.replies(1))[4]
        said.set()
        replies = await peer.replies(2)
        assert replies[2]["subscribe"]["recoverable"] is True
        assert replies[3]["error"]["code"] == 103
        log = served.host.logs.channel(mine, mine)
        log.publish(
            RunStarted("run-1", mine, 1, ()),
            ReasoningStarted("run-1", "message-1"),
            ReasoningDelta("run-1", "message-1", "a thought"),
            StepStarted("run-1", "step-1", 1, "model", "message-1", AT),
        )
        pushed = [one["push"]["pub"]["data"]["type"] for one in await peer.next()]
        while len(pushed) < 2:
            pushed += [one["push"]["pub"]["data"]["type"] for one in await peer.next()]
        assert pushed == ["RUN_STARTED", "STEP_STARTED"]


async def test_a_refresh_for_somebody_else_is_the_end(pool: Pool) -> None:
    async with served_at(pool, KEYED) as (_, url), upgraded(url) as peer:
        await peer.connect(token())
        peer.say({"id": 2, "refresh": {"token": token(sub="mallory")}})
        assert await peer.end() == 3500


async def test_what_a_call_raises_is_a_reply_and_the_connection_stays(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_at(pool) as (served, url), upgraded(url) as peer:
        await peer.connect()

        async def call(caller: Any, method: str, data: bytes) -> bytes:
            if method == "broken":
                raise ValueError("select * from secrets")
            if method == "slow":
                await anyio.sleep_forever()
            return data

        monkeypatch.setattr(served.websockets.services.methods, "call", call)
        monkeypatch.setattr(realtime, "WORK_SECONDS", 0.2)
        peer.say(
            *(
                {"id": n, "rpc": {"method": m, "data": {"n": n}}}
                for n, m in enumerate(("broken", "slow", "echo"), 2)
            )
        )
        replies = await peer.replies(3)
        assert replies[2]["error"] == {
            "code": 500,
            "message": "An unknown error occurred",
            "temporary": False,
        }
        assert replies[3]["error"]["code"] == 504
        assert replies[3]["error"]["temporary"] is True
        assert replies[4] == {"id": 4, "rpc": {"data": {"n": 4}}}


async def test_a_client_that_asks_for_many_large_answers_at_once_gets_all_of_them(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_at(pool) as (served, url), upgraded(url, receive_bytes=64 * 1024) as peer:
        await peer.connect()

        async def call(caller: Any, method: str, data: bytes) -> bytes:
            return b'"%b"' % (b"x" * 250_000)

        monkeypatch.setattr(served.websockets.services.methods, "call", call)
        asked = ("history", "agent.list", "context.get")
        peer.say(*({"id": n, "rpc": {"method": asked[n % 3]}} for n in range(2, 17)))
        with anyio.fail_after(20):
            replies = await peer.replies(15)
        assert all(len(reply["rpc"]["data"]) == 250_000 for reply in replies.values())


async def test_what_waits_behind_others_has_its_whole_time_when_its_turn_comes(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_at(pool) as (served, url), upgraded(url) as peer:
        await peer.connect()
        channel = f"conv:{(await served.agent())['id']}"
        turn = turns.Turns.turn

        @asynccontextmanager
        async def late(self: turns.Turns) -> AsyncGenerator[None]:
            await anyio.sleep(6.5)  # a slow client takes what came before
            async with turn(self):
                yield

        async def call(caller: Any, method: str, data: bytes) -> bytes:
            await anyio.sleep(1.1)
            return data

        monkeypatch.setattr(served.websockets.services.methods, "call", call)
        monkeypatch.setattr(turns.Turns, "turn", late)
        monkeypatch.setattr(realtime, "WORK_SECONDS", 6.0)
        peer.say(
            sub(2, channel),
            *({"id": n, "rpc": {"method": "agent.send", "data": n}} for n in range(3, 9)),
        )
        replies = await peer.replies(7)
        assert not [reply for reply in replies.values() if "error" in reply]


async def test_messages_of_one_connection_are_accepted_in_their_order(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_at(pool) as (served, url), upgraded(url) as peer:
        await peer.connect()
        seen: list[bytes] = []

        async def call(caller: Any, method: str, data: bytes) -> bytes:
            await anyio.sleep(0.05 if not seen else 0)
            seen.append(data)
            return data

        monkeypatch.setattr(served.websockets.services.methods, "call", call)
        peer.say(*({"id": n, "rpc": {"method": "agent.send", "data": n}} for n in range(2, 7)))
        await peer.replies(5)
        assert seen == [b"2", b"3", b"4", b"5", b"6"]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [c for c in CASES.values() if c["entry"] == "ws_frame"], ids=lambda c: c["id"]
)
async def test_a_bad_frame_closes(pool: Pool, case: dict[str, Any]) -> None:
    data: bytes = eval(case["py"], {"frame": frame, "deflate_frame": deflate_frame})  # the file is ours
    async with served_at(pool) as (served, url):
        async with upgraded(url) as peer:
            await peer.connect()
            peer.send(data)
            too_long = {1009} if case["id"] == "WSF-len-2^63" else set[int]()  # as true as a broken rule
            assert await peer.end() in {*case["expect"]["close"], *too_long}
        await until_empty(served)
        async with upgraded(url) as peer:
            assert await peer.connect()


# What the cases say in a vocabulary of their own, in ours: the commands, and the code of each answer or
# of the close (None: no answer is due).
MESSAGES: dict[str, list[tuple[bytes, int | None]]] = {
    "WSM-type-int": [(b'{"id":2,"rpc":{"method":1}}', 107)],
    "WSM-send-nul": [
        (b'{"id":2,"rpc":{"method":"agent.send","data":{"agent":"{agent}","messages":"a\\u0000b"}}}', 107)
    ],
    "WSM-no-type": [(b"{}", None), (b'{"id":2}', 107)],
    "WSM-resume-neg": [(b'{"id":2,"subscribe":{"channel":"conv:{agent}","recover":true,"offset":-1}}', 107)],
    "WSM-nan": [(b'{"id":2,"subscribe":{"channel":"conv:{agent}","offset":NaN}}', 3501)],
    "WSM-resume-string": [
        (b'{"id":2,"subscribe":{"channel":"conv:{agent}","recover":true,"offset":"1"}}', 107)
    ],
    "WSM-resume-float": [
        (b'{"id":2,"subscribe":{"channel":"conv:{agent}","recover":true,"offset":1.5}}', 107)
    ],
    "WSM-sub-10k": [
        (b'{"id":%d,"subscribe":{"channel":"conv:{agent}"}}' % number, None) for number in range(2, 10_000)
    ],
    "WSM-unknown-type": [(b'{"id":2,"nope":{}}', 107), (b'{"id":3,"rpc":{"method":"nope"}}', 104)],
    # A client has nothing to acknowledge here; what it says of a channel it does not follow changes nothing.
    "WSM-ack-backwards": [(b'{"id":2,"unsubscribe":{"channel":"conv:{agent}"}}', None)],
}
# The two that need a run or a key of a message are cases of the methods, not of the protocol.
ELSEWHERE = {"WSM-send-same-key-diff-body", "WSM-cancel-race"}


def test_every_case_of_a_message_has_its_translation() -> None:
    assert {c["id"] for c in CASES.values() if c["entry"] == "ws_message"} == MESSAGES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_bad_message_costs_only_itself(pool: Pool, name: str) -> None:
    async with served_at(pool) as (served, url), upgraded(url) as peer:
        agent = (await served.agent())["id"].encode()
        await peer.connect()
        if name == "WSM-sub-10k":
            for line, _ in MESSAGES[name]:
                peer.send(frame(line.replace(b"{agent}", agent)))
            assert await peer.end() in (3013, 1006)
            return
        for line, code in MESSAGES[name]:
            peer.send(frame(line.replace(b"{agent}", agent)))
            if code is not None and code >= 3000:
                assert await peer.end() == code
                return
            if code is not None:
                (reply,) = await peer.next()
                assert reply["error"]["code"] == code
        peer.say({"id": 99, "ping": {}})
        answered: set[int] = set()
        while 99 not in answered:
            answered |= (await peer.replies(1)).keys()


# --- the end --------------------------------------------------------------------------------------


async def test_a_drain_closes_everyone_one_after_the_other(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSES_PER_SECOND", 20.0)
    ended: list[tuple[int, float]] = []

    async def stay(peer: Peer) -> None:
        code = await peer.end()
        ended.append((code, asyncio.get_running_loop().time()))

    async with served_at(pool) as (served, url), AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(upgraded(url)) for _ in range(10)]
        for peer in peers:
            await peer.connect()
        async with anyio.create_task_group() as group:
            for peer in peers:
                group.start_soon(stay, peer)
            await served.websockets.drain(5)
        assert [code for code, _ in ended] == [3001] * 10
        assert ended[-1][1] - ended[0][1] > 0.2  # not in one moment


async def test_a_drain_takes_no_longer_than_it_may(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSES_PER_SECOND", 0.01)
    async with served_at(pool) as (served, url), AsyncExitStack() as stack:
        for _ in range(5):
            await (await stack.enter_async_context(upgraded(url))).connect()
        with anyio.fail_after(15):
            await served.websockets.drain(0.2)
        assert not any(c.session.state == "open" for c in served.websockets.connections)


@pytest.mark.timeout(90)
async def test_a_server_that_is_stopped_says_so_before_it_goes(dsn: str, provider_process: Provider) -> None:
    """uvicorn alone would close all sockets at once, with 1012."""
    codes: list[int] = []

    async def stay(peer: Peer) -> None:
        codes.append(await peer.end())

    process = Process("--database-url", dsn, "--host-name", "test", provider=provider_process)
    await anyio.to_thread.run_sync(process.start)
    try:
        async with AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(upgraded(process.url)) for _ in range(8)]
            for peer in peers:
                await peer.connect()
            process.signal(signal.SIGTERM)
            async with anyio.create_task_group() as group:
                for peer in peers:
                    group.start_soon(stay, peer)
        code, errors = await anyio.to_thread.run_sync(process.wait)
    except BaseException:
        process.kill()
        raise
    assert codes == [3001] * 8
    assert code == 0
    assert "Traceback" not in errors
