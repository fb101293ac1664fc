"""What a person types while the agent waits for them is sent once they have decided, or they are told."""

from collections.abc import Sequence

import pytest

from gateway.chat.chat import Chat, Exchanged
from gateway.chat.client import Agent, Call
from gateway.chat.view import View
from gateway.client import Answered

ASKING = (Call("call-1", "memory_insert"),)
REFUSED = Exchanged(answered=False, accepted=False, waiting=ASKING)
ANSWERED = Exchanged(answered=True)


class Notices(View):
    """A view of which only the notices are looked at."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


class Scripted(Chat):
    """A chat whose exchanges end as it is told; the person decides `decisions` times."""

    def __init__(self, ends: list[Exchanged], *, decisions: int) -> None:
        self.notices = Notices()
        super().__init__(self.notices, url="http://127.0.0.1:1", api_key=None)
        self._agent = Agent("agent-1", "ada")
        self._ends = ends
        self._decisions = decisions
        self.sent: list[str] = []

    def _exchange(self, said: str | Sequence[Answered]) -> Exchanged:
        self.sent.append(said if isinstance(said, str) else "decision")
        return self._ends.pop(0)

    def _decided(self, waiting: Sequence[Call]) -> Sequence[Answered] | None:
        self._decisions -= 1
        return () if self._decisions >= 0 else None


def test_a_message_is_sent_again_as_often_as_the_agent_waits_anew() -> None:
    chat = Scripted([REFUSED, ANSWERED, REFUSED, ANSWERED, ANSWERED], decisions=2)
    assert chat.say("hi")
    assert chat.sent == ["hi", "decision", "hi", "decision", "hi"]


def test_a_message_is_sent_although_the_run_before_it_failed() -> None:
    chat = Scripted([REFUSED, Exchanged(answered=False), ANSWERED], decisions=1)
    assert chat.say("hi")
    assert chat.sent == ["hi", "decision", "hi"]


@pytest.mark.parametrize(
    ("ends", "decisions"),
    [([REFUSED], 0), ([REFUSED, ANSWERED, REFUSED], 1), ([REFUSED, Exchanged(False, accepted=False)], 1)],
    ids=["undecided", "undecided the second time", "nobody took the decision"],
)
def test_a_message_that_is_not_sent_is_said_to_be(ends: list[Exchanged], decisions: int) -> None:
    chat = Scripted(ends, decisions=decisions)
    assert not chat.say("hi")
    assert chat.notices.said[-1] == "Your message was not sent."
