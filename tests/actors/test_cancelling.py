import anyio
import pytest

from actors.errors import NotRunningError
from actors.events import RunFinished, TextDelta
from bench.provider import Provider
from storage.pool import Pool
from tests.actors.worlds import finish, world


async def test_one_run_is_cancelled_and_says_no_more(pool: Pool, provider: Provider) -> None:
    await provider.script([{"text": "a b c d e f", "gap_ms": 20, "gate": "never", "gate_after": 3}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        receipt = await w.tell(agent_id, "hi")
        with anyio.fail_after(10):
            async for batch in w.host.ref(agent_id).follow(receipt.run_id, agent_id):
                if any(isinstance(e.event, TextDelta) for e in batch):
                    break
        assert w.host.where(receipt.run_id) == (agent_id, agent_id)
        assert w.host.disposition(receipt.run_id) == ("started", 0)
        await w.host.ref(agent_id).cancel_run(receipt.run_id)
        events = await w.events(receipt, agent_id)
        assert finish(events).status == "cancelled"
        assert w.host.where(receipt.run_id) is None
        assert w.host.disposition(receipt.run_id) is None
        assert isinstance(events[-1], RunFinished)


async def test_a_run_that_is_over_cannot_be_cancelled_and_the_error_says_so(
    pool: Pool, provider: Provider
) -> None:
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        finished = finish(await w.ask(agent_id))
        with pytest.raises(NotRunningError, match="already finished") as raised:
            await w.host.ref(agent_id).cancel_run(finished.run_id)
        assert raised.value.over


async def test_cancelling_one_run_leaves_those_that_wait(pool: Pool, provider: Provider) -> None:
    await provider.script([{"fault": "hang"}])
    async with world(pool, provider) as w:
        agent_id = await w.agent()
        first, second = await w.tell(agent_id, "a"), await w.tell(agent_id, "b")
        await provider.log(requests=1)
        await w.host.ref(agent_id).cancel_run(first.run_id)
        assert finish(await w.events(first, agent_id)).status == "cancelled"
        assert finish(await w.events(second, agent_id)).status == "completed"
