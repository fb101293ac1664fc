"""Names of channels: read for what they are, or refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.channel_names import Address, parse
from gateway.realtime.protocol import BAD_REQUEST, UNKNOWN_CHANNEL, ProtocolError

AGENT = "agent-18b95ffe-8a61-4096-a7bd-0e75e549d1dc"
CONVERSATION = "conv-6085884b-ec40-4de1-9455-d6e12d9c4f23"
USER = "user-f4daeffe-bc16-499e-bc7d-ddbcb43f2e68"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (f"conv:{CONVERSATION}", Address("conv", CONVERSATION)),
        (f"conv:{AGENT}", Address("conv", AGENT)),
        (f"agent:{AGENT}", Address("agent", AGENT)),
        (f"agent:{AGENT}:state", Address("state", AGENT)),
        (f"user:{USER}", Address("user", USER)),
        ("fleet", Address("fleet")),
    ],
)
def test_every_kind_of_channel_has_its_name(name: str, address: Address) -> None:
    assert parse(name) == address


@given(st.text(max_size=80).filter(lambda text: text != "fleet"))
def test_any_other_text_is_refused_with_a_reason(name: str) -> None:
    for text in (name, f"conv:{name}", f"agent:{name}", f"agent:{AGENT}{name}x", f"user:{name}"):
        with pytest.raises(ProtocolError) as refused:
            parse(text)
        assert refused.value.code in (BAD_REQUEST, UNKNOWN_CHANNEL)
        assert refused.value.message
