import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import uvloop

import gateway.serve
from bench.targets import free_port
from gateway.config import Settings, SettingsError
from gateway.serve import PEER_SECONDS, TAKEN_AT_ONCE, _listening, serve
from gateway.sse import STALL_SECONDS
from tests.gateway.processes import Process, run

MORE_THAN_KERNELS_HOLD = 32 * 1024 * 1024


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
            SettingsError,
            match=f"port {port}: Address already in use; choose another port or address, or stop what",
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


def test_those_who_connect_at_once_are_taken_in_a_few_turns_of_the_loop() -> None:
    crowd = 8 * TAKEN_AT_ONCE

    async def turns_until_all_are_in() -> int:
        loop, turns = asyncio.get_running_loop(), 0
        taken: list[asyncio.BaseTransport] = []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taken.append(transport)

        with _listening("127.0.0.1", 0) as sockets, contextlib.ExitStack() as clients:
            servers = [await loop.create_server(Protocol, sock=sock) for sock in sockets]
            for _ in range(crowd):
                clients.enter_context(socket.create_connection(sockets[0].getsockname()))
            while len(taken) < crowd:
                turns += 1
                await asyncio.sleep(0)
            for transport in taken:
                transport.close()
            for server in servers:
                server.close()
        return turns

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(turns_until_all_are_in()) < crowd / 2


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has this option")
def test_connections_give_up_on_a_peer_that_takes_nothing() -> None:
    with _listening("127.0.0.1", 0) as sockets:
        with socket.create_connection(sockets[0].getsockname()):
            taken = _accepted(sockets[0])
        with taken:
            found = taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert found == PEER_SECONDS * 1000


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has this option")
def test_a_connection_that_closes_does_not_wait_for_a_peer_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise it would wait for its buffer to empty, for ever."""
    monkeypatch.setattr(gateway.serve, "PEER_SECONDS", 1)

    class Closing(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: Any) -> None:
            transport.write(bytes(MORE_THAN_KERNELS_HOLD))
            transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def how_it_ends() -> Exception | None:
        protocol = Closing()
        with _listening("127.0.0.1", 0) as sockets:
            server = await asyncio.get_running_loop().create_server(lambda: protocol, sock=sockets[0])
            with socket.create_connection(sockets[0].getsockname()):
                try:
                    async with asyncio.timeout(15):
                        return await protocol.lost
                finally:
                    server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended = runner.run(how_it_ends())
    assert isinstance(ended, TimeoutError)


def _accepted(listening: socket.socket) -> socket.socket:
    listening.setblocking(True)
    return listening.accept()[0]
