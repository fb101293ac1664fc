"""The packages of `tests/contract/js` are the pinned ones, and their lock names no registry."""

import json
import re

import pytest

from tests.contract.node import LOCK, Node, NodeError


async def test_every_package_loads_in_its_pinned_version(node: Node) -> None:
    versions = json.loads(await node.run("versions.mjs"))
    assert versions["found"] == versions["dependencies"]


async def test_a_program_that_fails_says_why(node: Node) -> None:
    with pytest.raises(NodeError, match="Cannot find module"):
        await node.run("no-such-program.mjs")


async def test_a_program_is_talked_to_line_by_line(node: Node) -> None:
    async with node.start("echo.mjs", "hello") as running:
        assert await running.line() == "hello"
        await running.tell("once more")
        assert await running.line() == "once more"
        await running.tell("end")
        with pytest.raises(NodeError, match="ended"):
            await running.line()


def test_the_lock_names_no_registry() -> None:
    assert not re.search(r'"resolved"', LOCK.read_text())
