"""A client of the realtime protocol, for programs in Python; it brings no server with it.

`client` has the calls, `keeper` the connection that is made again, `link` one connection of it,
`subscription` a channel that goes on where it stood, `notices` the user's own, `tokens` who the client is;
`frames`, `events` and `results` are what is sent and read, `errors` what is raised. Everything that a
program needs is imported from here.
"""

from gateway.client.client import Client, Past, connect
from gateway.client.errors import ClientError, DeniedError, EndedError, LostError
from gateway.client.keeper import Patience
from gateway.client.notices import Asked, Notices, Settled
from gateway.client.results import Answered, Block, Sent
from gateway.client.subscription import Gap, Publication, Subscription

__all__ = [
    "Answered",
    "Asked",
    "Block",
    "Client",
    "ClientError",
    "DeniedError",
    "EndedError",
    "Gap",
    "LostError",
    "Notices",
    "Past",
    "Patience",
    "Publication",
    "Sent",
    "Settled",
    "Subscription",
    "connect",
]
