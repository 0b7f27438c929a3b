"""`lab exec` and `lab shell`: what is passed on to the host, and what comes back."""

from __future__ import annotations

import os
import struct
from dataclasses import replace

import pytest

from lab.cli import shell
from lab.exec.hostexec import Frame
from lab.lab import Lab
from tests.unit.cli.conftest import Ran, Run
from tests.unit.cli.small_lab import ScriptedEngine, exits, never_ends, upper_case
from tests.unit.fake_hostexec import FakeHost


def words(payload: bytes) -> tuple[str, list[str], list[str]]:
    """Folder, arguments and environment of a run frame."""
    _, arguments, variables = struct.unpack_from(">IHH", payload)
    strings = payload[8:].split(b"\0")[:-1]
    folder, *rest = [string.decode("utf-8", "surrogateescape") for string in strings]
    assert len(rest) == arguments + variables
    return folder, rest[:arguments], rest[arguments:]


@pytest.fixture(autouse=True)
def up(lab: Lab) -> None:
    lab.up()


@pytest.mark.parametrize("status", [0, 1, 3, 126, 127, 255])
def test_the_commands_exit_code_is_labs(run: Run, engine: ScriptedEngine, status: int) -> None:
    engine.script = exits(status)
    assert run("exec", "router", "true").exit == status


def test_a_signal_counts_as_in_a_shell(run: Run, engine: ScriptedEngine) -> None:
    engine.script = exits(-9)
    assert run("exec", "router", "true").exit == 137


def test_output_and_error_stay_apart_and_whole(run: Run, engine: ScriptedEngine) -> None:
    engine.script = exits(0, bytes(range(256)), b"a complaint\n")
    ran = run("exec", "router", "--", "cat")
    assert ran.out.encode("latin-1") == bytes(range(256))
    assert ran.err == "a complaint\n"


def test_standard_input_arrives_with_its_end(run: Run, engine: ScriptedEngine) -> None:
    engine.script = upper_case
    assert run("exec", "router", "--", "tr", "a-z", "A-Z", stdin=b"hello\n").out == "HELLO\n"


def test_standard_input_is_left_to_others_on_demand(run: Run, engine: ScriptedEngine) -> None:
    engine.script = upper_case
    assert run("exec", "-n", "router", "--", "tr", "a-z", "A-Z", stdin=b"hello\n") == Ran(0, "", "")
    assert engine.heard(b"I") == []
    assert engine.heard(b"E") == [b""]


@pytest.mark.parametrize(
    ("typed", "argv"),
    [
        (["router", "nc", "-u", "x"], ["nc", "-u", "x"]),
        (["router", "--", "nc", "-u", "x"], ["nc", "-u", "x"]),
        (["--", "router", "nc", "-u", "x"], ["nc", "-u", "x"]),
        (["router", "nc", "--timeout", "3"], ["nc", "--timeout", "3"]),
        (["router", "sh", "-c", "echo 'a b'; exit"], ["sh", "-c", "echo 'a b'; exit"]),
        (["router", "env", "--", "-u"], ["env", "--", "-u"]),
        (["router", "printf", ""], ["printf", ""]),
        (["router", "--help"], ["--help"]),
    ],
)
def test_options_after_the_host_are_the_commands_own(
    run: Run, engine: ScriptedEngine, typed: list[str], argv: list[str]
) -> None:
    assert run("exec", *typed).exit == 0
    (payload,) = engine.heard(b"R")
    assert words(payload) == ("", argv, [])
    assert engine.opened == [("id-router-1", None)]


def test_options_before_the_host_are_labs(run: Run, engine: ScriptedEngine) -> None:
    ran = run(
        "exec", "-u", "root", "-e", "A=1", "--env", "B=x=y", "-w", "/tmp", "--timeout", "5s", "peer-2", "id", "-u"
    )
    assert ran.exit == 0
    (payload,) = engine.heard(b"R")
    assert words(payload) == ("/tmp", ["id", "-u"], ["A=1", "B=x=y"])
    assert engine.opened == [("id-peer-2", "root")]


@pytest.mark.parametrize("text", ["5", "5 s", "-1s", "s", "", "1h", "1e3s", "5S", ".5s"])
def test_a_duration_needs_a_number_and_a_unit(run: Run, engine: ScriptedEngine, text: str) -> None:
    ran = run("exec", f"--timeout={text}", "router", "true")
    assert ran.exit == 2
    assert f"{text!r} is no duration; write 500ms, 5s or 2m" in ran.err
    assert engine.hosts == []


@pytest.mark.parametrize("text", ["٣s", "²s"])
def test_a_durations_digits_are_those_of_ascii(run: Run, engine: ScriptedEngine, text: str) -> None:
    assert f"{text!r} is no duration" in run("exec", f"--timeout={text}", "router", "true").err
    assert engine.hosts == []


@pytest.mark.parametrize("text", ["99999999999s", "31536001s", "525601m", f"{'9' * 5000}ms"])
def test_a_duration_longer_than_a_year_is_refused(run: Run, engine: ScriptedEngine, text: str) -> None:
    ran = run("exec", f"--timeout={text}", "router", "true")
    assert ran.exit == 2
    assert "is longer than a year" in ran.err
    assert len(ran.err) < 300
    assert engine.hosts == []


@pytest.mark.parametrize("text", ["31536000s", "525600m", f"1.{'9' * 400}m"])
def test_a_duration_of_a_year_is_not(run: Run, text: str) -> None:
    assert run("exec", f"--timeout={text}", "router", "true").exit == 0


def test_at_the_timeout_the_command_is_ended_with_124(run: Run, engine: ScriptedEngine) -> None:
    engine.script = never_ends
    ran = run("exec", "--timeout", "50ms", "router", "--", "nc", "-l", "4444")
    assert ran.exit == 124
    assert ran.err == "lab: `nc` on router had not ended after 0.05 s and was ended\n"
    assert engine.heard(b"K") == [b"\x09"]


@pytest.mark.parametrize("assignment", ["A", "=1", ""])
def test_an_assignment_needs_a_name_and_an_equals_sign(run: Run, engine: ScriptedEngine, assignment: str) -> None:
    ran = run("exec", "-e", assignment, "router", "true")
    assert ran.exit == 2
    assert f"{assignment!r} is no NAME=VALUE" in ran.err
    assert engine.hosts == []


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (["ruter", "true"], 'lab: no host "ruter"; did you mean router?'),
        (["peer", "true"], "lab: peer is 2 hosts\n     Name one of: peer-1, peer-2."),
        (["router"], "Missing argument"),
        (["router", "--"], "no command after --; such as: lab exec client -- dig"),
        ([], "Missing argument"),
    ],
)
def test_words_that_make_no_sense_are_wrong_usage(run: Run, typed: list[str], text: str) -> None:
    ran = run("exec", *typed)
    assert ran.exit == 2
    assert text in ran.err


@pytest.mark.parametrize("command", [["exec", "router", "true"], ["shell", "router"]])
def test_a_host_that_has_ended_is_told(run: Run, engine: ScriptedEngine, command: list[str]) -> None:
    engine.change("small_router_1", state="exited", status="Exited (1) 3 seconds ago")
    ran = run(*command)
    assert (ran.exit, ran.out) == (3, "")
    assert "lab: host router is not running (Exited (1) 3 seconds ago)\n     lab up starts it" in ran.err


def test_a_connection_that_breaks_is_told_and_no_exit_code_made_up(run: Run, engine: ScriptedEngine) -> None:
    engine.script = lambda host, heard: host.vanish()
    ran = run("exec", "router", "true")
    assert ran.exit == 3
    assert "the connection to router has ended" in ran.err


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `lab shell` turned into."""
    seen: list[str] = []

    def execve(program: str, argv: list[str], environment: dict[str, str]) -> None:
        seen[:] = [f"DOCKER_HOST={environment['DOCKER_HOST']}", *argv]
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(shell.shutil, "which", lambda name: f"/usr/bin/{name}")
    return seen


def test_shell_without_a_terminal_asks_for_none(run: Run, became: list[str]) -> None:
    assert run("shell", "router").exit == 0
    assert became[1:] == ["/usr/bin/docker", "exec", "-i", "id-router-1", "bash"]


def test_shell_is_the_best_that_the_host_has(run: Run, engine: ScriptedEngine, became: list[str]) -> None:
    def only_sh(host: FakeHost, heard: Frame) -> None:
        exits(0 if b"sh\0-c" in heard[2] and b"bash" not in heard[2] else 127)(host, heard)

    engine.script = only_sh
    assert run("shell", "router").exit == 0
    assert became[-1] == "sh"


def test_shell_on_a_host_without_one_names_the_way_without(run: Run, engine: ScriptedEngine, became: list[str]) -> None:
    engine.script = exits(127)
    ran = run("shell", "router")
    assert (ran.exit, became) == (3, [])
    assert ran.err == "lab: router has no shell\n     lab exec router -- PROGRAM runs a program that it has.\n"


def test_shell_as_another_user(run: Run, became: list[str]) -> None:
    assert run("shell", "-u", "root", "peer-1").exit == 0
    assert became[1:] == ["/usr/bin/docker", "exec", "-i", "-u", "root", "id-peer-1", "bash"]


def test_shell_asks_the_engine_that_lab_has_asked(
    run: Run, lab: Lab, became: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {**lab.settings.variables, "DOCKER_HOST": "unix:///run/another.sock"}
    monkeypatch.setattr(lab, "settings", replace(lab.settings, variables=variables))
    assert run("shell", "router").exit == 0
    assert became[0] == "DOCKER_HOST=unix:///run/another.sock"


def test_shell_without_a_docker_command_names_the_way_without(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell.shutil, "which", lambda name: None)
    ran = run("shell", "router")
    assert (ran.exit, ran.out) == (3, "")
    assert "lab exec HOST -- sh needs none" in ran.err


def test_shell_on_a_host_that_is_not_there_names_the_near_miss(run: Run, became: list[str]) -> None:
    ran = run("shell", "ruter")
    assert ran.exit == 2
    assert "did you mean router?" in ran.err
    assert became == []
