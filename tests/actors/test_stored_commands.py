"""Commands as the inbox stores them."""

import msgspec
import pytest

from actors import stored_commands
from actors.commands import InputMessage, SendMessages
from storage.records import TextPart


def test_a_command_is_read_as_it_was_written() -> None:
    said = InputMessage(role="user", content=(TextPart("hi"),))
    command = SendMessages(conversation_id="conv-1", messages=(said,))
    assert stored_commands.read(msgspec.json.encode(command), agent_id="agent-1", run_id="run-1") == command


@pytest.mark.parametrize("stored", [b"", b"[]", b"{", b'{"messages": 1}'])
def test_what_this_release_cannot_read_is_told_in_the_log(
    stored: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert stored_commands.read(stored, agent_id="agent-1", run_id="run-1") is None
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["run_id"]) == ("command cannot be read", "run-1")
