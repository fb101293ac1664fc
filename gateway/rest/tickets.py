"""Tickets: what stands for a caller once, in the address of a stream that cannot have headers."""

from msgspec import Struct
from starlette.responses import Response

from gateway.app import Context, Route, json
from gateway.errors import UnauthorizedError
from gateway.tokens import TICKET_SECONDS, Identity, ticket_in


class Ticket(Struct, frozen=True):
    """Goes as `?ticket=` to a websocket or event stream, once, within `expires_in` seconds."""

    ticket: str
    expires_in: int


async def create(ctx: Context) -> Response:
    """Make a ticket that stands for the caller.

    Raises:
        UnauthorizedError: The caller showed a ticket: one does not make another.
        TooManyRequestsError: Too many tickets wait to be used.
    """
    if ticket_in(ctx.request.scope["query_string"]) is not None:
        raise UnauthorizedError
    made = ctx.tokens.ticket(Identity(ctx.caller, ctx.expires_at))
    return json(Ticket(made, TICKET_SECONDS))


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/tickets",
        endpoint=create,
        operation_id="create_ticket",
        summary="Make a ticket for the websocket or an event stream",
        returns=Ticket,
        tags=("tickets",),
        tokens=True,
    ),
)
