"""Fixtures for tests on a running lab; installed with the package, so that other projects' tests have them, too.

A machine that cannot carry the lab makes the tests fail, with the reason; nothing here skips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.hosts import Host
    from lab.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab of the project around the working directory, brought up if it is not; it is left running."""
    from lab.errors import LabError
    from lab.lab import Lab

    with Lab() as lab:
        try:
            lab.up()
        except LabError as error:
            pytest.fail(f"the lab cannot be brought up: {error}", pytrace=False)
        yield lab


@pytest.fixture
def client(lab: Lab) -> Host:
    """The workstation of the lab."""
    return lab.host("client")
