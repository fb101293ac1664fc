from msgspec.structs import replace

from actors import clock
from storage import conversations, standing
from storage.pool import Conn, Pool, connection
from storage.records import DEFAULT_ORGANIZATION
from storage.standing import Standing
from tests.storage import histories, seeds


async def of(conn: Conn, conversation_id: str, *otids: str, key: str | None = None) -> Standing | None:
    return await standing.of(
        conn, conversation_id, organization_id=DEFAULT_ORGANIZATION, otids=otids, key=key
    )


async def test_messages_are_known_by_their_otids_stored_or_waiting(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        done, waits = await histories.run(conn, agent_id), await histories.run(conn, agent_id)
        over = await histories.run(conn, agent_id)
        await histories.message(conn, agent_id, 1, otid="a", run_id=done)
        await histories.message(conn, agent_id, 2, otid="sown")
        sent = b'{"messages": [{"otid": "b"}, {"otid": "c"}]}'
        await histories.command(conn, agent_id, waits, command=sent)
        spent = b'{"messages": [{"otid": "d"}]}'
        await histories.command(conn, agent_id, over, command=spent, state="done", done_at=clock.now())

        async def known() -> dict[str, str]:
            found = await of(conn, agent_id, "a", "b", "d", "sown", "z")
            assert found is not None
            return found.heard

        assert await known() == {"a": done, "b": waits}
        await conn.execute(
            "update conversations set end_position = $2 where id = $1", agent_id, standing.RECENT + 2
        )
        assert await known() == {"b": waits}


async def test_a_fork_tells_which_messages_it_began_with(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        done = await histories.run(conn, agent_id)
        for position, otid in enumerate("abc", 1):
            await histories.message(conn, agent_id, position, otid=otid, run_id=done)
        parent = await conversations.get(conn, agent_id, organization_id=DEFAULT_ORGANIZATION)
        fork = replace(parent, id="conv-fork", parent_id=agent_id, parent_position=2)
        assert await standing.inherited(conn, fork, otids=["b", "c", "z"]) == {"b": done}
        assert await standing.inherited(conn, parent, otids=["b"]) == {}


async def test_a_conversation_that_heard_nothing_knows_no_run_and_waits_for_nothing(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        found = await of(conn, agent_id, "a", key="k")
        assert found is not None
        assert (found.conversation.id, found.conversation.agent_id) == (agent_id, agent_id)
        assert (found.heard, found.run_id, found.waits) == ({}, None, False)


async def test_a_run_is_known_by_the_key_of_its_request(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        run_id = await histories.run(conn, agent_id)
        await histories.command(conn, agent_id, run_id, key="k")
        for key, expected in (("k", run_id), ("other", None), (None, None)):
            found = await of(conn, agent_id, key=key)
            assert found is not None
            assert found.run_id == expected


async def test_nobody_is_told_of_a_conversation_that_is_closed_or_of_another_organization(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        other = await standing.of(conn, agent_id, organization_id="org-of-others", otids=(), key=None)
        assert other is None
        assert await of(conn, "conv-1") is None
        await conn.execute("update conversations set deleted_at = now() where id = $1", agent_id)
        assert await of(conn, agent_id) is None


async def long_conversation(conn: Conn) -> tuple[str, str]:
    """Store an agent that was told 3,000 messages by one run; return their ids."""
    agent_id = await seeds.agent(conn)
    run_id = await histories.run(conn, agent_id)
    await conn.execute(
        """
        insert into messages (id, conversation_id, position, agent_id, organization_id, role, content,
                              otid, run_id)
        select 'message-' || i, $1, i, $1, $2, 'user', '[{"type": "text", "text": "Hello."}]',
               'otid-' || i, $3
          from generate_series(1, 3000) i
        """,
        agent_id,
        DEFAULT_ORGANIZATION,
        run_id,
    )
    await conn.execute("update conversations set end_position = 3001 where id = $1", agent_id)
    return agent_id, run_id


async def test_what_was_heard_is_listed_in_order_from_a_position_on(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id = await seeds.agent(conn)
        one, two = await histories.run(conn, agent_id), await histories.run(conn, agent_id)
        await histories.message(conn, agent_id, 1, otid="before", run_id=one)
        await histories.message(conn, agent_id, 2, otid="z", run_id=one)
        await histories.message(conn, agent_id, 3, run_id=one)
        await histories.message(conn, agent_id, 4, otid="sown")
        await histories.message(conn, agent_id, 5, otid="a", run_id=two)
        assert await standing.heard(conn, agent_id, since=2) == [("z", one), ("a", two)]
        assert await standing.heard(conn, "conv-1", since=-5) == []


async def test_what_was_heard_lately_costs_the_same_however_long_the_conversation_is(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, _ = await long_conversation(conn)
        assert len(await standing.heard(conn, agent_id, since=2001)) == standing.RECENT
        for analysed in (False, True):
            if analysed:
                await conn.execute("analyze messages")
            statement = f"explain (analyze, costs off, timing off) {standing._HEARD}"  # pyright: ignore[reportPrivateUsage]
            plan = await conn.fetch(statement, agent_id, 2001)
            shown = "\n".join(row[0] for row in plan)
            assert "message_position_is_unique" in shown
            assert "messages_by_otid" not in shown


async def test_messages_of_a_long_conversation_are_found_by_their_otids_alone(pool: Pool) -> None:
    async with connection(pool) as conn:
        agent_id, run_id = await long_conversation(conn)
        found = await of(conn, agent_id, "otid-1900", "otid-2100", "otid-3000")
        assert found is not None
        assert found.heard == {"otid-2100": run_id, "otid-3000": run_id}
        for analysed in (False, True):
            if analysed:
                await conn.execute("analyze messages")
            statement = f"explain (analyze, costs off, timing off) {standing._OF}"  # pyright: ignore[reportPrivateUsage]
            plan = await conn.fetch(
                statement, agent_id, DEFAULT_ORGANIZATION, ["otid-2999", "otid-x"], None, standing.RECENT
            )
            shown = "\n".join(row[0] for row in plan)
            assert "messages_by_otid" in shown
            assert shown.count("message_position_is_unique") == 1, "but to find where the conversation ends"
