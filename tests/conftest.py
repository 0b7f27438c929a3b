"""Marks what needs the lab's hosts, and has the host that most of it is typed on."""

from pathlib import Path

import pytest

from lab import Lab
from lab.hosts import Host

LIVE = Path(__file__).parent / "live"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LIVE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture
def client(lab: Lab) -> Host:
    """The workstation of the lab."""
    return lab.host("client")
