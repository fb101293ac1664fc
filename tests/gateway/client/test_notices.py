"""A user's own channel: the server subscribes it, the client reads it typed, from where it stood."""

from typing import Any

import anyio
import pytest

from gateway.client import Asked, DeniedError, Gap, Publication, Settled
from gateway.client.notices import Decision
from tests.gateway.client.test_client import client_of
from tests.gateway.scripted_server import Peer

CHANNEL = "user:user-1"
OWN = {"subs": {CHANNEL: {"recoverable": True, "epoch": "e1", "offset": 0}}}
TAGS = {"run": "run-1", "conv": "conv-1", "agent": "agent-1"}


def told(offset: int, **value: Any) -> dict[str, Any]:
    data = {"type": "CUSTOM", "name": "wakeful.approval", "value": {"runId": "run-1", **value}}
    return {"offset": offset, "data": data, "tags": TAGS}


def asked(offset: int) -> dict[str, Any]:
    interrupt = {
        "id": "call-1",
        "reason": "tool_call",
        "message": "Approve the call of mail?",
        "toolCallId": "call-1",
        "expiresAt": "2026-11-23T10:00:00+00:00",
        "metadata": {"name": "mail", "arguments": "{}", "kind": "approval"},
    }
    return told(offset, change="requested", interrupts=[interrupt])


def settled(offset: int) -> dict[str, Any]:
    return told(offset, change="answered", decisions=[{"toolCallId": "call-1", "approved": True}])


async def joins(peer: Peer, **result: Any) -> dict[str, Any]:
    """Let the client take its own channel over from the server's subscription."""
    command = await peer.next("unsubscribe")
    assert command["unsubscribe"]["channel"] == CHANNEL
    await peer.reply(command, unsubscribe={})
    return await peer.accept(**result)


async def test_what_is_asked_of_a_user_and_its_answer_are_typed() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet(**OWN)
        await joins(peer)
        strange = {"offset": 3, "data": {"type": "CUSTOM", "name": "wakeful.news", "value": 1}, "tags": TAGS}
        for one in (asked(1), settled(2), strange):
            await peer.say({"push": {"channel": CHANNEL, "pub": one}})
        await peer.gone()

    async with client_of(talk) as client, client.notices() as notices:
        first = await anext(notices)
        assert isinstance(first, Asked)
        assert (first.agent, first.conversation, first.run) == ("agent-1", "conv-1", "run-1")
        assert (first.interrupts[0].id, first.interrupts[0].metadata["name"]) == ("call-1", "mail")
        assert first.interrupts[0].expires_at is not None
        second = await anext(notices)
        assert second == Settled("agent-1", "conv-1", "run-1", (Decision("call-1", approved=True),))
        assert isinstance(await anext(notices), Publication)


async def test_after_a_cut_a_notice_is_seen_once_and_what_is_forgotten_is_a_gap() -> None:
    async def first(peer: Peer) -> None:
        await peer.greet(**OWN)
        await joins(peer)
        await peer.say({"push": {"channel": CHANNEL, "pub": asked(1)}})
        peer.socket.transport.abort()

    async def second(peer: Peer) -> None:
        await peer.greet(**OWN)
        await peer.say({"push": {"channel": CHANNEL, "pub": settled(2)}})  # by the server's subscription
        request = await joins(peer, offset=2, publications=[settled(2)], was_recovering=True, recovered=True)
        assert (request["recover"], request["epoch"], request["offset"]) == (True, "e1", 1)
        await peer.close(1012)

    async def third(peer: Peer) -> None:
        await peer.greet(**OWN)
        await joins(peer, epoch="e2", offset=7, was_recovering=True, recovered=False)
        await peer.gone()

    async with client_of(first, second, third) as client, client.notices() as notices:
        assert isinstance(await anext(notices), Asked)
        assert isinstance(await anext(notices), Settled)
        assert await anext(notices) == Gap("e2", 7)


async def test_notices_may_be_followed_again() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet(**OWN)
        for _ in range(2):
            await joins(peer)
            await peer.say({"push": {"channel": CHANNEL, "pub": asked(1)}})
            await peer.reply(await peer.next("unsubscribe"), unsubscribe={})
        await peer.gone()

    async with client_of(talk) as client:
        for _ in range(2):
            async with client.notices() as notices:
                assert isinstance(await anext(notices), Asked)


async def test_a_token_that_opens_no_channel_of_its_own_is_told_what_it_lacks() -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet()
        await peer.gone()

    async with client_of(talk) as client:
        with pytest.raises(DeniedError, match="agent:read"), anyio.fail_after(10):
            async with client.notices():
                pass
