"""What the plug-in brings into other projects' tests: one lab for a run, left as it was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import pytest_plugin

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parents[2]

FAKE = """
from pathlib import Path

import lab.lab
from lab.errors import MachineError
from lab.project.compose import Compose

class FakeLab:
    '''Is up when the file `up` is there, and notes in `log` what is done to it; the lock is a real one.'''

    def __init__(self, settings):
        self.settings = settings
        self.compose = Compose(settings, ["false"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.note("close")

    def note(self, what):
        with (self.settings.root / "log").open("a") as log:
            log.write(f"{what} {self.settings.named_project}".strip() + "\\n")

    @property
    def here(self):
        return self.settings.root / f"up{self.settings.named_project}"

    @property
    def project(self):
        return self.settings.named_project or "here"

    def hosts(self):
        return ["router"] if self.here.exists() else []

    def up(self):
        with self.compose.locked(print):
            self.require_engine()
            if not self.here.exists():
                self.note("up")
                self.here.touch()

    def require_engine(self):
        if (self.settings.root / "broken").exists():
            raise MachineError("no engine", "Start it.")

    def down(self):
        with self.compose.locked(print):
            self.require_engine()
            self.note("down")
            self.here.unlink()

lab.lab.Lab = FakeLab
"""

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(8))
def test_it_is_up(lab, number):
    assert lab.here.exists()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of somebody's with a lab, and tests that use it."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    for name in ("LAB_DIR", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makefile(".yaml", compose="services: {router: {image: router}}\n")
    pytester.makeconftest(FAKE)
    pytester.makepyfile(TESTS)
    return pytester


def done(project: pytest.Pytester) -> list[str]:
    """What was done to the lab, the closing of connections apart."""
    log = project.path / "log"
    return [line for line in log.read_text().splitlines() if not line.startswith("close")] if log.exists() else []


def test_the_plugin_claims_no_fixture_that_others_have() -> None:
    """`client` is what pytest-django and pytest-flask call theirs; only one of the two could be had."""
    public = {name for name in vars(pytest_plugin) if not name.startswith(("_", "@", "pytest_"))}
    taken = {"annotations", "Callable", "Iterator", "Path", "TYPE_CHECKING", "contextlib", "pytest"}
    assert public - taken == {"lab", "lab_file", "lab_project", "lab_up", "lab_down", "lab_keep"}


def test_a_lab_that_the_run_brings_up_is_taken_down(project: pytest.Pytester) -> None:
    project.runpytest_subprocess().assert_outcomes(passed=8)
    assert done(project) == ["up", "down"]
    assert (project.path / "log").read_text().splitlines()[-1] == "close"
    assert sorted(path.name for path in (project.path / ".lab").iterdir()) == [".gitignore", "lock"]


def test_a_lab_that_was_up_stays_up(project: pytest.Pytester) -> None:
    (project.path / "up").touch()
    project.runpytest_subprocess().assert_outcomes(passed=8)
    assert done(project) == []


def test_it_is_kept_when_that_is_asked_for(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("--lab-keep").assert_outcomes(passed=8)
    project.runpytest_subprocess("--lab-keep").assert_outcomes(passed=8)
    assert done(project) == ["up"]


@pytest.mark.parametrize("workers", [2, 4])
def test_the_workers_of_xdist_share_one_lab(project: pytest.Pytester, workers: int) -> None:
    project.runpytest_subprocess(f"-n{workers}").assert_outcomes(passed=8)
    log = done(project)
    assert log == ["up", "down"] * (len(log) // 2), (
        log
    )  # again only for a worker that begins when all others have ended
    assert not (project.path / "up").exists()


def test_workers_may_have_a_lab_each(project: pytest.Pytester) -> None:
    project.makeconftest(
        FAKE
        + """
import pytest

@pytest.fixture(scope="session")
def lab_project(worker_id):
    return f"trial-{worker_id}"
"""
    )
    project.runpytest_subprocess("-n2", "--dist=each").assert_outcomes(passed=16)
    assert sorted(done(project)) == ["down trial-gw0", "down trial-gw1", "up trial-gw0", "up trial-gw1"]


def test_a_run_that_ends_while_another_goes_on_leaves_the_lab_to_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_outer="""
        import subprocess, sys
        def test_another_run_begins_and_ends(lab):
            run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_inner.py"]
            assert subprocess.run(run).returncode == 0
            assert lab.here.exists()
        """,
        test_inner="""
        def test_the_lab_is_up(lab):
            assert lab.here.exists()
        """,
    )
    project.runpytest_subprocess("test_outer.py").assert_outcomes(passed=1)
    assert done(project) == ["up", "down"]


def test_a_machine_that_cannot_carry_it_fails_the_tests_with_the_reason(project: pytest.Pytester) -> None:
    (project.path / "broken").touch()
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=8)
    result.stdout.fnmatch_lines(["the lab cannot be brought up: no engine", "Start it."])
    result.stdout.no_fnmatch_line("*MachineError*")


def test_a_lab_that_cannot_be_taken_down_is_told_at_the_end(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_last="""
        def test_it_breaks(lab):
            (lab.settings.root / "broken").touch()
        """
    )
    result = project.runpytest_subprocess("test_last.py")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the lab cannot be taken down: no engine", "Start it."])


def test_a_folder_without_a_compose_file_is_named(project: pytest.Pytester) -> None:
    (project.path / "compose.yaml").unlink()
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=8)
    result.stdout.fnmatch_lines([f"the lab cannot be brought up: *{project.path}*"])


def test_collecting_needs_no_lab(project: pytest.Pytester) -> None:
    (project.path / "compose.yaml").unlink()
    assert project.runpytest_subprocess("--collect-only").ret == 0


@pytest.mark.parametrize("named", ["deep/compose.yaml", "deep"])
def test_another_compose_file_is_named_by_an_option(project: pytest.Pytester, named: str) -> None:
    (project.path / "deep").mkdir()
    (project.path / "compose.yaml").rename(project.path / "deep/compose.yaml")
    project.runpytest_subprocess(f"--lab-file={named}").assert_outcomes(passed=8)
    assert (project.path / "deep/log").exists()
    assert not (project.path / "log").exists()


def test_the_project_says_by_fixtures_what_lab_it_is_and_how_it_comes_and_goes(project: pytest.Pytester) -> None:
    (project.path / "deep").mkdir()
    (project.path / "compose.yaml").rename(project.path / "deep/compose.yaml")
    project.makeconftest(
        FAKE
        + """
import pytest

@pytest.fixture(scope="session")
def lab_file():
    return Path(__file__).parent / "deep"

@pytest.fixture(scope="session")
def lab_project():
    return "trial"

@pytest.fixture(scope="session")
def lab_up():
    def build_and_start(lab):
        lab.note("build")
        lab.up()
    return build_and_start

@pytest.fixture(scope="session")
def lab_down():
    def with_volumes(lab):
        lab.down()
        lab.note("volumes")
    return with_volumes
"""
    )
    project.runpytest_subprocess().assert_outcomes(passed=8)
    log = [line for line in (project.path / "deep/log").read_text().splitlines() if not line.startswith("close")]
    assert log == ["build trial", "up trial", "down trial", "volumes trial"]


def test_a_client_of_the_projects_own_stays_its_own(project: pytest.Pytester) -> None:
    """As of a web framework's plug-in, which is loaded beside this one."""
    project.makepyfile(
        webby="""
        import pytest

        @pytest.fixture
        def client():
            return "a browser"
        """,
        test_web="""
        def test_both(client, lab):
            assert client == "a browser"
            assert lab.here.exists()
        """,
    )
    project.runpytest_subprocess("-p", "webby", "-p", "no:django", "test_web.py").assert_outcomes(passed=1)


def test_a_process_that_was_killed_counts_no_more(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_killed="""
        import os, signal
        def test_it_dies(lab):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert project.runpytest_subprocess("test_killed.py").ret == -9
    assert done(project) == ["up"]
    (project.path / "up").unlink()
    project.runpytest_subprocess("-k", "test_it_is_up").assert_outcomes(passed=8, deselected=1)
    assert done(project) == ["up", "up", "down"]
