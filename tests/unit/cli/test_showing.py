"""`lab status`, `logs`, `doctor` and `completion`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.checks import doctor
from lab.engine.base import EngineFacts
from lab.errors import MachineError
from lab.lab import Lab
from lab.lifecycle import preflight
from tests.unit.cli.conftest import Run
from tests.unit.cli.small_lab import ScriptedEngine, exits, finding
from tests.unit.fake_engine import FakeStream
from tests.unit.small_project import SMALL, compose_of


def test_status_shows_every_host_of_a_lab_that_is_down(run: Run) -> None:
    ran = run("status")
    assert ran.exit == 1
    for word in ("router", "peer-1", "peer-2", "10.0.0.1", "down", "ping it"):
        assert word in ran.out


def test_status_is_0_when_all_are_healthy(run: Run, lab: Lab) -> None:
    lab.up()
    ran = run("status")
    assert ran.exit == 0
    assert ran.out.count("healthy") == 3
    assert "\x1b" not in ran.out


def test_what_the_engine_found_unwell_is_looked_at_again(run: Run, lab: Lab, engine: ScriptedEngine) -> None:
    lab.up()
    engine.change("small_router_1", health="unhealthy")
    assert run("status").exit == 0
    engine.script = exits(1)
    ran = run("status")
    assert ran.exit == 1
    assert "unhealthy" in ran.out


@pytest.mark.parametrize("text", ["[/y]", "[red]no[/red]", "a\\", "fd00:a:b::1"])
def test_a_role_and_a_line_to_try_are_shown_as_they_are(run: Run, lab: Lab, text: str) -> None:
    compose = lab.settings.root / "compose.yaml"
    compose.write_text(SMALL.replace("lab.role: router, lab.try: ping it", f"lab.role: '{text}', lab.try: '{text}'"))
    assert ["router", text, "10.0.0.1", "down", text] in [line.split() for line in run("status").out.splitlines()]


def test_labels_that_yaml_takes_for_a_number_or_for_nothing_are_shown(run: Run, lab: Lab) -> None:
    compose = lab.settings.root / "compose.yaml"
    compose.write_text(SMALL.replace("lab.role: router, lab.try: ping it", "lab.role: 404, lab.try: "))
    assert ["router", "404", "10.0.0.1", "down"] in [line.split() for line in run("status").out.splitlines()]


@pytest.mark.parametrize("state", ["paused", "exited"])
def test_status_is_1_when_a_host_is_not_well(run: Run, lab: Lab, engine: ScriptedEngine, state: str) -> None:
    lab.up()
    engine.change("small_router_1", state=state)
    ran = run("status")
    assert ran.exit == 1
    assert state in ran.out


def test_status_is_3_when_the_engine_cannot_be_asked(
    run: Run, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise MachineError("no engine answers", "Start it.")

    monkeypatch.setattr(engine, "containers", gone)
    ran = run("status")
    assert (ran.exit, ran.out, ran.err) == (3, "", "lab: no engine answers\n     Start it.\n")


def test_status_as_json_has_a_record_for_each_host(run: Run, lab: Lab) -> None:
    lab.up()
    ran = run("status", "--json")
    assert ran.exit == 0
    hosts = json.loads(ran.out)["hosts"]
    assert [(host["name"], host["state"]) for host in hosts] == [
        ("router", "healthy"),
        ("peer-1", "healthy"),
        ("peer-2", "healthy"),
    ]
    assert set(hosts[0]) == {"name", "role", "state", "addresses", "try"}


def test_sizes_are_told_for_each_host_and_in_all(run: Run, lab: Lab) -> None:
    lab.up()
    ran = run("status", "--sizes")
    assert ran.out.count("10.0 MiB") == 3
    assert "all hosts together: 30 MiB of memory\nall images together: 123 MB on disk\n" in ran.out
    record = json.loads(run("status", "--sizes", "--json").out)
    assert record["memory_bytes"] == {"router": 10 * 2**20, "peer-1": 10 * 2**20, "peer-2": 10 * 2**20}
    assert record["images_bytes"] == 123_000_000


def test_memory_that_the_engine_does_not_count_is_not_called_none_in_use(
    run: Run, lab: Lab, engine: ScriptedEngine
) -> None:
    lab.up()
    router, *peers = (record.id for record in engine.records)
    engine.used = dict.fromkeys(peers)
    assert "all hosts together: 10 MiB of memory (of 1 of 3 hosts)\n" in run("status", "--sizes").out
    engine.used[router] = None
    ran = run("status", "--sizes")
    assert "MiB" not in ran.out
    assert "all hosts together: the engine counts no memory here\n" in ran.out
    record = json.loads(run("status", "--sizes", "--json").out)
    assert record["memory_bytes"] == {"router": None, "peer-1": None, "peer-2": None}


def test_the_log_of_one_host_is_printed_as_it_is(run: Run, lab: Lab, engine: ScriptedEngine) -> None:
    lab.up()
    engine.log_text = b"ready 4444\nhalf a line"
    ran = run("logs", "router")
    assert (ran.exit, ran.out) == (0, "ready 4444\nhalf a line\n")


def test_the_logs_of_several_hosts_begin_with_their_names(run: Run, lab: Lab, engine: ScriptedEngine) -> None:
    lab.up()
    engine.log_text = b"ready\n"
    ran = run("logs", "router", "peer-1")
    assert ran.out == "router | ready\npeer-1 | ready\n"


def test_a_followed_log_ends_with_its_hosts(
    run: Run, lab: Lab, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.up()
    asked: list[dict[str, object]] = []

    def logs(container: str, **how: object) -> FakeStream[bytes]:
        asked.append(how)
        return FakeStream([b"on", b"e\ntwo\nthr", b"ee"])

    monkeypatch.setattr(engine, "logs", logs)
    ran = run("logs", "-f", "-n", "5", "router", "peer-2")
    assert ran.exit == 0
    assert sorted(ran.out.splitlines()) == sorted(
        f"{name} | {line}" for name in ("router", "peer-2") for line in ("one", "two", "three")
    )
    assert asked == [{"follow": True, "tail": 5}] * 2


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["ruter"], 2, 'no host "ruter"; did you mean router?\n     Hosts: peer-1, peer-2, router'),
        (["nobody"], 2, 'no host "nobody"\n'),
        (["peer"], 2, "peer is 2 hosts\n     Name one of: peer-1, peer-2."),
        (["router", "peer-9"], 2, 'no host "peer-9"; did you mean peer-2 or peer-1?'),
        ([], 2, "Missing argument"),
        (["-n", "-1", "router"], 2, "-1 is not in the range"),
        (["-n", "many", "router"], 2, "'many' is not a valid integer"),
    ],
)
def test_logs_of_nobody_are_refused(run: Run, lab: Lab, words: list[str], code: int, text: str) -> None:
    lab.up()
    ran = run("logs", *words)
    assert ran.exit == code
    assert text in ran.err
    assert ran.out == ""


def test_logs_of_a_host_that_is_down_say_so(run: Run) -> None:
    ran = run("logs", "router")
    assert (ran.exit, ran.err) == (3, "lab: host router is down\n     lab up starts it.\n")


def test_doctor_prints_each_check_and_the_remedy_of_what_is_not_ok(run: Run, engine: ScriptedEngine) -> None:
    engine.set_up = EngineFacts(here=False)  # or it would look at this machine's own firewall
    ran = run("doctor")
    assert ran.exit == 0
    names = [*(check.__name__ for check in preflight.CHECKS), "firewall", "settings", "crossing"]
    assert [line.split()[:2] for line in ran.out.splitlines()] == [["ok", name] for name in names]
    engine.free = 10**9
    ran = run("doctor")
    assert ran.exit == 0
    assert ran.out.splitlines()[-5:-3] == [
        "warn  disk      little disk: 1.0 GB free for the engine",
        f"                → {preflight._MAKE_ROOM}",
    ]


def test_doctor_goes_on_after_a_failure_and_ends_with_3(
    run: Run, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped() -> None:
        raise MachineError("no engine answers", "Start it.")

    monkeypatch.setattr(engine, "version", stopped)
    ran = run("doctor")
    assert ran.exit == 3
    assert "fail  engine    no engine answers\n                → Start it.\n" in ran.out
    assert "\nok    disk" in ran.out
    assert ran.err == ""


def test_doctor_as_json_has_a_record_for_each_check(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [finding("ok"), finding("fail", "broken", "Mend it.")]
    monkeypatch.setattr(doctor, "examine", lambda lab: findings)
    ran = run("doctor", "--json")
    assert ran.exit == 3
    assert json.loads(ran.out) == {
        "checks": [
            {"check": "engine", "level": "ok", "text": "text", "remedy": ""},
            {"check": "engine", "level": "fail", "text": "broken", "remedy": "Mend it."},
        ]
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.exit == 0
    assert f"_LAB_COMPLETE={shell}_complete" in ran.out


def test_completion_of_an_unknown_shell_names_those_there_are(run: Run) -> None:
    ran = run("completion", "tcsh")
    assert ran.exit == 2
    assert "'bash', 'zsh', 'fish'" in ran.err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lab exec p", ["peer-1", "peer-2"]),
        ("lab exec ", ["router", "peer-1", "peer-2"]),
        ("lab logs router pe", ["peer-1", "peer-2"]),
        ("lab shell r", ["router"]),
        ("lab st", ["status"]),
    ],
)
def test_the_shell_completes_commands_and_hosts(
    run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    monkeypatch.setattr("lab.project.compose.Compose", compose_of)
    monkeypatch.setenv("_LAB_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    ran = run()
    assert ran.exit == 0
    assert [entry.partition(",")[2] for entry in ran.out.split()] == expected


def test_completion_outside_a_lab_offers_nothing_and_no_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("_LAB_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "lab exec ")
    monkeypatch.setenv("COMP_CWORD", "2")
    ran = run()
    assert (ran.exit, ran.out.strip(), ran.err) == (0, "", "")
