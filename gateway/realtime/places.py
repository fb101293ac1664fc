"""How many realtime connections there may be: by user, by address, and all together by memory."""

from ipaddress import ip_address

from gateway.errors import TooManyRequestsError

CONNECTION_BYTES = 32 * 1024  # an idle connection with two subscriptions, all that belongs to it
RETRY_SECONDS = 5.0


class Budget:
    """Memory of all connections together: what they are, and what waits to be sent on them.

    `queues` counts how often one of them began to wait.
    """

    __slots__ = ("limit_bytes", "queues", "used")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used = 0
        self.queues = 0

    @property
    def spent(self) -> bool:
        """Whether there is none left."""
        return self.used > self.limit_bytes


class Place:
    """One connection's part of the limits, from its handshake on."""

    __slots__ = ("address", "handshaking", "user")

    def __init__(self, address: str | None) -> None:
        self.address = address  # None: not counted, as on the loopback interface
        self.handshaking = True
        self.user: str | None = None


class Places:
    """The limits of one server. Connections from its own machine count against memory alone."""

    def __init__(self, budget: Budget, *, per_user: int, handshakes: int) -> None:
        self.budget = budget
        self._per_user = per_user
        self._handshakes = handshakes
        self._of_user: dict[str, int] = {}
        self._of_address: dict[str, int] = {}

    def take(self, address: str | None) -> Place:
        """Count a connection that begins its handshake. Give it back with `leave`.

        Raises:
            TooManyRequestsError: There is no room for it.
        """
        if self.budget.used + CONNECTION_BYTES > self.budget.limit_bytes:
            raise TooManyRequestsError(
                "this server has as many connections as it has memory for", retry_after=RETRY_SECONDS
            )
        place = Place(None if address is None or is_loopback(address) else address)
        if place.address is not None:
            count = self._of_address.get(place.address, 0)
            if count >= self._handshakes:
                raise TooManyRequestsError(
                    "too many connections of this address have not said yet who they are",
                    retry_after=RETRY_SECONDS,
                )
            self._of_address[place.address] = count + 1
        self.budget.used += CONNECTION_BYTES
        return place

    def name(self, place: Place, user: str) -> None:
        """Count a connection as this user's. It may be told again.

        Raises:
            TooManyRequestsError: The user has as many as one may have.
        """
        if place.address is None or place.user == user:
            return
        count = self._of_user.get(user, 0)
        if count >= self._per_user:
            raise TooManyRequestsError(
                f"a user may have {self._per_user} connections", retry_after=RETRY_SECONDS
            )
        if place.user is not None:
            _take_one(self._of_user, place.user)
        self._of_user[user] = count + 1
        place.user = user

    def settle(self, place: Place) -> None:
        """The connection has said who it is: its handshake is over."""
        if place.handshaking and place.address is not None:
            _take_one(self._of_address, place.address)
        place.handshaking = False

    def leave(self, place: Place) -> None:
        """Give everything back, once."""
        self.settle(place)
        if place.user is not None:
            _take_one(self._of_user, place.user)
        self.budget.used -= CONNECTION_BYTES


def is_loopback(address: str) -> bool:
    """Return whether a peer is on this machine."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def _take_one(counts: dict[str, int], name: str) -> None:
    if counts[name] == 1:
        del counts[name]
    else:
        counts[name] -= 1
