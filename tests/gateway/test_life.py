import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import pytest

from bench.provider import Provider
from storage.pool import connect
from tests.gateway.processes import Process, on_database, run

pytestmark = pytest.mark.timeout(60)

MODEL = "openai/echo"


def script(provider: Provider, **reply: object) -> None:
    anyio.run(provider.script, [reply])


def asked(provider: Provider) -> None:
    """Wait until the model was asked."""

    async def wait() -> None:
        await provider.log(requests=1, keep=True)

    anyio.run(wait)


def refused(process: Process, agent_id: str) -> httpx.Response:
    """Send messages until one is refused."""
    while (response := process.say(agent_id, "and then?")).status_code == 200:
        pass
    return response


def test_sigterm_refuses_new_messages_and_lets_a_running_answer_end(
    dsn: str, provider_process: Provider
) -> None:
    anyio.run(provider_process.reset)
    script(provider_process, match="first", text="It ends well.", gate="end", gate_after=1)
    with on_database(dsn, provider_process) as process, ThreadPoolExecutor() as threads:
        agent_id, other = process.agent(model=MODEL), process.agent(model=MODEL)
        running = threads.submit(process.say, agent_id, "first")
        asked(provider_process)
        process.signal(signal.SIGTERM)
        refusal = refused(process, other)
        assert refusal.status_code == 503
        assert refusal.json()["error"]["type"] == "draining"
        assert refusal.headers["retry-after"] == "1"
        assert process.request("GET", "/v1/ready/").status_code == 503
        assert process.request("GET", "/v1/health/").json()["status"] == "draining"
        anyio.run(provider_process.open, "end")
        assert running.result().json()["messages"][-1]["content"] == "It ends well."
        assert process.wait()[0] == 0


def test_an_answer_that_outlasts_the_drain_is_turned_away_and_ends_in_the_next_life(
    dsn: str, provider_process: Provider
) -> None:
    anyio.run(provider_process.reset)
    script(provider_process, match="long", text="Too late.", gate="never", gate_after=1)
    with (
        on_database(dsn, provider_process, "--drain-seconds", "0.1") as process,
        ThreadPoolExecutor() as threads,
    ):
        agent_id = process.agent(model=MODEL)
        running = threads.submit(process.say, agent_id, "a long one")
        asked(provider_process)
        process.signal(signal.SIGTERM)
        turned_away = running.result()
        assert turned_away.status_code == 503
        assert turned_away.headers["x-should-retry"] == "true"
        code, errors = process.wait()
        assert code == 0
        assert " error " not in errors
    with on_database(dsn, provider_process) as process:
        process.say(agent_id, "still there?")
        history = process.request("GET", f"/v1/agents/{agent_id}/messages").json()
        said = [m["content"] for m in history if m["message_type"] == "assistant_message"]
        assert [text.partition("] ")[2] for text in said] == ["a long one", "still there?"]


def test_the_second_signal_quits_at_once(dsn: str, provider_process: Provider) -> None:
    anyio.run(provider_process.reset)
    script(provider_process, match="long", fault="hang")
    with on_database(dsn, provider_process) as process:
        agent_id, other = process.agent(model=MODEL), process.agent(model=MODEL)
        sender = threading.Thread(target=_sent, args=(process, agent_id))
        sender.start()
        asked(provider_process)
        process.signal(signal.SIGINT)
        refused(process, other)
        process.signal(signal.SIGINT)
        code, errors = process.wait()
        sender.join()
        assert code == 128 + signal.SIGINT
        assert "stopped at once" in errors


def _sent(process: Process, agent_id: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        process.say(agent_id, "a long one")


def test_a_second_server_is_refused_and_a_successor_takes_over(dsn: str) -> None:
    with on_database(dsn) as process:
        other = run("serve", "--port", str(process.port + 1), "--database-url", dsn, "--host-name", "other")
        assert other.returncode == 1
        assert other.stderr.startswith("wakeful: host 'test' owns this database (its lease runs ")
        agent_id = process.agent()
        with on_database(dsn) as successor:
            code, errors = process.wait()
            assert code == 1
            assert "superseded: another process runs under this host name" in errors
            assert successor.say(agent_id, "hello").status_code == 200


def test_a_server_finds_out_which_model_a_custom_endpoint_has(dsn: str, provider_process: Provider) -> None:
    anyio.run(provider_process.reset)
    with on_database(dsn, provider_process) as process:
        told = dict(line.split(maxsplit=1) for line in process.said[1:])
        assert told["models"] == (
            f"openai ({provider_process.base_url}); agents get openai/gpt-4o-mini unless they name one"
        )
        agent = process.request("POST", "/v1/agents/", json={}).json()
        assert agent["model"] == "openai/gpt-4o-mini"


def test_a_server_keeps_its_lease_while_requests_take_every_connection(dsn: str) -> None:
    with on_database(dsn) as process, ThreadPoolExecutor(16) as threads:
        lifted = threading.Event()
        for _ in range(16):
            threads.submit(_list_agents, process, lifted)
        try:
            anyio.run(_lease_is_renewed_behind_a_lock, dsn)
        finally:
            lifted.set()


def _list_agents(process: Process, lifted: threading.Event) -> None:
    while not lifted.is_set():
        process.request("GET", "/v1/agents/")


async def _lease_is_renewed_behind_a_lock(dsn: str) -> None:
    """Lock what lists read until all of them wait, and the lease has been renewed twice meanwhile."""
    blocked = """
        select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
    """
    renewed = "select count(*) from hosts where lease_until > $1"
    locking, watching = await connect(dsn), await connect(dsn)
    try:
        with anyio.fail_after(30):
            async with locking.transaction():
                await locking.execute("lock table agents in access exclusive mode")
                while await watching.fetchval(blocked) < 7:
                    await anyio.sleep(0.05)
                for _ in range(2):
                    until = await watching.fetchval("select max(lease_until) from hosts")
                    while not await watching.fetchval(renewed, until):
                        await anyio.sleep(0.05)
    finally:
        await locking.close()
        await watching.close()
