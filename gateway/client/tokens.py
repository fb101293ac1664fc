"""Who a client is: a token, or a function of the program's own that makes one whenever one is needed."""

from collections.abc import Awaitable, Callable

import anyio

from gateway.client.errors import DeniedError, EndedError, LostError

Token = str | None | Callable[[], Awaitable[str]]

TOKEN_SECONDS = 30.0  # what a function may take to make one


async def made(token: Token) -> str:
    """Return a token; empty where there is none.

    A function that fails is asked again with the next connection, unless it raises `DeniedError`: then there
    is no token for this client, and there will be none.

    Raises:
        LostError: There is none just now.
        EndedError: There will be none.
    """
    if not callable(token):
        return token or ""
    try:
        with anyio.fail_after(TOKEN_SECONDS):
            return await token()
    except (DeniedError, EndedError) as error:
        raise EndedError(error.code, str(error)) from error
    except TimeoutError:
        raise LostError(f"no token was made within {TOKEN_SECONDS:.0f} s") from None
    except Exception as error:  # the program's own code: what fails there may succeed later
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise LostError(f"no token could be made: {reason}") from error
