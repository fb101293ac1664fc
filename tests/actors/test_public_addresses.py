"""What counts as an address of the public internet, and what the resolver lets through."""

import asyncio
import socket
from typing import Any

import pytest

from actors.public_addresses import NotPublicError, PublicResolver, is_numeric, is_public


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:93.184.215.14",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "fec0::1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "5f00::1",
        "2130706433",
        "example.com",
        "",
    ],
)
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


def test_what_may_be_connected_to_without_a_name_service_is_numeric() -> None:
    assert all(is_numeric(host) for host in ("127.1", "2130706433", "::1", "10.0.0.1"))
    assert not any(is_numeric(host) for host in ("localhost", "1.example.com"))


async def test_a_name_of_a_private_address_has_no_public_one() -> None:
    with pytest.raises(NotPublicError, match="no public address"):
        await PublicResolver().resolve("localhost", 80)


async def test_of_a_names_addresses_only_the_public_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(*_: Any, **__: Any) -> list[Any]:
        kind, proto = socket.SOCK_STREAM, socket.IPPROTO_TCP
        return [
            (socket.AF_INET, kind, proto, "", ("10.0.0.1", 80)),
            (socket.AF_INET, kind, proto, "", ("93.184.215.14", 80)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert [found["host"] for found in await PublicResolver().resolve("example.com", 80)] == ["93.184.215.14"]
