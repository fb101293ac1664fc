import anyio
import pytest

from actors.commands import DeleteAgent
from bench.provider import Provider
from storage.inbox import Submission
from storage.pool import Pool
from tests.actors.worlds import finish, world
from tests.laws.watching import until


async def test_a_message_that_its_agent_s_deletion_overtook_is_told_to_be_over(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        await w.host._population.wake(agent_id)
        accept = w.host._commons.committer.accept

        async def overtaken(batch: list[Submission]) -> object:
            verdicts = await accept(batch)
            await w.host.ref(agent_id).edit(DeleteAgent())
            return verdicts

        monkeypatch.setattr(w.host._commons.committer, "accept", overtaken)
        with anyio.fail_after(10):
            receipt = await w.tell(agent_id)
        assert finish(await w.events(receipt, agent_id)).status == "cancelled"
        await until(lambda: not w.host.health().unfinished_runs)
