"""Why the client of the realtime protocol could not do what it was asked."""


class ClientError(Exception):
    """The base of everything that the client raises."""


class LostError(ClientError):
    """The connection was lost, or none could be made, before an answer came; the server may have acted.

    What is idempotent may be asked again.
    """


class DeniedError(ClientError):
    """The server answered with an error. `temporary` says that the same may be asked again later.

    Codes 100 to 113 are the protocol's own, those from 400 are HTTP statuses.
    """

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.temporary = temporary


class EndedError(ClientError):
    """The client has ended and will not connect again: the server said why, or it was closed.

    `code` is the websocket's close code, or the HTTP status of a refused handshake; 0 where the server
    said nothing.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
