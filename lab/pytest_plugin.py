"""The fixture `lab` for tests on a running lab; installed with the package, so that other projects' tests have it, too.

It claims no other name: `client`, say, is what pytest-django and pytest-flask call theirs.
A machine that cannot carry the lab makes the tests fail, with the reason; nothing here skips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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
