from pathlib import Path

import pytest
import yaml

from lab.engine.base import Pool
from lab.errors import UsageError
from lab.project.topology import Network, fill_in, read

SMALL = """
services:
  base:
    profiles: [images]
    image: small/base
    build: {context: services/base, target: base}
  router:
    image: small/router
    build: services/router
    labels: {lab.role: router, lab.try: ping it}
    networks:
      lan: {ipv4_address: "${NET:-10.0.0}.1"}
  peer:
    image: small/peer
    deploy: {replicas: "${PEERS:-2}"}
    networks: [lan]
networks:
  lan:
    ipam:
      config: [{subnet: "${NET:-10.0.0}.0/24"}]
volumes:
  logs:
"""


@pytest.fixture
def compose_file(tmp_path: Path) -> Path:
    path = tmp_path / "compose.yaml"
    path.write_text(SMALL)
    return path


def test_defaults_fill_what_no_variable_gives(compose_file: Path) -> None:
    topology = read(compose_file, {})
    assert topology.services["router"].addresses == {"lan": "10.0.0.1"}
    assert topology.subnets == {"lan": "10.0.0.0/24"}
    assert topology.volumes == ("logs",)


def test_variables_fill_addresses_and_subnets(compose_file: Path) -> None:
    topology = read(compose_file, {"NET": "10.9.9", "PEERS": "3"})
    assert topology.services["router"].addresses == {"lan": "10.9.9.1"}
    assert topology.subnets == {"lan": "10.9.9.0/24"}
    assert topology.services["peer"].replicas == 3


def test_an_empty_variable_counts_as_unset() -> None:
    assert fill_in("${X:-d}", {"X": ""}) == "d"


@pytest.mark.parametrize(
    ("labels", "role", "attempt"),
    [("{lab.role: 404, lab.try: 1.5}", "404", "1.5"), ("{lab.role: , lab.try: }", "", ""), ("", "", "")],
)
def test_labels_are_text_whatever_yaml_takes_them_for(tmp_path: Path, labels: str, role: str, attempt: str) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(SMALL.replace("{lab.role: router, lab.try: ping it}", labels))
    router = read(path, {}).services["router"]
    assert (router.role, router.attempt) == (role, attempt)


def test_a_shared_layer_is_no_host(compose_file: Path) -> None:
    assert [service.name for service in read(compose_file, {}).hosts] == ["router", "peer"]


def test_a_scalable_service_counts_its_hosts(compose_file: Path) -> None:
    topology = read(compose_file, {})
    assert topology.host_names() == ["router", "peer-1", "peer-2"]
    assert topology.host_names({"peer": 0}) == ["router"]


def test_build_contexts_are_absolute(compose_file: Path) -> None:
    topology = read(compose_file, {})
    assert topology.services["base"].build == compose_file.parent / "services/base"
    assert topology.services["peer"].build is None


@pytest.mark.parametrize("text", ["[", "services: 3\nnetworks: {}", "networks: {lan: {}}\nservices: {}", "a: b"])
def test_what_is_no_compose_file_of_a_lab_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a lab's Compose file"):
        read(path, {})


def test_the_projects_own_file_has_a_role_and_a_try_for_each_host() -> None:
    topology = read(Path(__file__).parents[3] / "compose.yaml", {})
    lacking = [service.name for service in topology.hosts if not (service.role and service.attempt)]
    assert not lacking


def test_the_projects_own_file_gives_each_fixed_address_a_name_in_every_host() -> None:
    """By another setting of the LANs too: from `extra_hosts` come /etc/hosts and the zone `lab`."""
    path, variables = Path(__file__).parents[3] / "compose.yaml", {"LAB_LAN": "10.1.1", "LAB_FAR": "10.2.2"}
    services = yaml.safe_load(path.read_text())["services"]
    hosts = read(path, variables).hosts
    fixed = {host.name: next(iter(host.addresses.values())) for host in hosts if host.replicas is None}
    fixed["router"] = "10.1.1.1"  # where everybody's packets go, not the address that the engine gave it
    for host in hosts:
        named = services[host.name]["extra_hosts"]
        assert {name: fill_in(address, variables) for name, address in named.items()} == fixed


def test_a_network_has_its_pool_and_its_drivers_options(compose_file: Path) -> None:
    text = SMALL.replace("  lan:\n    ipam:", '  lan:\n    driver_opts: {inhibit: "${X:-true}"}\n    ipam:')
    more = '.0/24", gateway: "${NET:-10.0.0}.1", ip_range: 10.0.0.128/25}]'
    compose_file.write_text(text.replace('.0/24"}]', more))
    network = read(compose_file, {}).networks["lan"]
    assert network == Network(Pool("10.0.0.0/24", "10.0.0.1", "10.0.0.128/25"), {"inhibit": "true"})
