"""What is made of Compose's answer. What the several versions of Compose answer is in test_config.py."""

from pathlib import Path

import pytest
import yaml

from lab.engine.base import Pool
from lab.project.topology import Network, Topology, of_document
from tests.unit.small_project import SMALL, config_of, fill_in

PROJECT = Path(__file__).parents[3]


def topology_of(text: str) -> Topology:
    return of_document(yaml.safe_load(text), "small")


def small(text: str = SMALL) -> Topology:
    return config_of(text, Path("/small")).topology


@pytest.mark.parametrize(
    ("labels", "role", "attempt"),
    [
        ("{lab.role: 404, lab.try: 1.5}", "404", "1.5"),
        ("{lab.role: , lab.try: }", "", ""),
        ("[lab.role=a=b, lab.try]", "a=b", ""),
        ("", "", ""),
    ],
)
def test_labels_are_text_whatever_yaml_takes_them_for(labels: str, role: str, attempt: str) -> None:
    router = small(SMALL.replace("{lab.role: router, lab.try: ping it}", labels)).services["router"]
    assert (router.role, router.attempt) == (role, attempt)


def test_a_shared_layer_is_no_host() -> None:
    assert [service.name for service in small().hosts] == ["router", "peer"]


def test_a_service_of_a_profile_that_is_not_asked_for_is_no_host() -> None:
    document = yaml.safe_load("services: {web: {image: w}, debug: {image: d, profiles: [debug]}}")
    assert of_document(document, "p").host_names() == ["web"]
    assert of_document(document, "p", profiles=["debug"]).host_names() == ["web", "debug"]
    assert of_document(document, "p", profiles=["*"]).host_names() == ["web", "debug"]


def test_a_scalable_service_counts_its_hosts() -> None:
    assert small().host_names() == ["router", "peer-1", "peer-2"]
    assert config_of(SMALL, Path("/small"), {"LAB_PEERS": "0"}).topology.host_names() == ["router"]


def test_services_stand_in_the_order_of_the_file_and_not_of_composes_answer() -> None:
    document = yaml.safe_load("services: {a: {image: a}, b: {image: b}, c: {image: c}}")
    assert list(of_document(document, "p", order=["c", "a"]).services) == ["c", "a", "b"]


def test_build_contexts_are_folders() -> None:
    topology = small()
    assert topology.services["base"].build == Path("/small/services/base")
    assert topology.services["peer"].build is None
    remote = topology_of("services: {web: {build: 'https://example.org/web.git'}}").services["web"]
    assert (remote.build, remote.image) == (None, "")


def test_a_service_without_networks_is_on_the_default_one() -> None:
    topology = topology_of("services: {web: {image: w}}")
    assert topology.services["web"].addresses == {"default": None}
    assert topology.networks["default"] == Network("small_default")


@pytest.mark.parametrize("mode", ["none", "host", "service:web", "container:abc"])
def test_a_service_with_the_network_of_another_is_on_none(mode: str) -> None:
    assert topology_of(f"services: {{web: {{image: w, network_mode: '{mode}'}}}}").services["web"].addresses == {}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("", Network("small_lan")),
        ("{name: wire}", Network("wire")),
        ("{external: true}", Network("lan", is_external=True)),
        ("{external: {name: theirs}}", Network("theirs", is_external=True)),
        ("{external: true, name: theirs}", Network("theirs", is_external=True)),
        ("{driver: bridge, ipam: {driver: default}}", Network("small_lan")),
        (
            "{ipam: {config: [{subnet: 10.1.0.0/16}, {subnet: 'fd00::/64', gateway: 'fd00::1'}]}}",
            Network("small_lan", (Pool("10.1.0.0/16"), Pool("fd00::/64", "fd00::1"))),
        ),
        ("{driver_opts: {mtu: 1400}}", Network("small_lan", options={"mtu": "1400"})),
    ],
)
def test_a_network_is_what_the_file_says(entry: str, expected: Network) -> None:
    assert topology_of(f"services: {{}}\nnetworks: {{lan: {entry}}}").networks["lan"] == expected


def test_who_is_awaited_to_end_well_is_a_job() -> None:
    topology = topology_of("""
services:
  migrate: {image: m}
  web: {image: w, depends_on: {migrate: {condition: service_completed_successfully}}}
  proxy: {image: p, depends_on: [web]}
""")
    assert [service.name for service in topology.services.values() if service.is_job] == ["migrate"]


def test_the_projects_name_is_composes_where_it_says_one() -> None:
    assert of_document({"name": "theirs", "services": {}}, "folder").project == "theirs"
    assert of_document({"services": {}}, "folder").project == "folder"


def test_the_projects_own_file_has_a_role_and_a_try_for_each_host() -> None:
    topology = config_of((PROJECT / "compose.yaml").read_text(), PROJECT).topology
    lacking = [service.name for service in topology.hosts if not (service.role and service.attempt)]
    assert not lacking


def test_the_projects_own_file_gives_each_fixed_address_a_name_in_every_host() -> None:
    """By another setting of the LANs too: from `extra_hosts` come /etc/hosts and the zone `lab`."""
    text = fill_in((PROJECT / "compose.yaml").read_text(), {"LAB_LAN": "10.1.1", "LAB_FAR": "10.2.2"})
    services = yaml.safe_load(text)["services"]
    hosts = config_of(text, PROJECT).topology.hosts
    fixed = {host.name: next(iter(host.addresses.values())) for host in hosts if host.replicas is None}
    fixed["router"] = "10.1.1.1"  # where everybody's packets go, not the address that the engine gave it
    for host in hosts:
        assert services[host.name]["extra_hosts"] == fixed
