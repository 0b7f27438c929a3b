import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lab.engine import ownership
from lab.engine.base import OWNER_LABEL, PROJECT_LABEL, SERVICE_LABEL, TEMPORARY_LABEL, NetworkRecord, Pool
from lab.errors import HostError, MachineError, NoSuchHost, NotRunning, UsageError
from lab.lab import Lab
from lab.project.config import Config
from lab.project.settings import Settings
from tests.unit.fake_engine import FakeEngine, container
from tests.unit.fake_store import FakeStore
from tests.unit.small_project import SMALL, config_of

Say = Callable[[str], None]


class FakeCompose:
    """Does to the fake engine what Compose would do for `SMALL`."""

    command = ("compose",)

    def __init__(self, engine: FakeEngine, settings: Settings) -> None:
        self.engine = engine
        self.calls: list[str] = []
        self.settings = settings

    @property
    def config(self) -> Config:
        files = sorted(self.settings.root.glob("compose*.yaml"))
        found = config_of(files[-1].read_text(), self.settings.root, self.settings.variables)
        return replace(found, digest="".join(file.name + file.read_text() for file in files))

    @contextmanager
    def locked(self, say: Say) -> Iterator[None]:
        yield

    def up(self, say: Say, scale: dict[str, int] | None = None) -> None:
        self.calls.append(f"up {scale}" if scale else "up")
        wanted = [container("router", addresses={"small_lan": "10.0.0.1"})]
        wanted += [container("peer", number) for number in range(1, (scale or {}).get("peer", 2) + 1)]
        present = {record.id for record in self.engine.records}
        self.engine.records += [record for record in wanted if record.id not in present]

    def down(self, say: Say, *, volumes: bool) -> None:
        self.calls.append("down")
        self.engine.done.append(("compose", "down"))
        known = [one for one in self.engine.records if one.is_of_compose("small") and "stray" not in one.name]
        self.engine.records = [record for record in self.engine.records if record not in known]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def lab(tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (tmp_path / "compose.yaml").write_text(SMALL)
    (tmp_path / ".lab").mkdir()
    settings = Settings(tmp_path, {"COMPOSE_PROJECT_NAME": "small", "LAB_PEERS": "2"})
    made = Lab(settings, engine, FakeCompose(engine, settings), FakeStore())  # type: ignore[arg-type]
    monkeypatch.setattr(made, "_images_up", lambda containers, progress, build=False: False)
    return made


def calls(lab: Lab) -> list[str]:
    return lab.compose.calls  # type: ignore[attr-defined, no-any-return]


def test_up_starts_the_hosts_and_tells_their_state(lab: Lab) -> None:
    rows = lab.up()
    assert [(row.name, row.state) for row in rows] == [
        ("router", "healthy"),
        ("peer-1", "healthy"),
        ("peer-2", "healthy"),
    ]
    assert rows[0].addresses == {"lan": "10.0.0.1"}


def test_a_second_up_does_not_call_compose(lab: Lab) -> None:
    lab.up()
    lab.up()
    assert calls(lab) == ["up"]


@pytest.mark.parametrize(
    "harm", ["removed", "stopped", "file changed", "override", "override changed", "memory lost", "image changed"]
)
def test_an_up_after_a_change_calls_compose_again(lab: Lab, engine: FakeEngine, harm: str) -> None:
    override = lab.settings.root / "compose.override.yaml"
    if harm == "override changed":
        override.touch()
    lab.up()
    match harm:
        case "removed":
            engine.remove("id-peer-2")
        case "stopped":
            engine.change("small_router_1", state="exited")
        case "file changed":
            path = lab.settings.root / "compose.yaml"
            path.write_text(path.read_text() + "# changed\n")
        case "override":
            override.touch()
        case "override changed":
            override.write_text("services: {peer: {hostname: paul}}\n")
        case "memory lost":
            (lab.settings.state / "up.json").write_text("{half")
        case "image changed":
            engine.change("small_router_1", image="sha256:1")
    if harm == "stopped":
        with pytest.raises(HostError, match="router ended"):
            lab.up()
    else:
        lab.up()
    assert calls(lab) == ["up", "up"]


def test_a_host_that_only_an_override_file_has_is_one_of_the_lab(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    engine.records.append(container("extra"))
    (lab.settings.root / "compose.override.yaml").touch()
    lab.up()
    lab.up()
    assert calls(lab) == ["up", "up"]
    engine.change("small_extra_1", image="sha256:1")  # its name has gone to a newer one
    lab.up()
    assert calls(lab) == ["up", "up", "up"]


def test_a_scaled_service_has_the_numbers_that_compose_gave(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    engine.records = [record for record in engine.records if record.service != "peer"]
    engine.records += [container("peer", number) for number in (1, 4, 3)]  # 2 was removed, and another one made
    assert [row.name for row in lab.status()] == ["router", "peer-1", "peer-3", "peer-4"]
    engine.records = [record for record in engine.records if record.number not in (1, 4)]
    assert [(row.name, row.state) for row in lab.status()[1:]] == [("peer-1", "down"), ("peer-3", "healthy")]


def test_an_up_whose_end_cannot_be_written_down_has_succeeded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert [row.state for row in lab.up()] == ["healthy"] * 3


def test_a_frozen_host_goes_on(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    engine.change("small_peer_1", state="paused")
    lab.up()
    assert ("unpause", "id-peer-1") in engine.done


def test_what_compose_run_made_is_no_host(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    one_off = {"com.docker.compose.oneoff": "True"}
    engine.records.insert(0, container("peer", state="exited", labels=one_off, id="one-off"))
    assert len(lab.up()) == 3
    assert calls(lab) == ["up"]
    assert lab.host("peer-1").id == "id-peer-1"
    lab.down()
    assert engine.records == []


def test_what_is_made_of_an_image_that_compose_built_is_no_host(lab: Lab, engine: FakeEngine) -> None:
    """Compose 2 writes the project and the service on the image; a container has its image's labels, too."""
    lab.up()
    of_the_image = {PROJECT_LABEL: "small", SERVICE_LABEL: "router"}
    temporary = container("router", project="", labels=of_the_image | {TEMPORARY_LABEL: "small"}, id="temporary")
    by_hand = container("router", project="", labels=of_the_image, id="by-hand")
    engine.records[:0] = [temporary, by_hand]
    assert {host.id for host in lab.hosts()} == {"id-router-1", "id-peer-1", "id-peer-2"}
    assert lab.host("router").id == "id-router-1"
    lab.down()
    assert [record.id for record in engine.records] == ["by-hand"]


def test_an_up_that_built_an_image_calls_compose_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.up()
    monkeypatch.setattr(lab, "_images_up", lambda containers, progress, build=False: True)
    lab.up()
    assert calls(lab) == ["up", "up"]


def test_a_host_that_ended_is_named_with_its_last_words(lab: Lab, engine: FakeEngine) -> None:
    engine.log_text = b"no such interface\n"
    lab.up()
    engine.change("small_router_1", state="exited")
    with pytest.raises(HostError, match="router ended: no such interface") as caught:
        lab.up()
    assert "lab logs router" in caught.value.remedy


def test_up_touches_nothing_when_a_check_fails(lab: Lab, engine: FakeEngine) -> None:
    engine.network_records = [NetworkRecord("n", "office", (Pool("10.0.0.0/16"),))]
    with pytest.raises(MachineError, match="overlaps"):
        lab.up()
    assert calls(lab) == []


@pytest.mark.parametrize(
    ("pool", "options", "expected"),
    [
        (Pool("10.0.0.0/24", "10.0.0.1"), {}, ["up"]),
        (Pool("10.0.0.0/24"), {"com.docker.network.driver.mtu": "1400"}, ["up"]),  # the engine's own addition
        (Pool("10.1.0.0/24"), {}, ["down", "up"]),
        (Pool("10.0.0.0/24", ip_range="10.0.0.128/25"), {}, ["down", "up"]),
    ],
)
def test_up_leaves_a_network_that_is_to_be_another(
    lab: Lab, engine: FakeEngine, pool: Pool, options: dict[str, str], expected: list[str]
) -> None:
    own = {"com.docker.compose.project": "small"}
    engine.network_records = [
        NetworkRecord("n1", "small_lan", (pool,), own, options),
        NetworkRecord("n2", "bridge", ()),
    ]
    lab.up()
    assert calls(lab) == expected


def test_up_leaves_a_network_that_lacks_an_option(lab: Lab, engine: FakeEngine) -> None:
    own = {"com.docker.compose.project": "small"}
    engine.network_records = [NetworkRecord("n1", "small_lan", (Pool("10.0.0.0/24"),), own)]
    path = lab.settings.root / "compose.yaml"
    path.write_text(
        path.read_text().replace("  lan:\n    ipam:", "  lan:\n    driver_opts: {some.option: x}\n    ipam:")
    )
    lab.up()
    assert calls(lab) == ["down", "up"]


def test_hosts_that_come_up_without_their_addresses_are_made_anew(lab: Lab, engine: FakeEngine) -> None:
    engine.records = [container("router", addresses={"small_lan": "10.0.0.131"})]
    rows = lab.up()
    assert calls(lab) == ["up", "down", "up"]
    assert rows[0].addresses == {"lan": "10.0.0.1"}


def test_down_leaves_nothing_even_of_what_compose_does_not_know(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    engine.records.append(container("sniffer", project="", labels={TEMPORARY_LABEL: "small"}))
    engine.records.append(container("stray", id="stray"))
    engine.records.append(container("neighbour", project="other"))
    own = {"com.docker.compose.project": "small"}
    engine.network_records = [NetworkRecord("n1", "small_lan", (), own), NetworkRecord("n2", "bridge", ())]
    engine.volume_names = ["small_logs"]
    lab.down()
    assert engine.done.index(("remove", "id-sniffer-1")) < engine.done.index(("compose", "down"))  # it is on a network
    assert [record.name for record in engine.records] == ["other_neighbour_1"]
    assert [record.name for record in engine.network_records] == ["bridge"]
    assert engine.volume_names == []
    assert not (lab.settings.state / "up.json").exists()


@pytest.fixture
def broken_compose(lab: Lab, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose can take nothing away, though there are hosts, two networks and a volume."""
    lab.up()
    own = {"com.docker.compose.project": "small"}
    engine.network_records = [NetworkRecord(name, name, (), own) for name in ("held", "free")]
    engine.volume_names = ["small_logs"]

    def refuse(*_: object, volumes: bool) -> None:
        raise MachineError("Compose is broken")

    monkeypatch.setattr(lab.compose, "down", refuse)


@pytest.mark.usefixtures("broken_compose")
def test_what_compose_fails_to_take_away_goes_without_it(lab: Lab, engine: FakeEngine) -> None:
    lab.down()
    assert (engine.records, engine.network_records, engine.volume_names) == ([], [], [])


@pytest.mark.usefixtures("broken_compose")
def test_a_capture_that_cannot_be_removed_keeps_nothing_else(
    lab: Lab, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sniffer = container("sniffer", project="", labels={TEMPORARY_LABEL: "small"})
    engine.records.insert(0, sniffer)
    remove = engine.remove

    def removed(name: str) -> None:
        if name == sniffer.id:
            raise HostError("the sniffer cannot be removed")
        remove(name)

    monkeypatch.setattr(engine, "remove", removed)
    with pytest.raises(HostError, match="the sniffer cannot be removed"):
        lab.down()
    assert engine.records == [sniffer]
    assert engine.network_records == []


@pytest.mark.usefixtures("broken_compose")
def test_a_down_that_fails_takes_away_what_it_can_and_tells(
    lab: Lab, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_network = engine.remove_network

    def remove(name: str) -> None:
        if name == "held":
            raise MachineError("the network held cannot be removed")
        remove_network(name)

    monkeypatch.setattr(engine, "remove_network", remove)
    with pytest.raises(MachineError, match="the network held cannot be removed"):
        lab.down()
    assert engine.records == []
    assert [network.name for network in engine.network_records] == ["held"]
    assert engine.volume_names == []


@pytest.mark.parametrize("command", ["up", "status", "hosts"])
def test_each_command_sweeps_what_a_killed_process_left_and_nothing_else(
    lab: Lab, engine: FakeEngine, command: str
) -> None:
    for name, owner in (("orphan", "1@0"), ("capture", ownership.mine()), ("unknown", "")):
        labels = {TEMPORARY_LABEL: "small", OWNER_LABEL: owner}
        engine.records.append(container(name, project="", labels=labels, id=name))
    engine.records.append(container("neighbour", project="", labels={OWNER_LABEL: "1@0"}, id="neighbour"))
    getattr(lab, command)()
    assert ("remove", "orphan") in engine.done
    assert {"capture", "unknown", "neighbour"} <= {record.id for record in engine.records}


def test_down_twice_is_no_error(lab: Lab) -> None:
    lab.down()
    lab.down()


def test_scale_adds_hosts_and_returns_them(lab: Lab) -> None:
    lab.up()
    assert [host.name for host in lab.scale("peer", 3)] == ["peer-1", "peer-2", "peer-3"]
    assert calls(lab)[-1] == "up {'peer': 3}"


@pytest.mark.parametrize(
    ("service", "count", "message"),
    [
        ("router", 2, "'router' cannot be scaled\nScalable: peer"),
        ("peer", 121, "121 peers asked for\nAsk for 0 to 120"),
        ("peer", -1, "-1 peers asked for"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(lab: Lab, service: str, count: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lab.scale(service, count)
    assert calls(lab) == []


def test_a_near_miss_is_named(lab: Lab) -> None:
    lab.up()
    with pytest.raises(NoSuchHost) as caught:
        lab.host("ruter")
    assert caught.value.cause == 'no host "ruter"; did you mean router?'
    assert caught.value.exit_code == 2


def test_a_host_that_is_down_is_told_from_one_that_is_not_known(lab: Lab) -> None:
    with pytest.raises(NotRunning, match="host router is down\nlab up starts it"):
        lab.host("router")


def test_a_host_that_has_ended_is_told_with_the_engines_words(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    engine.change("small_router_1", state="exited")
    with pytest.raises(NotRunning, match=r"router is not running \(Up 3 seconds\)"):
        lab.host("router")


def test_the_name_of_a_scaled_service_is_ambiguous_with_several(lab: Lab) -> None:
    lab.up()
    with pytest.raises(UsageError, match="peer is 2 hosts\nName one of: peer-1, peer-2"):
        lab.host("peer")
    assert lab.host("peer-2").name == "peer-2"


def test_the_name_of_a_scaled_service_means_its_only_host(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    engine.remove("id-peer-2")
    assert lab.host("peer").name == "peer-1"


def test_a_host_that_is_down_has_its_row_with_the_address_it_will_have(lab: Lab) -> None:
    row = lab.status()[0]
    assert (row.name, row.state, row.addresses) == ("router", "down", {"lan": "10.0.0.1"})
    assert json.loads(json.dumps(row.as_json()))["try"] == "ping it"


def test_a_paused_host_says_so(lab: Lab, engine: FakeEngine) -> None:
    lab.up()
    engine.change("small_router_1", state="paused")
    assert lab.status()[0].state == "paused"


def test_a_container_of_ones_own_is_removed_after_an_error_too(lab: Lab, engine: FakeEngine) -> None:
    with contextlib.suppress(RuntimeError), lab.container("image", networks=["lan"]):
        made = engine.records[-1]
        raise RuntimeError("in the middle of a test")
    assert made.labels[TEMPORARY_LABEL] == "small"
    assert engine.records == []
