"""What an agent asks of the person at the terminal: may it call this, and what did that come to?"""

from collections.abc import Callable, Sequence

from gateway.chat.client import Call
from gateway.chat.view import printable, shown_call
from gateway.client import Answered

Ask = Callable[[str], str]

WHOLE_CHARS = 100_000  # of a call's arguments: who decides sees all of them


def decide(calls: Sequence[Call], ask: Ask) -> tuple[Answered, ...]:
    """Ask the person for an answer to every call and return them.

    Raises:
        EOFError, KeyboardInterrupt: `ask` did: the person does not answer now.
    """
    return tuple(_approval(call, ask) if call.kind == "approval" else _result(call, ask) for call in calls)


def described(call: Call) -> str:
    """Return a call on one line, with all of its arguments."""
    return shown_call(call.name, call.arguments, limit_chars=WHOLE_CHARS)


def _approval(call: Call, ask: Ask) -> Answered:
    said = _asked(ask, f"Allow {described(call)}? y, n, or why not: ")
    match said.lower():
        case "y" | "yes":
            payload: dict[str, object] = {"approved": True}
        case "n" | "no":
            payload = {"approved": False}
        case _:
            payload = {"approved": False, "reason": said}
    return Answered(interrupt_id=call.tool_call_id, payload=payload)


def _result(call: Call, ask: Ask) -> Answered:
    said = _asked(ask, f"What does {described(call)} return? ")
    return Answered(interrupt_id=call.tool_call_id, payload={"content": said})


def _asked(ask: Ask, question: str) -> str:
    """Ask until there is an answer."""
    while not (said := ask(printable(question)).strip()):
        pass
    return said.encode(errors="replace").decode()
