import signal
import socket
from pathlib import Path

import pytest

from bench.targets import free_port
from gateway.config import Settings, SettingsError
from gateway.serve import PEER_SECONDS, serve
from gateway.sse import STALL_SECONDS
from tests.gateway.processes import Process, run


@pytest.mark.timeout(90)
def test_a_server_with_nothing_but_a_data_directory_brings_its_database_and_takes_it_along(
    reachable: Path,
) -> None:
    home = reachable / "installation"
    with Process("--data-dir", str(home)) as process:
        assert process.said[0].startswith("wakeful 0.")
        told = dict(line.split(maxsplit=1) for line in process.said[1:])
        assert told["address"] == process.url
        assert str(home) in told["database"]
        assert told["data"] == str(home)
        assert "no language model" in told["models"]
        assert told["try"] == f"wakeful chat --url {process.url}"
        agent_id = process.agent(memory_blocks=[{"label": "human", "value": ""}])
        assert process.say(agent_id, "My name is Ada.").status_code == 200
        postgres = int((home / "pg" / "postmaster.pid").read_text().splitlines()[0])
        second = run("serve", "--data-dir", str(home), "--port", str(free_port()))
        assert second.returncode == 1
        assert second.stderr.startswith(
            f"wakeful: the data directory {home} is in use by the server with process id"
        )
        process.kill()
    with Process("--data-dir", str(home)) as process:
        answer = process.say(agent_id, "What is my name?").json()
        assert "Ada" in answer["messages"][-1]["content"]
        assert int((home / "pg" / "postmaster.pid").read_text().splitlines()[0]) != postgres
        process.signal(signal.SIGTERM)
        assert process.wait()[0] == 0
    assert not (home / "pg" / "postmaster.pid").exists()


def test_a_taken_port_is_told_before_anything_is_started(reachable: Path) -> None:
    home = reachable / "never"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"
        ):
            serve(Settings(port=port, data_dir=str(home)), {})
    assert not home.exists()


def test_a_wrong_provider_variable_is_named(reachable: Path) -> None:
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL"):
        serve(Settings(data_dir=str(reachable / "never")), {"OPENAI_BASE_URL": "ftp://x"})


def test_a_base_url_that_cannot_be_understood_is_named(reachable: Path) -> None:
    settings = Settings(data_dir=str(reachable / "never"), default_base_url="http://host:many/v1")
    with pytest.raises(SettingsError, match="--default-base-url: "):
        serve(settings, {})


def test_a_vanished_peer_is_given_as_long_as_a_stalled_stream() -> None:
    assert PEER_SECONDS == STALL_SECONDS
