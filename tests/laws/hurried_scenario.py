"""What L3 kills while a model is asked before its command is durable."""

from typing import Any

from tests.laws.host_process import Tell
from tests.laws.nursery import HostProcess
from tests.laws.scenarios import Talk, hear_out


class Hurried(Talk):
    """Messages of which all but the first find their agent at rest: its model is asked while they commit."""

    REPLIES: tuple[dict[str, Any], ...] = ()  # every call gets the provider's fixed text, asked for or not
    TEXTS = ("one", "two", "three")
    ENDS = tuple(pair for text in TEXTS for pair in (("user", text), ("assistant", "fixed answer")))

    async def act(self, host: HostProcess) -> None:
        for number, text in enumerate(self.TEXTS):
            async with host.line() as line:
                receipt = await line.tell(self._fresh(text, number))
            await hear_out(host, self.agent_id, receipt)

    def _fresh(self, text: str, number: int) -> Tell:
        """Return a message with the key of all attempts, of a kind that has a head start in any process."""
        return Tell(
            agent_id=self.agent_id,
            conversation_id=self.agent_id,
            text=text,
            key=f"request-{self._key}-{number}",
        )
