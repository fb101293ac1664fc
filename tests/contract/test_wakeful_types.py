"""The TypeScript declarations of our ES modules: strict programs compile, and nothing is left out."""

import json
import re

import pytest

from gateway import docs
from tests.contract.node import Node

pytestmark = pytest.mark.timeout(120)

TSC = "node_modules/typescript/bin/tsc"
TYPES = (docs.FOLDER.parent / "wakeful.d.ts").read_text(encoding="utf-8")


@pytest.mark.parametrize("project", ["tsconfig.json", "tsconfig.agui.json"])
async def test_a_strict_program_compiles(node: Node, project: str) -> None:
    assert await node.run(TSC, "-p", project) == ""


async def test_what_the_module_has_is_declared_and_nothing_else(node: Node) -> None:
    exported, members = (json.loads(line) for line in (await node.run("wakeful_names.mjs")).splitlines())
    declared = re.findall(r"^export (?:class|function) (\w+)", TYPES, re.MULTILINE)
    assert {*declared, "wakefulAgent"} == set(exported)
    (body,) = re.findall(r"^export class Wakeful \{\n(.*?)^\}", TYPES, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^  (?:readonly )?(\w+)", body, re.MULTILINE)) == set(members)
