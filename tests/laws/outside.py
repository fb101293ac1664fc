"""A tool whose effects are seen outside of this system, for the laws: it sends letters."""

from collections import Counter

import anyio

from actors.tools.outside import Invocation
from actors.tools.spec import ToolSpec, arguments_of

LETTER = ToolSpec(
    name="send_letter",
    description="Send a letter.",
    parameters=arguments_of(("to",), to={"type": "string", "description": "To whom."}),
    tool_type="custom",
    kind="call",
    effects="outside",
)


class PostOffice:
    """Counts the letters by their keys. `closed` holds a letter's sender up once it is sent."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.closed = False
        self.posted = anyio.Event()

    async def send(self, invocation: Invocation) -> str:
        """Send one letter."""
        self.sent[invocation.key] += 1
        self.posted.set()
        if self.closed:
            await anyio.sleep_forever()
        return f"sent to {invocation.arguments['to']}"
