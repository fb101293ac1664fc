"""The words of what was said are filled in after its commit, together; meanwhile nothing happens."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from actors import wording
from actors.commands import ResetMessages
from actors.wording import Wording
from bench.provider import Provider
from storage import words
from storage.errors import UnavailableError
from storage.pool import Conn, Pool, connection
from tests.actors.worlds import finish, world
from tests.storage import seeds
from tests.storage.test_recall import say
from tests.storage.test_words import all_behind, step_that_says, stored

SECONDS = 60.0


class Counted:
    """A pool that tells how often a connection was borrowed, and may have none."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.borrowed = 0
        self.away = False

    async def acquire(self) -> object:
        if self.away:
            raise ConnectionRefusedError
        self.borrowed += 1
        return await self._pool.acquire()

    async def release(self, conn: object, **how: object) -> None:
        await self._pool.release(conn, **how)  # type: ignore[arg-type]

    async def expire_connections(self) -> None:
        await self._pool.expire_connections()


@pytest.fixture
def counted(pool: Pool) -> Counted:
    return Counted(pool)


async def filled(conn: Conn) -> None:
    with anyio.fail_after(SECONDS):
        while await all_behind(conn):
            await anyio.sleep(0.01)


async def test_what_is_said_to_an_agent_gets_its_words_by_itself(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wording, "GATHER", 0.05)
    async with world(pool, provider) as run:
        agent = await run.agent(model="openai/echo")
        assert finish(await run.ask(agent, "a fine morning")).status == "completed"
        async with connection(pool) as conn:
            await filled(conn)
            assert (agent, 1) in await stored(conn, "morning")


async def test_a_new_life_fills_in_what_the_last_one_left(counted: Counted, pool: Pool) -> None:
    async with connection(pool) as conn:
        made = [await seeds.agent(conn) for _ in range(3)]
        for agent in made[:2]:
            await say(conn, agent, "tea")
        await Wording(counted).once()  # type: ignore[arg-type]
        assert await stored(conn, "tea") == sorted((agent, 1) for agent in made[:2])


async def test_many_steps_are_filled_in_together_and_then_nothing_happens(
    counted: Counted, pool: Pool
) -> None:
    async with connection(pool) as conn, anyio.create_task_group() as group:
        made = [await seeds.agent(conn) for _ in range(20)]
        filler = Wording(counted, gather=0.5)  # type: ignore[arg-type]
        await filler.once()
        before = counted.borrowed
        group.start_soon(filler.run)
        for agent in made:
            await say(conn, agent, "tea")
            filler.committed([await step_that_says(conn, agent)])
        await filled(conn)
        assert len(await stored(conn, "tea")) == 20
        together = counted.borrowed - before
        assert together < 20, "not one by one"
        with anyio.move_on_after(1.5):
            await anyio.sleep_forever()
        assert counted.borrowed - before <= together + 1, "and not while nothing is said"
        group.cancel_scope.cancel()


async def test_a_lot_does_not_wait(counted: Counted, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wording, "ENOUGH", 4)
    async with connection(pool) as conn, anyio.create_task_group() as group:
        agent = await seeds.agent(conn)
        filler = Wording(counted, gather=10_000.0)  # type: ignore[arg-type]
        await filler.once()
        group.start_soon(filler.run)
        for _ in range(2):
            await say(conn, agent, "tea", "tea")
            filler.committed([await step_that_says(conn, agent)])
        await filled(conn)
        group.cancel_scope.cancel()


async def test_what_could_not_be_filled_in_is_due_until_it_is(counted: Counted, pool: Pool) -> None:
    async with connection(pool) as conn, anyio.create_task_group() as group:
        agent = await seeds.agent(conn)
        filler = Wording(counted, gather=0.01)  # type: ignore[arg-type]
        await filler.once()
        await say(conn, agent, "tea")
        counted.away = True
        filler.wrote(agent)
        with pytest.raises(UnavailableError):
            await filler.once()
        group.start_soon(filler.run)
        counted.away = False
        await filled(conn)
        group.cancel_scope.cancel()


async def test_conversations_that_are_too_many_to_remember_are_found_in_the_database(
    counted: Counted, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wording, "MOST", 2)
    async with connection(pool) as conn:
        made = [await seeds.agent(conn) for _ in range(5)]
        filler = Wording(counted)  # type: ignore[arg-type]
        await filler.once()
        for agent in made:
            await say(conn, agent, "tea")
            filler.wrote(agent)
        await filler.once()
        assert len(await stored(conn, "tea")) == 5


class Crowded(Counted):
    """A pool on which a filler hears of more conversations than it remembers, while it looks through all."""

    def __init__(self, pool: Pool, hear: Callable[[], Awaitable[None]]) -> None:
        super().__init__(pool)
        self._hear = hear

    async def release(self, conn: object, **how: object) -> None:
        await super().release(conn, **how)
        if self.borrowed == 1:
            await self._hear()


async def test_what_is_forgotten_during_a_look_through_the_database_is_looked_for_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wording, "MOST", 2)
    async with connection(pool) as conn:
        made = [await seeds.agent(conn) for _ in range(5)]

        async def hear() -> None:
            for agent in made:
                await say(conn, agent, "tea")
                filler.wrote(agent)

        filler = Wording(Crowded(pool, hear))  # type: ignore[arg-type]
        await filler.once()
        await filler.once()
        assert len(await stored(conn, "tea")) == 5


TAKE_LONG = """
create function take_long() returns trigger language plpgsql as $$
begin
  if (select count(*) from fresh) > 3 then
    raise exception using errcode = 'query_canceled', message = 'statement timeout';
  end if;
  return null;
end $$;
create trigger take_long after insert on message_words referencing new table as fresh
  for each statement execute function take_long();
"""


@pytest.mark.parametrize("agents", [1, 20])
async def test_what_is_too_much_for_one_statement_is_filled_in_by_smaller_ones(
    counted: Counted, pool: Pool, agents: int
) -> None:
    async with connection(pool) as conn, anyio.create_task_group() as group:
        await conn.execute(TAKE_LONG)
        for _ in range(agents):
            await say(conn, await seeds.agent(conn), *["tea"] * (20 // agents))
        group.start_soon(Wording(counted, gather=0.0).run)  # type: ignore[arg-type]
        await filled(conn)
        group.cancel_scope.cancel()
    async with connection(pool) as conn:
        assert len(await stored(conn, "tea")) == 20


REFUSE = """
create function refuse() returns trigger language plpgsql as $$
begin raise exception using errcode = 'program_limit_exceeded', message = 'too many words'; end $$;
create trigger refuse before insert on message_words for each row
  when (new.words @@ 'refus'::tsquery) execute function refuse();
"""


async def test_a_message_whose_words_are_refused_keeps_nobody_elses_back(
    counted: Counted, pool: Pool
) -> None:
    async with connection(pool) as conn:
        await conn.execute(REFUSE)
        made = [await seeds.agent(conn) for _ in range(4)]
        for text, agent in zip(("tea", "refused", "tea", "tea"), made, strict=True):
            await say(conn, agent, text)
        with pytest.raises(Exception, match="too many words"):
            await words.fill(conn, made)
        await Wording(counted).once()  # type: ignore[arg-type]
        assert len(await stored(conn, "tea")) == 3
        assert await all_behind(conn) == [made[1]]


async def test_who_needs_all_words_waits_for_those_that_are_being_filled_in(
    counted: Counted, pool: Pool
) -> None:
    async with connection(pool) as conn:
        made = [await seeds.agent(conn) for _ in range(300)]
        filler = Wording(counted)  # type: ignore[arg-type]
        await filler.once()
        for agent in made:
            await say(conn, agent, "tea")
            filler.wrote(agent)

        async def once() -> None:
            await filler.once()
            assert len(await stored_beside()) == 300

        async def stored_beside() -> list[tuple[str, int]]:
            async with connection(pool) as own:
                return await stored(own, "tea")

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(once)


async def test_what_a_conversation_begins_with_after_a_reset_gets_its_words(
    pool: Pool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wording, "GATHER", 0.05)
    async with world(pool, provider) as run:
        agent = await run.agent(model="openai/echo")
        await run.host.ref(agent).edit(ResetMessages(agent, True))
        async with connection(pool) as conn:
            await filled(conn)
