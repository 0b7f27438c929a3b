from collections.abc import Callable
from pathlib import Path

import pytest

from lab.engine.base import Container, EngineVersion, NetworkRecord, Pool
from lab.errors import MachineError
from lab.lifecycle import preflight
from lab.lifecycle.preflight import Machine, examine
from lab.project.settings import Settings
from tests.unit.fake_engine import FakeEngine, container
from tests.unit.small_project import SMALL, compose_of

Make = Callable[[FakeEngine], Machine]


@pytest.fixture
def machine(tmp_path: Path) -> Make:
    (tmp_path / "compose.yaml").write_text(SMALL)
    settings = Settings(tmp_path, {"COMPOSE_PROJECT_NAME": "small"})
    return lambda engine: Machine(engine, compose_of(settings, ["compose"]), settings)


def test_a_machine_in_order_passes_every_check(machine: Make) -> None:
    findings = examine(machine(FakeEngine()))
    assert {finding.level for finding in findings} == {"ok"}
    preflight.require(machine(FakeEngine()))


def test_an_overlapping_network_is_named_with_both_subnets(machine: Make) -> None:
    engine = FakeEngine(network_records=[NetworkRecord("n1", "office", (Pool("10.0.0.128/25"),))])
    finding = preflight.subnets(machine(engine))
    assert finding.level == "fail"
    assert finding.text == "network lan (10.0.0.0/24) overlaps with 10.0.0.128/25 of the engine's network office"
    assert "docker network rm office" in finding.remedy
    assert "NET" in finding.remedy


def test_the_labs_own_networks_are_no_clash(machine: Make) -> None:
    own = NetworkRecord("n1", "small_lan", (Pool("10.0.0.0/24"),), {"com.docker.compose.project": "small"})
    assert preflight.subnets(machine(FakeEngine(network_records=[own]))).level == "ok"


def test_an_ipv6_network_is_no_clash(machine: Make) -> None:
    other = NetworkRecord("n1", "six", (Pool("fd00::/64"),))
    assert preflight.subnets(machine(FakeEngine(network_records=[other]))).level == "ok"


def test_a_subnet_that_the_engine_tells_with_an_address_in_it_is_read(machine: Make) -> None:
    other = NetworkRecord("n1", "old", (Pool("172.20.0.1/16"),))
    assert preflight.subnets(machine(FakeEngine(network_records=[other]))).level == "ok"


@pytest.mark.parametrize("name", ["small_router_1", "small-router-1", "small-peer-1"])
def test_a_name_that_somebody_else_has_is_told(machine: Make, name: str) -> None:
    engine = FakeEngine(records=[container(name, project="")])
    finding = preflight.names(machine(engine))
    assert finding.level == "fail"
    assert f"the name {name} is taken" in finding.text
    assert f"docker rm -f {name}" in finding.remedy


def test_the_labs_own_containers_take_no_name_away(machine: Make) -> None:
    assert preflight.names(machine(FakeEngine(records=[container("router")]))).level == "ok"


def test_a_lab_of_another_checkout_is_told(machine: Make) -> None:
    engine = FakeEngine(records=[container("router", folder="/elsewhere/lab")])
    finding = preflight.checkout(machine(engine))
    assert finding.level == "fail"
    assert "/elsewhere/lab" in finding.text


@pytest.mark.parametrize(("free", "level"), [(50 * 10**9, "ok"), (10**9, "warn"), (10**8, "fail"), (None, "warn")])
def test_disk_space_decides_the_level(machine: Make, free: int | None, level: str) -> None:
    assert preflight.disk(machine(FakeEngine(free=free))).level == level


def test_an_error_in_a_check_is_its_failure(machine: Make) -> None:
    class Stopped(FakeEngine):
        def version(self) -> None:  # type: ignore[override]
            raise MachineError("no engine answers", "Start it.")

    findings = {finding.check: finding for finding in examine(machine(Stopped()))}
    assert findings["engine"].level == "fail"
    assert findings["engine"].remedy == "Start it."
    assert findings["python"].level == "ok"


def test_an_error_that_several_checks_meet_is_told_in_full_once(machine: Make) -> None:
    class Stopped(FakeEngine):
        def containers(self) -> list[Container]:
            raise MachineError("no engine answers", "Start it.")

    told = [(finding.text, finding.remedy) for finding in examine(machine(Stopped())) if finding.level == "fail"]
    assert told == [("no engine answers", "Start it."), ("not checked, as names above", "")]


def test_up_stops_at_the_first_failure_with_exit_code_3(machine: Make) -> None:
    with pytest.raises(MachineError) as caught:
        preflight.require(machine(FakeEngine(free=1)))
    assert caught.value.exit_code == 3
    assert "disk is full" in caught.value.cause


def test_an_engine_without_root_is_told_with_what_it_cannot(machine: Make) -> None:
    answer = EngineVersion("28.5.2", (1, 51), place="unix:///run/user/1000/docker.sock", rootless=True)
    (found,) = examine(machine(FakeEngine(answer=answer)), [preflight.engine])
    assert found.level == "ok"
    assert found.text.endswith(
        "API 1.51, at unix:///run/user/1000/docker.sock; rootless, so memory and processes are "
        "limited (and memory counted) only with cgroup v2 and systemd"
    )
