"""`lab up`, `down` and `scale`."""

from __future__ import annotations

import json

import pytest

from lab.errors import HostError
from lab.lab import Lab
from tests.unit.cli.conftest import Run
from tests.unit.cli.small_lab import ScriptedEngine


def calls(lab: Lab) -> list[str]:
    return lab.compose.calls  # type: ignore[attr-defined, no-any-return]


def test_up_prints_the_table_and_keeps_progress_apart(run: Run) -> None:
    ran = run("up")
    assert ran.exit == 0
    for word in ("router", "10.0.0.1", "healthy", "ping it", "peer-1", "peer-2"):
        assert word in ran.out
    assert "starting 3 hosts" in ran.err
    assert "starting 3 hosts" not in ran.out


def test_progress_without_a_terminal_is_plain_lines(run: Run) -> None:
    ran = run("up")
    assert "\x1b" not in ran.err + ran.out
    assert all(line.startswith("[") for line in ran.err.splitlines())


def test_up_as_json_is_one_document(run: Run) -> None:
    ran = run("up", "--json")
    hosts = json.loads(ran.out)["hosts"]
    assert [host["name"] for host in hosts] == ["router", "peer-1", "peer-2"]
    assert hosts[0] == {
        "name": "router",
        "role": "router",
        "state": "healthy",
        "addresses": {"lan": "10.0.0.1"},
        "try": "ping it",
    }


def test_an_up_that_fails_prints_no_table(run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise HostError("router ended: boom", "lab logs router shows the whole log.")

    monkeypatch.setattr(lab.compose, "up", fail)
    ran = run("up")
    assert (ran.exit, ran.out) == (3, "")
    assert ran.err.endswith("lab: router ended: boom\n     lab logs router shows the whole log.\n")


def test_down_leaves_nothing_and_says_so_in_lines(run: Run, lab: Lab, engine: ScriptedEngine) -> None:
    lab.up()
    ran = run("down")
    assert (ran.exit, ran.out) == (0, "")
    assert "stopping the lab" in ran.err
    assert engine.records == []
    assert calls(lab) == ["up", "down"]


def test_down_of_a_lab_that_is_down_is_no_error(run: Run) -> None:
    assert run("down").exit == 0


def test_scale_names_each_host_with_its_address(run: Run, lab: Lab, engine: ScriptedEngine) -> None:
    lab.up()
    for number in (1, 2):
        engine.remove(f"id-peer-{number}")
    ran = run("scale", "peer=0")
    assert (ran.exit, ran.out) == (0, "")
    assert calls(lab)[-1] == "up {'peer': 0}"


@pytest.mark.parametrize("wish", ["peer", "peer=", "peer=x", "peer=-1", "peer=1.5", "=", "peer 4"])
def test_bad_words_for_scale_are_refused_with_an_example(run: Run, lab: Lab, wish: str) -> None:
    ran = run("scale", wish)
    assert ran.exit == 2
    assert ran.err == f"lab: {wish!r} is no SERVICE=NUMBER\n     Such as: lab scale web=4\n"
    assert calls(lab) == []


@pytest.mark.parametrize("wish", ["peer=٣", "peer=²", f"peer={'9' * 5000}"])
def test_digits_that_make_no_number_of_hosts_are_refused(run: Run, lab: Lab, wish: str) -> None:
    ran = run("scale", wish)
    assert ran.exit == 2
    assert "is no SERVICE=NUMBER\n     Such as: lab scale web=4\n" in ran.err
    assert len(ran.err) < 100
    assert calls(lab) == []


@pytest.mark.parametrize(
    ("wish", "cause"),
    [
        ("router=2", "'router' cannot be scaled\n     Scalable: peer."),
        ("pear=2", "'pear' cannot be scaled\n     Scalable: peer."),
        ("peer=121", "121 peers asked for\n     Ask for 0 to 120."),
    ],
)
def test_a_scale_that_cannot_be_is_refused(run: Run, lab: Lab, wish: str, cause: str) -> None:
    ran = run("scale", wish)
    assert ran.exit == 2
    assert cause in ran.err
    assert calls(lab) == []


def test_scale_needs_its_word(run: Run) -> None:
    assert run("scale").exit == 2
