"""Names of channels: what a client may subscribe to, read from its text. Pure."""

import re
from typing import Literal

from msgspec import Struct

from gateway.decode import UUID4
from gateway.realtime.protocol import BAD_REQUEST, UNKNOWN_CHANNEL, ProtocolError

Kind = Literal["conv", "agent", "state", "fleet", "user"]

_CONVERSATION = re.compile(f"(?:conv|agent)-{UUID4}")
_AGENT = re.compile(f"agent-{UUID4}")
_USER = re.compile(f"user-{UUID4}")


class Address(Struct, frozen=True):
    """What a channel's name names: `id` is a conversation's, an agent's or a user's; the fleet has none."""

    kind: Kind
    id: str = ""


def parse(name: str) -> Address:
    """Return what a channel is about.

    Raises:
        ProtocolError: There is no such kind of channel (102), or the id in it is none (107).
    """
    kind, _, rest = name.partition(":")
    if name == "fleet":
        return Address("fleet")
    if kind == "conv":
        return Address("conv", _id(rest, _CONVERSATION, "conv:{conversation id, or the agent's}"))
    if kind == "agent" and rest.endswith(":state"):
        return Address("state", _id(rest.removesuffix(":state"), _AGENT, "agent:{agent id}:state"))
    if kind == "agent":
        return Address("agent", _id(rest, _AGENT, "agent:{agent id}"))
    if kind == "user":
        return Address("user", _id(rest, _USER, "user:{user id}"))
    raise ProtocolError(UNKNOWN_CHANNEL, "unknown channel: there are conv:, agent:, user: and fleet")


def _id(text: str, pattern: re.Pattern[str], expected: str) -> str:
    if pattern.fullmatch(text) is None:
        raise ProtocolError(BAD_REQUEST, f"not a channel's name; it is written {expected}")
    return text
