"""Code runs in sandboxes of E2B, through its own SDK, and nowhere else."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from actors.tools import sandbox
from actors.tools.outside import Invocation
from actors.tools.results import ToolError
from actors.tools.sandbox import OUTPUT_CHARS, CodeSandbox
from tests.actors.tools.e2b_server import KEY, Sandboxes, sandboxes

RESULT = {"type": "result", "is_main_result": True, "text": "42"}
PLOT = {"type": "result", "is_main_result": False, "png": "aGk="}
OUT = {"type": "stdout", "text": "so far\n", "timestamp": 1}
ERR = {"type": "stderr", "text": "careful\n", "timestamp": 2}
FAULT = {"type": "error", "name": "ZeroDivisionError", "value": "division by zero", "traceback": "line 1"}


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Sandboxes]:
    async with sandboxes(monkeypatch) as running:
        yield running


def invocation(**arguments: Any) -> Invocation:
    return Invocation(
        agent_id="a",
        run_id="r",
        step_id="s",
        call_id="c",
        arguments={"code": "6 * 7", "language": "python", **arguments},
    )


async def run(key: str | None = KEY, **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(18):
        return json.loads(await CodeSandbox(api_key=key).run(invocation(**arguments)))


async def refusal(key: str | None = KEY) -> str:
    with pytest.raises(ToolError) as refused:
        await run(key)
    return str(refused.value)


async def test_code_runs_in_a_sandbox_that_is_gone_afterwards(service: Sandboxes) -> None:
    service.output = [OUT, ERR, RESULT, PLOT, {"type": "number_of_executions", "execution_count": 1}]
    assert await run() == {
        "results": ["42", "[png]"],
        "logs": {"stdout": ["so far\n"], "stderr": ["careful\n"]},
    }
    assert service.keys == [KEY]
    assert [one["code"] for one in service.ran] == ["6 * 7"]
    assert service.made[0]["timeout"] < 300, "what is forgotten ends by itself"
    assert service.living == set()


async def test_code_that_fails_says_how(service: Sandboxes) -> None:
    service.output = [FAULT]
    assert await run() == {
        "results": [],
        "logs": {"stdout": [], "stderr": []},
        "error": {"name": "ZeroDivisionError", "value": "division by zero", "traceback": "line 1"},
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("python", "python"), ("js", "javascript"), ("ts", "typescript"), ("r", "r"), ("java", "java")],
)
async def test_each_language_goes_by_the_name_that_e2b_has_for_it(
    service: Sandboxes, ours: str, theirs: str
) -> None:
    await run(language=ours)
    assert service.ran[0]["language"] == theirs


async def test_what_is_returned_is_bounded_and_still_json(service: Sandboxes) -> None:
    service.output = [{**OUT, "text": "x" * 50_000}, OUT, {**RESULT, "text": "y" * 50_000}]
    found = await run()
    (printed,) = found["logs"]["stdout"]
    assert printed.startswith("x" * OUTPUT_CHARS)
    assert printed.endswith("... [50007 characters in all]")
    assert len(json.dumps(found)) < 3 * OUTPUT_CHARS


async def test_without_a_key_nothing_runs_and_the_agent_learns_what_is_missing(service: Sandboxes) -> None:
    said = await refusal(None)
    assert "E2B_API_KEY is not set" in said
    assert "never run on the server itself" in said
    assert service.site.asked == []


async def test_without_the_library_the_agent_learns_what_to_install(
    service: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MODULE", "no_such_library")
    assert "pip install 'wakeful[e2b]'" in await refusal()


@pytest.mark.parametrize(
    ("status", "words"), [(401, "E2B_API_KEY has to be corrected"), (400, "gave no sandbox")]
)
async def test_a_refusal_says_what_to_do_and_shows_no_key(
    service: Sandboxes, status: int, words: str
) -> None:
    service.status = status
    said = await refusal()
    assert words in said
    assert KEY not in said
    assert service.ran == []


async def test_code_that_does_not_end_is_stopped(service: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "RUN_SECONDS", 0.5)
    service.site.stall("/execute")
    assert "did not end" in await refusal()
    assert service.living == set()


async def test_a_sandbox_that_is_lost_leaves_unknown_how_far_the_code_came(service: Sandboxes) -> None:
    del service.site.pages["/execute"]
    assert "nobody knows how far" in await refusal()
    assert service.living == set()


async def test_a_call_that_is_cancelled_stops_its_sandbox(service: Sandboxes) -> None:
    service.site.stall("/execute")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        with anyio.fail_after(10):
            await service.site.stalled.wait()
        tasks.cancel_scope.cancel()
    assert service.living == set()


async def test_a_library_that_loses_a_cancellation_is_told_again(
    service: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, lost = anyio.Event(), 0

    class Deaf:
        async def run_code(self, *_: object, **__: object) -> None:
            nonlocal lost
            begun.set()
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                lost += 1
            await anyio.sleep_forever()

        async def kill(self) -> bool:
            return True

    async def create(_: CodeSandbox, __: str) -> Deaf:
        return Deaf()

    monkeypatch.setattr(CodeSandbox, "_create", create)
    task = asyncio.create_task(run())
    await begun.wait()
    task.cancel()  # once, as asyncio does; nobody asks again
    with anyio.fail_after(10):
        await asyncio.wait((task,))
    assert (task.cancelled(), lost) == (True, 1)
