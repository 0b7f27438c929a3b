"""Marks what needs the lab's hosts, and has the host that most of it is typed on."""

import signal
from pathlib import Path

import pytest

from lab import Lab
from lab.hosts.host import Host

LIVE = Path(__file__).parent / "live"


def pytest_configure() -> None:
    """What a shell starts in the background ignores SIGINT, and what nohup starts SIGHUP; the tests send both."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LIVE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture
def client(lab: Lab) -> Host:
    """The workstation of the lab."""
    return lab.host("client")


@pytest.fixture(scope="session")
def lab_keep() -> bool:
    """`make test` leaves the lab up, for the next one and for a look."""
    return True
