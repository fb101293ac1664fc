"""The bare HTTP client, against the scripted provider."""

import pytest

from bench.plain import Plain, say
from bench.provider import Provider
from bench.targets import free_port

PATH = "/v1/chat/completions"
ASK = {"model": "fixed-t2-d0-g0", **say("hello")}


async def test_answers_come_as_bytes_as_values_and_line_by_line(provider: Provider) -> None:
    with Plain(provider.port) as client:
        assert b"word1" in client.post(PATH, ASK)
        assert client.read("/v1/models", dict[str, object])["object"] == "list"
        lines = client.lines(PATH, {**ASK, "stream": True})
        assert lines[-1] == b"data: [DONE]\n"
        assert b"word0" in b"".join(lines)
        assert b"word0" in client.post(PATH, ASK), "the connection is good for another request"


async def test_an_answer_that_is_no_success_is_an_error(provider: Provider) -> None:
    await provider.script([{"status": 503}])
    with Plain(provider.port) as client, pytest.raises(RuntimeError, match="503"):
        client.post(PATH, ASK)


def test_a_port_where_nobody_listens_is_an_error() -> None:
    with Plain(free_port()) as client, pytest.raises(OSError, match="refused"):
        client.get("/")
