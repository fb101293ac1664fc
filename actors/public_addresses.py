"""Which IP addresses belong to the public internet, and a resolver that names no others."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult

# All that is given out for the internet (IANA, IPv6 address space). Beyond it `is_global` lets pass what was
# given back or embeds an address of IPv4: site-local and IPv4-compatible addresses, and more.
_UNICAST = ip_network("2000::/3")
# Ranges in it whose addresses stand for others: 6to4 and Teredo.
_TUNNELS = tuple(ip_network(n) for n in ("2002::/16", "2001::/32"))


def is_public(address: str) -> bool:
    """Say whether an IP address belongs to the public internet, and to no machine of ours."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and (ip not in _UNICAST or any(ip in net for net in _TUNNELS)):
        return False
    return ip.is_global and not ip.is_multicast


def is_numeric(host: str) -> bool:
    """Say whether a host may be connected to without asking the resolver, in whatever notation it is."""
    return ":" in host or host.replace(".", "").isdigit()


class NotPublicError(OSError):
    """The name has addresses, but none of the public internet."""


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only; the address that was checked is the one connected to."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the public addresses of `host`.

        Raises:
            NotPublicError: It has none.
            OSError: It has no address at all.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, address in found
            if is_public(str(address[0]))
        ]
        if not results:
            raise NotPublicError("the name has no public address")
        return results

    async def close(self) -> None:
        """Nothing to close."""
