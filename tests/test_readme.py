"""What the README says is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.targets import environment
from tests.gateway.processes import on_database

ROOT = Path(__file__).parents[1]
FILES = re.compile(r"`((?:actors|bench|gateway|storage|tests)/[\w./]*)`")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.timeout(60)
def test_the_sdk_snippet_prints_what_stands_below_it(dsn: str) -> None:
    found = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)
    assert found is not None
    snippet, printed = found.groups()
    assert "http://127.0.0.1:8283" in snippet
    with on_database(dsn) as process:
        told = subprocess.run(
            [sys.executable, "-c", snippet.replace("http://127.0.0.1:8283", process.url)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert told.returncode == 0, told.stderr
    assert told.stdout == printed


@pytest.mark.parametrize("name", sorted(set(FILES.findall(README))))
def test_what_the_readme_points_to_exists(name: str) -> None:
    assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists()


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    assert ".venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest -q\n" in README
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "/bin/pip\" install -q -e '.[dev]'" in ci
    assert '/pytest" -q' in ci
