"""The channel of one user: what agents ask of people, and what became of it."""

from collections.abc import Callable, Iterable

from actors.events import Position
from gateway.feeds import frames, shown_events
from gateway.feeds.choices import Choice
from gateway.feeds.frames import publication
from gateway.feeds.interrupt_log import Interrupt, InterruptLog
from gateway.feeds.subscriptions import Audience, Subscribed, Subscription, fail
from gateway.realtime.protocol import Subscribe


class UserFeed:
    """Shows a user the interrupts of the agents it may see. Who may see fewer finds gaps in the offsets."""

    def __init__(
        self,
        name: str,
        interrupts: InterruptLog,
        *,
        agents: frozenset[str] | None,
        left: Callable[["UserFeed"], None],
    ) -> None:
        self.name = name
        self.agents = agents
        self.audience = Audience(lambda: left(self))
        self.interrupts = interrupts
        self._head = frames.head_of(name)

    @property
    def position(self) -> Position:
        """Where the channel stands."""
        return self.interrupts.position

    def join(self, member: Subscription, request: Subscribe) -> Subscribed:
        """Subscribe, and return what was missed: one step, so nothing falls between the two."""
        self.audience.join(member)
        missed: list[Interrupt] | None = []
        if request.recover:
            missed = self.interrupts.since(request.offset) if request.epoch == self.interrupts.epoch else None
        return Subscribed(
            epoch=self.interrupts.epoch,
            offset=self.interrupts.next - 1,
            recoverable=True,
            positioned=True,
            was_recovering=request.recover,
            recovered=request.recover and missed is not None,
            publications=self.publications(missed or [], member.choice),
            close=member.close,
        )

    def publications(self, interrupts: Iterable[Interrupt], choice: Choice) -> list[bytes]:
        """Return the publications of the interrupts that this user may see and `choice` wants."""
        return [
            publication(one.offset, shown_events.image(one.event, one.conversation_id), _tags(one))
            for one in interrupts
            if self.sees(one) and choice.takes_event(one.event)
        ]

    def show(self, interrupt: Interrupt) -> None:
        """Tell the user, if it may see the agent."""
        if not self.sees(interrupt):
            return
        try:
            frame = frames.of_event(
                self.name,
                self._head,
                interrupt.offset,
                interrupt.event,
                thread=interrupt.conversation_id,
                tags=_tags(interrupt),
            )
            self.audience.send(frame)
        except Exception as error:  # noqa: BLE001 - the boundary to the agents; see `subscriptions.fail`
            fail(error, self.end)

    def sees(self, interrupt: Interrupt) -> bool:
        """Say whether the user may see the agent that asks."""
        return self.agents is None or interrupt.agent_id in self.agents

    def end(self, code: int, reason: str) -> None:
        """End every subscription."""
        self.audience.end(self.name, code, reason)


def _tags(interrupt: Interrupt) -> bytes:
    return frames.tags_of(
        run=interrupt.event.run_id, conv=interrupt.conversation_id, agent=interrupt.agent_id
    )
