"""What all commands have in common: errors, exit codes, interruptions, help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


SCRIPT = """
import sys
from pathlib import Path
import lab.lab
from lab.cli import main
from tests.unit.cli.small_lab import ScriptedEngine, open_small

small = open_small(Path(sys.argv.pop(1)), ScriptedEngine(log_text=b"a line\\n" * 9))
small.up()
lab.lab.Lab = lambda **_: small
main()
"""


@pytest.mark.parametrize(
    "words", [["status"], ["status", "--json"], ["logs", "router"], ["doctor"], ["completion", "bash"]]
)
def test_a_reader_who_has_left_is_no_error_to_be_told(tmp_path: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), *words],
            cwd=PROJECT,
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.stderr == b""
    assert done.returncode == 141
