"""What the contract tests share: Node, whose packages are installed before any test's clock runs."""

import pytest

from tests.contract.node import node, ready

__all__ = ["node"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install the npm packages once where a chosen test uses them: longer than a test's time may take."""
    wanted = any("node" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        ready()
