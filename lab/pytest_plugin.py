"""The fixture `lab` for tests on a running lab; installed with the package, so that other projects' tests have it, too.

In the manner of pytest-docker: what belongs to a project is a fixture of the session that its conftest.py overrides.

    lab_file     the Compose file, or the folder of one; None: the project around the folder that pytest is started in
    lab_project  the name to give the Compose project; None: the project's own
    lab_up       what brings the lab up
    lab_down     what takes it down
    lab_keep     whether it stays up although the run has brought it up

A lab that was up before stays up; one that the run has brought up is taken down at its end, its volumes apart. The
workers of pytest-xdist share one lab, which the last of them takes down. `client`, say, is no name of these, since
pytest-django and pytest-flask have a fixture of that name. To collect tests takes no engine; a machine that cannot
carry the lab makes them fail, with the reason; nothing here skips.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.lab import Lab


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lab", "datagram-lab")
    group.addoption("--lab-file", metavar="PATH", help="Compose file of the lab under test, or the folder of one")
    group.addoption("--lab-keep", action="store_true", help="leave a lab up that the tests have brought up")


@pytest.fixture(scope="session")
def lab_file(pytestconfig: pytest.Config) -> Path | None:
    """The Compose file of the lab, or the folder of one; by default `--lab-file`, from where pytest is started."""
    named: str | None = pytestconfig.getoption("--lab-file")
    return None if named is None else pytestconfig.invocation_params.dir / named


@pytest.fixture(scope="session")
def lab_project() -> str | None:
    """The name to give the Compose project, such as one of the run's own; by default what the project says."""
    return None


@pytest.fixture(scope="session")
def lab_up() -> Callable[[Lab], object]:
    """What brings the lab up; another may build first, or scale."""
    return lambda lab: lab.up()


@pytest.fixture(scope="session")
def lab_down() -> Callable[[Lab], object]:
    """What takes down a lab that the run has brought up; another may take its volumes, too."""
    return lambda lab: lab.down()


@pytest.fixture(scope="session")
def lab_keep(pytestconfig: pytest.Config) -> bool:
    """Whether a lab that the run has brought up stays; by default with `--lab-keep`."""
    return bool(pytestconfig.getoption("--lab-keep"))


@pytest.fixture(scope="session")
def lab(
    lab_file: Path | None,
    lab_project: str | None,
    lab_up: Callable[[Lab], object],
    lab_down: Callable[[Lab], object],
    lab_keep: bool,
) -> Iterator[Lab]:
    """The lab of the project under test, up."""
    from lab.lab import Lab
    from lab.project import settings

    with contextlib.ExitStack() as stack:
        with _told("brought up"):
            lab = stack.enter_context(Lab(settings.load(file=lab_file, project=lab_project)))
            stack.enter_context(_shared(lab, None if lab_keep else lab_down))
            lab_up(lab)
        yield lab


@contextlib.contextmanager
def _shared(lab: Lab, down: Callable[[Lab], object] | None) -> Iterator[None]:
    """In use by this process, among others; who leaves last takes it down, if none of them found it up."""
    from lab.errors import LabError
    from lab.lifecycle import users

    with lab.compose.locked(_silent):
        users.join(lab.settings, lab.project, was_up=bool(lab.hosts()))
    try:
        yield
    except BaseException:
        with contextlib.suppress(LabError):  # what came first is what is told
            _leave(lab, down)
        raise
    with _told("taken down"):
        _leave(lab, down)


def _leave(lab: Lab, down: Callable[[Lab], object] | None) -> None:
    from lab.lifecycle import users

    with lab.compose.locked(_silent):  # to the end of `down`, so that nobody joins meanwhile
        if users.leave(lab.settings, lab.project) and down:
            down(lab)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """An error of the lab fails the test by its words alone."""
    from lab.errors import LabError

    try:
        yield
    except LabError as error:
        pytest.fail(f"the lab cannot be {what}: {error}", pytrace=False)


def _silent(_: str) -> None:
    pass
