"""Every event that the server shows is read by the client, as what it is."""

import pytest
from msgspec import Raw

from actors.events import Event
from gateway.agui import images as agui
from gateway.client import events as client_events
from gateway.client.events import Custom, Outcome, Unknown
from tests.gateway.agui_events import EVERY


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_an_event_of_the_log_is_known(event: Event) -> None:
    read = client_events.event(Raw(agui.image(event, "thread")))
    assert not isinstance(read, Unknown)


def test_what_is_not_known_passes_through() -> None:
    data = Raw(b'{"type":"ACTIVITY_SNAPSHOT","messageId":"m"}')
    assert client_events.event(data) == Unknown(data)
    assert client_events.event(Raw(b"[1]")) == Unknown(Raw(b"[1]"))


def test_the_end_of_a_run_says_how_it_ended() -> None:
    data = b'{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"cancelled"}}'
    read = client_events.event(Raw(data))
    assert isinstance(read, client_events.RunFinished)
    assert read.outcome == Outcome("cancelled")


def test_a_custom_event_keeps_its_value_as_it_came() -> None:
    read = client_events.event(Raw(b'{"type":"CUSTOM","name":"wakeful.retract","value":{"attempt":2}}'))
    assert read == Custom("wakeful.retract", Raw(b'{"attempt":2}'))
