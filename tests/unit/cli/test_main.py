"""What all commands have in common: errors, exit codes, interruptions, help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
import pytest

from lab import errors
from lab.cli import COMMANDS, cli
from lab.errors import LabError
from lab.lab import Lab
from tests.unit.cli.conftest import Run

PROJECT = Path(__file__).parents[3]

ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.LabError)]


def make(kind: type[LabError]) -> LabError:
    return kind("ruter", ["router"]) if issubclass(kind, errors.NoSuchHost) else kind("what happened", "what to do")


@pytest.mark.parametrize("kind", ERRORS)
def test_no_error_of_the_labs_own_ends_in_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: type[LabError]
) -> None:
    error = make(kind)

    def broken(**_: object) -> Lab:
        raise error

    monkeypatch.setattr("lab.lab.Lab", broken)
    ran = run("status")
    assert ran.exit == kind.exit_code
    assert ran.err == f"lab: {error.cause}\n     {error.remedy}\n"
    assert ran.out == ""


def test_an_error_without_a_remedy_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> Lab:
        raise errors.MachineError("it is what it is")

    monkeypatch.setattr("lab.lab.Lab", broken)
    assert run("up").err == "lab: it is what it is\n"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("stats", "no command 'stats'. Did you mean status?"),
        ("dwon", "no command 'dwon'. Did you mean down?"),
        ("xyzzy", "no command 'xyzzy'. Commands: up, down, status"),
    ],
)
def test_a_near_miss_of_a_command_is_named(run: Run, typed: str, hint: str) -> None:
    ran = run(typed)
    assert ran.exit == 2
    assert hint in ran.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_whose_first_line_says_what_it_does(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert ran.exit == 0
    assert ran.out.startswith(f"Usage: lab {name}")
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.short_help
    assert command.short_help.endswith(".")


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help_lists_every_command_and_the_exit_codes(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.exit == (0 if words else 2)
    text = ran.out + ran.err
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert "130 interrupted" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_wrong_usage(run: Run, name: str) -> None:
    ran = run(name, "--nonsense")
    assert ran.exit == 2
    assert "--nonsense" in ran.err


def test_an_interrupted_up_says_how_to_go_on(run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lab.compose, "up", interrupted)
    ran = run("up")
    assert ran.exit == 130
    assert "lab: interrupted; lab up goes on where it stopped" in ran.err


def test_an_interrupted_status_is_quiet(run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "status", interrupted)
    ran = run("status")
    assert (ran.exit, ran.out, ran.err) == (130, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_polite_end_is_as_ctrl_c(
    run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    cleaned: list[str] = []

    def ended(*_: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append("up")

    monkeypatch.setattr(lab.compose, "up", ended)
    ran = run("up")
    assert (ran.exit, cleaned) == (code, ["up"])
    assert "lab: interrupted; lab up goes on where it stopped" in ran.err


def test_a_signal_that_the_caller_has_ignored_stays_so(run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "status", lambda: signal.raise_signal(signal.SIGHUP) or [])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert run("status").exit == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


SCRIPT = """
import sys
from pathlib import Path
import lab.lab
from lab.cli import main
from tests.unit.cli.small_lab import ScriptedEngine, exits, open_small

engine = ScriptedEngine(log_text=b"a line\\n" * 9, script=exits(0, b"out", b"err"))
small = open_small(Path(sys.argv.pop(1)), engine)
small.up()
lab.lab.Lab = lambda **_: small
main()
"""


def lab_process(
    folder: Path,
    redirect: str,
    *words: str,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    unbuffered: str = "",
    encoding: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """`lab` over a small lab in a process of its own, whose standard streams are redirected as a shell does."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-c", SCRIPT, str(folder), *words],
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONIOENCODING": encoding},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        timeout=60,
    )


@pytest.fixture
def left() -> Iterator[IO[bytes]]:
    """A pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        yield pipe


@pytest.mark.parametrize(
    "words", [["--help"], ["status"], ["status", "--json"], ["logs", "router"], ["doctor"], ["completion", "bash"]]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_left_is_no_error_to_be_told(
    tmp_path: Path, left: IO[bytes], words: list[str], unbuffered: str
) -> None:
    done = lab_process(tmp_path, "", *words, stdout=left, unbuffered=unbuffered)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.parametrize("words", [["down"], ["stauts"], ["exec", "ruter", "true"], ["exec", "router", "true"]])
def test_nor_is_a_reader_of_the_errors_who_has_left(tmp_path: Path, left: IO[bytes], words: list[str]) -> None:
    done = lab_process(tmp_path, "", *words, stderr=left)
    assert done.returncode == 141


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["status"],
        ["status", "--json"],
        ["logs", "router"],
        ["doctor"],
        ["exec", "router", "echo"],
        ["replay", "--list"],
        ["completion", "bash"],
    ],
)
def test_output_that_cannot_be_written_is_told(tmp_path: Path, words: list[str]) -> None:
    done = lab_process(tmp_path, ">/dev/full", *words)
    assert done.stderr.decode() == (
        "lab: standard output cannot be written: No space left on device\n"
        "     Make room there, or send it elsewhere; then repeat.\n"
    )
    assert done.returncode == 3


def test_output_that_python_does_not_hold_is_told_as_well(tmp_path: Path) -> None:
    done = lab_process(tmp_path, ">/dev/full", "status", unbuffered="1")
    assert done.stderr.startswith(b"lab: No space left on device\n")
    assert done.returncode == 3


@pytest.mark.parametrize("words", [["down"], ["status"], ["stauts"], ["exec", "ruter", "true"]])
def test_where_nothing_can_be_said_the_exit_code_tells(tmp_path: Path, words: list[str]) -> None:
    assert lab_process(tmp_path, ">/dev/full 2>&1", *words).returncode == 3


def test_what_the_system_refuses_is_told_with_its_place(run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(lab, "status", refused)
    ran = run("status")
    assert (ran.exit, ran.out) == (3, "")
    assert ran.err == (
        "lab: /some/file: Permission denied\n"
        "     Look where the output goes, and at the machine (lab doctor); then repeat.\n"
    )


def test_an_error_of_the_system_without_a_place_is_told(run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("the engine speaks in tongues")

    monkeypatch.setattr(lab, "status", refused)
    ran = run("status")
    assert (ran.exit, ran.out) == (3, "")
    assert ran.err.startswith("lab: the engine speaks in tongues\n")


@pytest.mark.parametrize(
    ("words", "exit"),
    [(["up"], 0), (["scale", "peer=121"], 2), (["down"], 0), (["status"], 0), (["exec", "router", "true"], 0)],
)
@pytest.mark.parametrize("redirect", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_may_be_closed(tmp_path: Path, words: list[str], exit: int, redirect: str) -> None:
    done = lab_process(tmp_path, redirect, *words)
    assert b"Traceback" not in done.stderr
    assert done.returncode == exit, done


@pytest.mark.parametrize(
    ("redirect", "out", "err"), [("<&-", b"out", b"err"), (">&-", b"", b"err"), ("2>&-", b"out", b"")]
)
def test_a_closed_stream_takes_no_other_along(tmp_path: Path, redirect: str, out: bytes, err: bytes) -> None:
    done = lab_process(tmp_path, redirect, "exec", "router", "true")
    assert (done.stdout, done.stderr) == (out, err)


DOCKER = """#!/bin/sh
seen=$(for number in 0 1 2; do readlink /proc/$$/fd/$number; done)
echo "$seen" >"$SEEN"
"""


def test_what_lab_becomes_has_its_standard_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that it opens would otherwise be its standard output."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    assert lab_process(tmp_path, "<&- >&- 2>&-", "shell", "router").returncode == 0
    assert (tmp_path / "seen").read_text() == "/dev/null\n" * 3
