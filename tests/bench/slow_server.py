"""This server, made to burn a share more CPU for each message that it is sent: a planted loss.

python slow_server.py SHARE serve …
"""

import sys
import time
from typing import Any

from gateway.app import App
from gateway.cli import main


def slow_down(share: float) -> None:
    """After each message, burn so much of the CPU that the process took since the one before."""
    serve = App.__call__
    burned_until = time.process_time()

    async def burning(self: App, scope: Any, receive: Any, send: Any) -> None:
        nonlocal burned_until
        try:
            await serve(self, scope, receive, send)
        finally:
            if scope["type"] == "http" and scope["path"].endswith("/messages"):
                now = time.process_time()
                until = now + share * (now - burned_until)
                while time.process_time() < until:
                    pass
                burned_until = time.process_time()

    App.__call__ = burning  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_down(float(sys.argv.pop(1)))
    main()
