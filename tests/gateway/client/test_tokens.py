"""A token, or a function that makes one: what fails is tried again, what is denied ends the client."""

import anyio
import pytest

from gateway.client import DeniedError, EndedError, LostError, connect, tokens
from tests.gateway.client.test_client import QUICK, client_of
from tests.gateway.scripted_server import Peer


async def test_a_function_that_fails_is_asked_again_and_the_reason_is_told() -> None:
    away: list[LostError] = []
    made = iter([OSError("no route to the sign-in service"), ValueError(), "good"])

    async def token() -> str:
        match next(made):
            case str(text):
                return text
            case Exception() as error:
                raise error
            case _:
                raise AssertionError

    async def talk(peer: Peer) -> None:
        assert (await peer.greet())["token"] == "good"
        await peer.gone()

    async with client_of(talk, token=token, on_away=away.append) as client:
        await client.hello()
    assert [str(error) for error in away] == [
        "no token could be made: OSError: no route to the sign-in service",
        "no token could be made: ValueError",
    ]


async def test_a_function_that_is_denied_ends_the_client_and_says_why() -> None:
    async def token() -> str:
        raise DeniedError(401, "your session is over; sign in again")

    async with connect("http://127.0.0.1:1", token, patience=QUICK) as client:
        with pytest.raises(EndedError, match="sign in again") as ended, anyio.fail_after(10):
            await client.hello()
    assert ended.value.code == 401


async def test_a_function_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 0.05)
    with pytest.raises(LostError, match="no token was made within"), anyio.fail_after(10):
        await tokens.made(anyio.sleep_forever)


async def test_a_token_that_cannot_be_renewed_at_once_is_renewed_later() -> None:
    renewed = anyio.Event()
    made = iter(["first", None, None, "second"])

    async def token() -> str:
        text = next(made)
        if text is None:
            raise OSError("not now")
        return text

    async def talk(peer: Peer) -> None:
        await peer.greet(expires=True, ttl=0)
        command = await peer.next("refresh")
        assert command["refresh"]["token"] == "second"
        await peer.reply(command, refresh={"expires": False})
        renewed.set()
        await peer.gone()

    async with client_of(talk, token=token):
        await renewed.wait()


async def test_a_renewal_that_is_denied_leaves_the_connection_to_the_server() -> None:
    made = iter(["first", None, None])

    async def token() -> str:
        if (text := next(made)) is None:
            raise DeniedError(403, "no more")
        return text

    async def talk(peer: Peer) -> None:
        await peer.greet(expires=True, ttl=0)
        await peer.accept()
        await peer.close(3005, "expired")

    async with client_of(talk, token=token) as client, client.subscribe("conv:c") as items:
        with pytest.raises(EndedError, match="no more"):
            await anext(items)


async def test_text_is_its_own_token_and_none_is_none() -> None:
    assert await tokens.made("key") == "key"
    assert await tokens.made(None) == ""
