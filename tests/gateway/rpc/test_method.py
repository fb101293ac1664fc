"""How calls name what they are about."""

from typing import Any, cast

import pytest

from gateway.auth import KEYED, Caller
from gateway.config import Settings
from gateway.errors import InvalidRequestError
from gateway.rpc import method as rpc_method
from gateway.rpc.method import Call
from storage.errors import NotFoundError

AGENT, OTHER = (f"agent-00000000-0000-4000-8000-00000000000{end}" for end in "ab")
CONVERSATION = AGENT.replace("agent", "conv")
RUN = AGENT.replace("agent", "run")


def call(caller: Caller = KEYED) -> Call:
    return Call(cast("Any", None), Settings(), cast("Any", None), caller)


@pytest.mark.parametrize(
    ("agent", "conversation", "named"),
    [
        (AGENT, None, (AGENT, AGENT)),
        (AGENT, "default", (AGENT, AGENT)),
        (AGENT, AGENT, (AGENT, AGENT)),
        (None, AGENT, (AGENT, AGENT)),
        (AGENT, CONVERSATION, (AGENT, CONVERSATION)),
        (None, CONVERSATION, (None, CONVERSATION)),
    ],
)
def test_an_agent_or_a_conversation_is_an_address(
    agent: str | None, conversation: str | None, named: tuple[str | None, str]
) -> None:
    assert rpc_method.names(call(), agent, conversation) == named


@pytest.mark.parametrize(
    ("agent", "conversation", "param"),
    [
        (None, None, "/agent"),
        (None, "default", "/agent"),
        ("agent-1", None, "/agent"),
        (f"{AGENT}\n", None, "/agent"),
        (AGENT, "conv-1", "/conversation"),
        (AGENT, RUN, "/conversation"),
        (AGENT, "", "/conversation"),
    ],
)
def test_what_is_no_address_is_named(agent: str | None, conversation: str | None, param: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        rpc_method.names(call(), agent, conversation)
    assert error.value.param == param


def test_the_own_conversation_of_another_agent_is_not_there() -> None:
    with pytest.raises(NotFoundError):
        rpc_method.names(call(), AGENT, OTHER)


def test_who_may_not_address_an_agent_does_not_learn_that_it_is_there() -> None:
    narrow = call(Caller("token:a", agents=frozenset({OTHER})))
    assert rpc_method.names(narrow, OTHER, None) == (OTHER, OTHER)
    for agent, conversation in ((AGENT, None), (None, AGENT), (AGENT, CONVERSATION)):
        with pytest.raises(NotFoundError):
            rpc_method.names(narrow, agent, conversation)


@pytest.mark.parametrize("given", ["", "run-1", AGENT, f"{RUN} ", RUN.upper()])
def test_a_run_s_id_is_checked(given: str) -> None:
    assert rpc_method.run_id(RUN) == RUN
    with pytest.raises(InvalidRequestError):
        rpc_method.run_id(given)
