from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.checks import doctor
from lab.checks.firewall import Firewall
from lab.engine.base import EngineFacts, NetworkRecord
from lab.errors import CommandTimeout
from lab.lifecycle.preflight import Finding, Machine
from lab.project.settings import Settings
from tests.unit.checks.test_firewall import ENGINE_20_10, ENGINE_28
from tests.unit.fake_engine import FakeEngine, container
from tests.unit.small_project import SMALL, compose_of


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def machine(tmp_path: Path, engine: FakeEngine) -> Machine:
    (tmp_path / "compose.yaml").write_text(SMALL)
    settings = Settings(tmp_path, {"COMPOSE_PROJECT_NAME": "small"})
    return Machine(engine, compose_of(settings), settings)


@pytest.mark.parametrize(
    ("seen", "level", "text"),
    [
        (Firewall(False, None), "ok", "does not see"),
        (Firewall(True, ENGINE_20_10), "ok", "lets it pass"),
        (Firewall(True, None), "ok", "only root can read its rules"),
        (
            Firewall(True, ENGINE_28),
            "fail",
            "iptables -t raw -A PREROUTING -d 192.168.1.10/32 ! -i br-1f2e -j DROP (1 such",
        ),
        (
            Firewall(True, "*filter\n-A DOCKER-USER -j DROP\n-A FORWARD -j DOCKER-USER\n"),
            "warn",
            "DOCKER-USER -j DROP",
        ),
        (Firewall(True, ENGINE_20_10, firewalld=True), "warn", "firewalld runs"),
    ],
)
def test_the_firewall_is_judged_by_what_it_may_drop(seen: Firewall, level: str, text: str) -> None:
    finding = doctor.judged(seen, ["192.168.1.0/24"])
    assert finding.level == level
    assert text in finding.text
    assert bool(finding.remedy) == (level != "ok")


def test_the_firewall_of_another_machine_is_not_looked_at(machine: Machine, engine: FakeEngine) -> None:
    engine.set_up = EngineFacts(here=False)
    assert "on another machine" in doctor.firewall(machine).text


def test_unusual_settings_of_the_engine_are_told(
    machine: Machine, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.settings(machine).text.startswith("none")
    engine.set_up = EngineFacts(here=True, live_restore=True, firewall="nftables")
    engine.network_records = [NetworkRecord("b", "bridge", (), {}, {"com.docker.network.bridge.enable_icc": "false"})]
    told = {"userland-proxy": False, "default-network-opts": {"bridge": {"com.docker.network.enable_ipv4": "false"}}}
    monkeypatch.setattr(doctor, "configuration", lambda: told)
    text = doctor.settings(Machine(engine, machine.compose, machine.settings)).text
    for word in ("icc=false", "userland-proxy=false", "live-restore", "nftables", "without IPv4"):
        assert word in text


def test_an_engines_command_line_prevails_over_its_file(tmp_path: Path) -> None:
    file, pid = tmp_path / "daemon.json", tmp_path / "docker.pid"
    assert doctor.configuration(file, pid, tmp_path) == {}
    file.write_text(json.dumps({"icc": True, "live-restore": True}))
    pid.write_text("7")
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cmdline").write_text("dockerd\0--icc=false\0--userland-proxy=false\0-D\0")
    assert doctor.configuration(file, pid, tmp_path) == {"icc": False, "live-restore": True, "userland-proxy": False}
    file.write_text("{")
    assert doctor.configuration(file, pid, tmp_path) == {"icc": False, "userland-proxy": False}


class End:
    """A host that gets the given answer to whatever it sends."""

    def __init__(self, name: str, answer: str | Exception) -> None:
        self.name, self.id, self.answer = name, f"id-{name}-1", answer

    def run(self, argv: list[str], **_: Any) -> SimpleNamespace:
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(stderr=self.answer.encode())


def crossed(machine: Machine, engine: FakeEngine, answer: str | Exception) -> Finding:
    engine.records = [
        container("near", addresses={"small_lan": "10.0.0.5"}),
        container("far", addresses={"small_far": "10.0.1.5"}),
        container("router", addresses={"small_lan": "10.0.0.1", "small_far": "10.0.1.1"}),
    ]
    hosts = [End(name, answer) for name in ("near", "far", "router")]
    return doctor.crossing(SimpleNamespace(hosts=lambda: hosts))(machine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        ("bash: connect: Connection refused", "ok"),
        ("", "ok"),
        ("bash: connect: Network is unreachable", "fail"),
        ("bash: connect: No route to host", "fail"),
        (CommandTimeout("it had not ended"), "fail"),
    ],
)
def test_a_packet_that_does_not_cross_the_router_is_told(
    machine: Machine, engine: FakeEngine, answer: str | Exception, level: str
) -> None:
    finding = crossed(machine, engine, answer)
    assert finding.level == level
    assert ("near gets nothing back from far (10.0.1.5), over router" in finding.text) == (level == "fail")


def test_nothing_is_sent_while_the_lab_is_down(machine: Machine) -> None:
    finding = doctor.crossing(SimpleNamespace(hosts=list))(machine)  # type: ignore[arg-type]
    assert (finding.level, finding.text[:9]) == ("ok", "not tried")
