"""L5 over real websockets: cut at any event of a run, whoever comes back has all of it once."""

import random
from typing import Any

import anyio
import pytest

from bench.provider import Provider
from storage.pool import Pool
from tests.gateway.raw_websocket import upgraded
from tests.gateway.rest.talking import new_agent, talking, user
from tests.laws.resuming import images
from tests.serving import Served, listening

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

WORDS = 30
SEED = 5
AT_ONCE = 12  # below the handshakes that one address may have under way
SECONDS = 120.0


class Client:
    """A client that reads a number of publications, loses its connection, and comes back."""

    def __init__(self, url: str, channel: str) -> None:
        self.seen: list[tuple[int, Any]] = []
        self.cuts = 0
        self.lost = 0
        self._url = url
        self._channel = channel
        self._place: tuple[str, int] | None = None

    @property
    def over(self) -> bool:
        return bool(self.seen) and self.seen[-1][1]["type"] == "RUN_FINISHED"

    async def read(self, most: int) -> None:
        """Follow the channel over one connection until so many publications came, or the run is over.

        The first time it learns at least where the channel stands.
        """
        async with upgraded(self._url) as peer:
            await peer.connect()
            command: dict[str, Any] = {"channel": self._channel}
            if self._place is not None:
                epoch, offset = self._place
                command |= {"recover": True, "epoch": epoch, "offset": offset}
            peer.say({"id": 2, "subscribe": command})
            left = most
            while (left > 0 and not self.over) or self._place is None:
                for said in await peer.next():
                    left = self._take(said, left)
        self.cuts += 1

    def _take(self, said: dict[str, Any], left: int) -> int:
        """Take what came, up to the moment of the cut."""
        if "subscribe" in said:
            answer = said["subscribe"]
            if self._place is None:
                self._place = (answer["epoch"], answer["offset"])
            elif not answer.get("recovered"):
                self.lost += 1
            publications = answer.get("publications", [])
        else:
            publications = [said["push"]["pub"]] if "push" in said and "pub" in said["push"] else []
        for pub in publications:
            if left <= 0:
                break
            assert self._place is not None
            self.seen.append((pub["offset"], pub["data"]))
            self._place = (self._place[0], pub["offset"])
            left -= 1
        return left


async def _talk(served: Served, agent_id: str) -> None:
    await served.json("POST", f"/v1/agents/{agent_id}/messages", json=user("go"))


def expected(served: Served, agent_id: str) -> list[tuple[int, Any]]:
    log = served.host.logs.channels[agent_id].since(0)
    assert log is not None
    return images(log, agent_id)


@pytest.mark.parametrize("every", [1, pytest.param(1000, marks=pytest.mark.full)])
async def test_a_socket_cut_at_any_event_loses_nothing(pool: Pool, provider: Provider, every: int) -> None:
    """Each client is cut after another number of events, some at random again and again."""
    chance = random.Random(SEED)
    limit = anyio.CapacityLimiter(AT_ONCE)
    clients: list[Client] = []

    async def once(client: Client, cut: int) -> None:
        async with limit:
            await client.read(cut)
        while not client.over:
            async with limit:
                await client.read(1000)

    async def often(client: Client) -> None:
        while not client.over:
            async with limit:
                await client.read(chance.randrange(1, 12))

    async with talking(pool, provider) as served, listening(served.app) as url:
        for _ in range(max(1, every // 100)):
            agent_id = await new_agent(served)
            await provider.script([{"text": " ".join(f"w{i}" for i in range(WORDS)), "gap_ms": 3}])
            mine = [Client(url, f"conv:{agent_id}") for _ in range(WORDS + 20)]
            with anyio.fail_after(SECONDS):
                for client in mine:
                    await client.read(0)
                async with anyio.create_task_group() as group:
                    group.start_soon(_talk, served, agent_id)
                    for cut, client in enumerate(mine[: WORDS + 10], 1):
                        group.start_soon(once, client, cut)
                    for client in mine[WORDS + 10 :]:
                        group.start_soon(often, client)
            whole = expected(served, agent_id)
            assert [data["type"] for _, data in whole][-1] == "RUN_FINISHED"
            for client in mine:
                assert client.lost == 0
                assert client.seen == whole
            clients += mine
    assert sum(client.cuts for client in clients) > WORDS
